//! What a running VM tells of itself: `stats` here, `top`, `run --metrics` and the
//! server behind them beside it.

mod control;
mod horizon;
mod metrics;
mod server;
mod top;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::fixture::{
    Outcome, Plugin, Run, Running, Skip, Vm, Workdir, apply, require_kvm, test, wasmsr,
};

/// Counts reads, and traps at writes.
const COUNTER: Plugin = Plugin {
    name: "counter",
    manifest: r#"msr = [{ range = "0x1000", access = "rw" }]"#,
    code: "
        (global $reads (mut i64) (i64.const 0))
        (reads
            (global.set $reads (i64.add (global.get $reads) (i64.const 1)))
            (global.get $reads))
        (writes unreachable)",
};

/// 100 reads and a failing write; then the guest waits for a key.
const COUNTED: &str = "times 64 r 1000 -> 64 \n w 1000 1 \n r dead -> fault \n key";

/// A VM that runs, in a world of sockets of its own.
struct World {
    workdir: Workdir,
    running: Running,
}

/// `wasmsr ARGUMENTS` in the world whose sockets are in this folder.
fn command(workdir: &Workdir, arguments: &[&str]) -> std::process::Command {
    let mut command = wasmsr(arguments);
    command.current_dir(workdir.path()).env("XDG_RUNTIME_DIR", workdir.path());
    command
}

fn told(workdir: &Workdir, arguments: &[&str]) -> Run {
    Running::start(&mut command(workdir, arguments)).finish()
}

impl World {
    fn start(script: &str, arguments: &[&str]) -> Result<Self, Skip> {
        Self::of(Vm::new().plugin(&COUNTER), script, arguments)
    }

    /// A VM that waits for a key.
    fn of(vm: Vm, script: &str, arguments: &[&str]) -> Result<Self, Skip> {
        require_kvm()?;
        let workdir = vm.on_disk(script)?;
        let arguments = [&["run", "vm.toml"], arguments].concat();
        let mut running = Running::start(&mut command(&workdir, &arguments));
        running.wait_for("\nkey ->");
        Ok(World { workdir, running })
    }

    fn asks(&self, arguments: &[&str]) -> Run {
        told(&self.workdir, arguments)
    }

    fn pid(&self) -> String {
        let proc = self.running.proc();
        proc.file_name().and_then(|name| name.to_str()).expect("a number").to_owned()
    }

    fn socket(&self) -> PathBuf {
        self.workdir.path().join("wasmsr").join(format!("{}.sock", self.pid()))
    }

    /// Where `--metrics` with a port of 0 listens.
    fn port(&self) -> String {
        let text = self.running.stderr();
        let (_, rest) = text.split_once("http://").expect("the address is told");
        rest.split('/').next().expect("text").to_owned()
    }

    /// Lets the guest go on to its end.
    fn finish(mut self) -> Run {
        self.running.type_in("a");
        self.running.finish()
    }
}

/// The head and the body of an answer.
fn get(mut stream: impl Read + Write, path: &str) -> (String, String) {
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n").expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

/// Metrics, served as Prometheus wants them.
fn metrics(stream: impl Read + Write) -> String {
    let (head, text) = get(stream, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4\r\n"), "{head}");
    text
}

fn json(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}:\n{run}"))
}

#[apply(test)]
fn stats_of_the_only_vm() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    let run = world.asks(&["stats"]).exited(0);
    let row = run.stdout.lines().find(|line| line.starts_with("0x1000 "));
    let row: Vec<&str> =
        row.unwrap_or_else(|| panic!("no row:\n{run}")).split_whitespace().collect();
    assert_eq!(row.get(2..7), Some(&["counter", "100", "1", "1", "1"][..]), "{run}");
    let stats = json(&world.asks(&["stats", "--json"]).exited(0));
    for (pointer, expected) in [
        ("/vcpus", Value::from(1)),
        ("/boots", Value::from(1)),
        ("/plugins/0", Value::from("counter")),
        ("/msrs/0/msr", Value::from("0x1000")),
        ("/msrs/0/reads", Value::from(100)),
        ("/msrs/0/failures", Value::from(1)),
        ("/msrs/0/timed", Value::from(64)),
        ("/msrs/1/msr", Value::from("0xdead")),
        ("/msrs/1/plugin", Value::Null),
    ] {
        assert_eq!(stats.pointer(pointer), Some(&expected), "{pointer} of {stats:#}");
    }
    let number = |key: &str| stats.pointer(key).and_then(Value::as_u64);
    assert!(number("/msrs/0/mean_fuel") > Some(0), "{stats:#}");
    assert!(number("/msrs/0/p99_ns") >= number("/msrs/0/p50_ns"), "{stats:#}");
    let socket = world.socket();
    assert!(socket.exists());
    world.finish().exited(1);
    assert!(!socket.exists(), "the socket is removed");
    Ok(())
}

#[apply(test)]
fn a_vm_by_process_profile_and_socket() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    let pid = world.pid();
    let socket = world.socket();
    for name in [&pid, "vm", "vm.toml", socket.to_str().expect("text")] {
        let stats = json(&world.asks(&["stats", name, "--json"]).exited(0));
        assert_eq!(stats.pointer("/pid").map(Value::to_string), Some(pid.clone()), "{name}");
    }
    let list = world.asks(&["stats", "--list"]).exited(0);
    assert!(list.stdout.contains(&pid) && list.stdout.contains("vm.toml"), "{list}");
    let list = json(&world.asks(&["stats", "--list", "--json"]).exited(0));
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list:#}");
    Ok(())
}

#[apply(test)]
fn stats_where_none_or_several_run() -> Outcome {
    told(&Workdir::new(), &["stats"]).refused(&["no VM of this user runs"]);
    let list = told(&Workdir::new(), &["stats", "--list", "--json"]).exited(0);
    assert_eq!(json(&list), Value::Array(vec![]));
    let one = World::start(COUNTED, &[])?;
    let mut other = Running::start(&mut command(&one.workdir, &["run", "vm.toml"]));
    other.wait_for("\nkey ->");
    one.asks(&["stats"]).refused(&["several VMs run", &one.pid()]);
    one.asks(&["stats", "vm"]).refused(&["several", "name one by its process"]);
    one.asks(&["stats", "nobody"]).refused(&["no VM that answers is `nobody`", &one.pid()]);
    one.asks(&["stats", &one.pid()]).exited(0);
    Ok(())
}

#[apply(test)]
fn a_killed_vm_leaves_nothing_that_is_taken_for_one() -> Outcome {
    let World { workdir, running } = World::start(COUNTED, &[])?;
    running.send(Signal::KILL);
    running.finish();
    told(&workdir, &["stats"]).refused(&["no VM of this user runs"]);
    let sockets = || fs::read_dir(workdir.path().join("wasmsr")).expect("it is there").count();
    assert_eq!(sockets(), 1, "the killed VM could not remove it");
    let mut next = Running::start(&mut command(&workdir, &["run", "vm.toml"]));
    next.wait_for("\nkey ->");
    assert_eq!(sockets(), 1, "the next run does");
    told(&workdir, &["stats"]).exited(0);
    Ok(())
}

#[apply(test)]
fn a_vm_that_does_not_answer() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    world.running.stop();
    let pid = world.pid();
    let ask = |arguments: &[&str]| Running::start(&mut command(&world.workdir, arguments));
    let [by_process, only, by_name, list] =
        [&["stats", &pid][..], &["stats"], &["stats", "vm"], &["stats", "--list"]].map(ask);
    let told = format!("process {pid} does not answer");
    for run in [by_process, only] {
        run.finish().exited(12).said(&[&told, "takes too long", "stopped"]);
    }
    by_name.finish().refused(&["no VM that answers is `vm`", &pid, "no answer"]);
    list.finish().exited(0).said(&[&told]);
    world.running.send(Signal::CONT);
    world.asks(&["stats", &pid]).exited(0);
    world.finish().exited(1);
    Ok(())
}

/// What another user may have put where this one looks.
#[apply(test)]
fn a_socket_of_another_user() -> Outcome {
    let workdir = Workdir::new();
    let socket = workdir.path().join("x.sock");
    let listener = UnixListener::bind(&socket).expect("a socket can be made");
    let body = r#"{"version": "9", "pid": 7, "profile": "\u001b[2J\u009b\u202e.toml",
        "boot_uptime": 1.0, "msrs": [{"msr": "\r\u0007", "plugin": "\u001b]0;x", "reads": 1, "writes": 0}]}"#;
    let answers = [format!("HTTP/1.1 200 OK\r\n\r\n{body}"), "\x1b[2J\r\n".to_owned()];
    let serving = thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("the command asks");
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let asks = || told(&workdir, &["stats", socket.to_str().expect("text")]);
    let run = asks().exited(0);
    assert!(run.stdout.contains(r"\u{1b}[2J\u{9b}\u{202e}.toml"), "{run}");
    let active = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!run.stdout.contains(active), "{:?}", run.stdout);
    let run = asks().exited(12).said(&["gives no statistics of a VM"]);
    assert!(!run.stderr.contains(active), "{:?}", run.stderr);
    serving.join().expect("nothing goes wrong there");
    Ok(())
}
