//! What a running VM tells of itself: `stats`, `top`, `run --metrics`, and the
//! server behind them against readers that misbehave.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use prometheus_parse::{Scrape, Value as Sample};
use rustix::process::Signal;
use serde_json::Value;

use crate::fixture::{
    Outcome, Plugin, Run, Running, Skip, Terminal, Vm, Workdir, apply, cannot_run_here,
    require_kvm, test, wasmsr,
};

/// Counts reads, and traps at writes.
const COUNTER: Plugin = Plugin {
    name: "counter",
    manifest: r#"msr = [{ range = "0x1000", access = "rw" }]"#,
    code: r#"
        (global $reads (mut i64) (i64.const 0))
        (func (export "rdmsr") (param i32 i32 i32) (result i64)
            (global.set $reads (i64.add (global.get $reads) (i64.const 1)))
            (global.get $reads))
        (func (export "wrmsr") (param i32 i64 i32 i32) unreachable)"#,
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
    assert_eq!(sockets(), 1, "nobody could remove it");
    let mut next = Running::start(&mut command(&workdir, &["run", "vm.toml"]));
    next.wait_for("\nkey ->");
    assert_eq!(sockets(), 1, "the next run does");
    told(&workdir, &["stats"]).exited(0);
    Ok(())
}

#[apply(test)]
fn a_vm_that_does_not_answer() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    world.running.send(Signal::STOP);
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

/// What anybody may have put where a user looks.
#[apply(test)]
fn a_socket_of_somebody_else() -> Outcome {
    let workdir = Workdir::new();
    let socket = workdir.path().join("x.sock");
    let listener = UnixListener::bind(&socket).expect("a socket can be made");
    let body = r#"{"version": "9", "pid": 7, "profile": "\u001b[2J\u009b\u202e.toml",
        "boot_uptime": 1.0, "msrs": [{"msr": "\r\u0007", "plugin": "\u001b]0;x", "reads": 1, "writes": 0}]}"#;
    let answers = [format!("HTTP/1.1 200 OK\r\n\r\n{body}"), "\x1b[2J\r\n".to_owned()];
    let serving = thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("somebody asks");
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

/// What Prometheus would read. The parser skips what it cannot read, so all is
/// counted.
fn scrape(text: &str) -> Scrape {
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("it is text");
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let parts = |sample: &Sample| match sample {
        Sample::Histogram(buckets) => buckets.len(),
        _ => 1,
    };
    let read: usize = scrape.samples.iter().map(|sample| parts(&sample.value)).sum();
    assert_eq!(read, lines().count(), "lines that cannot be read:\n{text}");
    let labels = |sample: &prometheus_parse::Sample| {
        // Each bucket has its bound beside the labels of the histogram.
        let bound = usize::from(matches!(sample.value, Sample::Histogram(_)));
        (sample.labels.len() + bound) * parts(&sample.value)
    };
    let read: usize = scrape.samples.iter().map(labels).sum();
    let there: usize = lines().map(|line| line.matches("=\"").count()).sum();
    assert_eq!(read, there, "labels that cannot be read:\n{text}");
    for line in lines() {
        let name = line.split(['{', ' ']).next().expect("text");
        let suffixes = ["_bucket", "_sum", "_count"].iter();
        let stem = suffixes.filter_map(|suffix| name.strip_suffix(suffix)).next();
        let is_told = |name: &str| {
            let told = |what| text.lines().filter(|line| line.starts_with(&what)).count() == 1;
            told(format!("# HELP {name} ")) && told(format!("# TYPE {name} "))
        };
        assert!(is_told(name) || stem.is_some_and(is_told), "{name} is not explained:\n{text}");
    }
    scrape
}

/// A counter's or gauge's value.
fn value(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let found = scrape.samples.iter().find(|sample| {
        sample.metric == name
            && labels.iter().all(|(name, value)| sample.labels.get(name) == Some(value))
    })?;
    match found.value {
        // Sums and counts of summaries have a type that the parser does not find.
        Sample::Counter(value) | Sample::Gauge(value) | Sample::Untyped(value) => Some(value),
        _ => None,
    }
}

#[apply(test)]
fn metrics_are_what_prometheus_reads() -> Outcome {
    let world = World::start(COUNTED, &["--metrics", "127.0.0.1:0"])?;
    let text = metrics(TcpStream::connect(world.port()).expect("it listens"));
    let scrape = scrape(&text);
    let counter = [("plugin", "counter")];
    let read = [("msr", "0x1000"), ("plugin", "counter"), ("op", "read")];
    for (name, labels, expected) in [
        ("wasmsr_msr_accesses_total", &read[..], 100.0),
        ("wasmsr_msr_faults_total", &[("msr", "0xdead"), ("plugin", "(policy)")], 1.0),
        ("wasmsr_plugin_failures_total", &counter, 1.0),
        ("wasmsr_boots_total", &[], 1.0),
        ("wasmsr_vcpus", &[], 1.0),
        ("wasmsr_build_info", &[], 1.0),
        ("wasmsr_plugin_info", &[("plugin", "counter"), ("version", "1.0.0")], 1.0),
    ] {
        assert_eq!(value(&scrape, name, labels), Some(expected), "{name}:\n{text}");
    }
    for name in ["wasmsr_plugin_access_fuel_sum", "wasmsr_plugin_access_fuel_count"] {
        assert!(value(&scrape, name, &counter) > Some(0.0), "{name}:\n{text}");
    }
    let histograms: Vec<_> = scrape
        .samples
        .iter()
        .filter_map(|sample| match &sample.value {
            Sample::Histogram(buckets) => Some((sample, buckets)),
            _ => None,
        })
        .collect();
    assert_eq!(histograms.len(), 2, "the plugin's and the policy's:\n{text}");
    for (sample, buckets) in histograms {
        assert_eq!(sample.metric, "wasmsr_msr_access_duration_seconds");
        let grows = buckets.is_sorted_by(|a, b| a.less_than < b.less_than && a.count <= b.count);
        assert!(grows, "{text}");
        let last = buckets.last().expect("there are buckets");
        assert!(last.less_than.is_infinite(), "{text}");
        let plugin = sample.labels.get("plugin").expect("a label");
        let count = format!("_seconds_count{{plugin=\"{plugin}\"}} {}\n", last.count);
        assert!(text.contains(&count), "no `{count}`:\n{text}");
    }
    let (head, _) = get(TcpStream::connect(world.port()).expect("it listens"), "/stats");
    assert!(head.starts_with("HTTP/1.1 404 "), "that is the owner's: {head}");
    let (head, _) = get(UnixStream::connect(world.socket()).expect("it listens"), "/stats");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Ok(())
}

#[apply(test)]
fn a_guest_that_probes_takes_no_plugins_series() -> Outcome {
    let script = "sweep 500 200 -> fault \n times 64 r 1000 -> 64 \n key";
    let world = World::start(script, &["--metrics", "unix:m.sock"])?;
    let socket = UnixStream::connect(world.workdir.path().join("m.sock")).expect("it listens");
    let text = metrics(socket);
    let reads = |msr, plugin| {
        let labels = [("msr", msr), ("plugin", plugin), ("op", "read")];
        value(&scrape(&text), "wasmsr_msr_accesses_total", &labels)
    };
    assert_eq!(reads("0x1000", "counter"), Some(100.0), "{text}");
    // KVM itself may know a few.
    assert!(reads("(others)", "(policy)") > Some(300.0), "{text}");
    let stats = world.asks(&["stats"]).exited(0);
    assert!(stats.stdout.lines().count() < 30, "{stats}");
    assert!(stats.stdout.contains("more MSRs that were left to the policy"), "{stats}");
    Ok(())
}

/// Answers 0 where the counter counts.
const CANDIDATE: Plugin = Plugin {
    name: "candidate",
    manifest: COUNTER.manifest,
    code: r#"
        (func (export "rdmsr") (param i32 i32 i32) (result i64) (i64.const 0))
        (func (export "wrmsr") (param i32 i64 i32 i32))"#,
};

#[apply(test)]
fn shadows_while_they_run() -> Outcome {
    let vm = Vm::new().plugin(&COUNTER).plugin_with(&CANDIDATE, "shadow-of = \"counter\"");
    let world = World::of(vm, COUNTED, &["--metrics", "unix:m.sock"])?;
    let stats = world.asks(&["stats"]).exited(0);
    let row = stats.stdout.lines().find(|line| line.starts_with("candidate 1.0.0 "));
    let row: Vec<&str> =
        row.unwrap_or_else(|| panic!("no row:\n{stats}")).split_whitespace().collect();
    assert_eq!(row.get(2..8), Some(&["counter", "101", "101", "0", "0", "0"][..]), "{stats}");
    assert!(stats.stdout.contains("read of 0x1000 on vCPU 0: 0x1; the shadow: 0x0"), "{stats}");
    let json = json(&world.asks(&["stats", "--json"]).exited(0));
    assert_eq!(json.pointer("/shadows/0/answers"), Some(&Value::from(101)), "{json:#}");
    assert!(json.pointer("/shadows/0/mean_fuel_in_charge").is_some_and(Value::is_u64), "{json:#}");
    let lines = world.asks(&["top", "--batch", "-n", "1"]).exited(0);
    assert!(lines.stdout.contains("candidate 1.0.0 "), "{lines}");

    let text =
        metrics(UnixStream::connect(world.workdir.path().join("m.sock")).expect("it listens"));
    let scrape = scrape(&text);
    let of = |name, kind: &[(&str, &str)]| {
        let labels = [("shadow", "candidate"), ("of", "counter"), ("version", "1.0.0")];
        value(&scrape, name, &[&labels, kind].concat())
    };
    for (name, kind, expected) in [
        ("wasmsr_shadow_accesses_total", &[][..], 101.0),
        ("wasmsr_shadow_differences_total", &[("kind", "answer")], 101.0),
        ("wasmsr_shadow_differences_total", &[("kind", "effect")], 0.0),
        ("wasmsr_shadow_failures_total", &[], 0.0),
        ("wasmsr_shadow_duration_seconds_count", &[], 101.0),
        // At one access the counter fails, and its fuel is unknown.
        ("wasmsr_shadow_in_charge_access_fuel_count", &[], 100.0),
    ] {
        assert_eq!(of(name, kind), Some(expected), "{name}:\n{text}");
    }

    let mut top = Terminal::start(&command(&world.workdir, &["top", "-d", "0.2"]))?;
    top.shows(|screen| screen.contains("0x1000") && screen.contains("101 differences"));
    top.type_in("vv");
    top.shows(|screen| screen.contains("UNCLAIMED") && screen.contains("candidate"));
    top.type_in("v");
    top.shows(|screen| screen.contains("0x1000"));
    Ok(())
}

#[apply(test)]
fn counters_go_on_over_boots() -> Outcome {
    require_kvm()?;
    let workdir =
        Vm::new().plugin(&COUNTER).on_disk("times 64 r 1000 -> 64 \n key \n outb 64 fe ->")?;
    let arguments = ["run", "vm.toml", "--max-boots", "3", "--metrics", "unix:m.sock"];
    let mut running = Running::start(&mut command(&workdir, &arguments));
    for (number, boot) in [(1, 1.0), (2, 2.0), (3, 3.0)] {
        running.wait_for_many("\nkey ->", number);
        let socket = UnixStream::connect(workdir.path().join("m.sock")).expect("it listens");
        let scrape = scrape(&metrics(socket));
        let reads = value(&scrape, "wasmsr_msr_accesses_total", &[("op", "read")]);
        assert_eq!(reads, Some(100.0 * boot));
        assert_eq!(value(&scrape, "wasmsr_boots_total", &[]), Some(boot));
        running.type_in("a");
    }
    running.finish().exited(14);
    Ok(())
}

#[apply(test)]
fn metrics_on_a_unix_socket() -> Outcome {
    let world = World::start(COUNTED, &["--metrics", "unix:m.sock"])?;
    let socket = world.workdir.path().join("m.sock");
    let text = metrics(UnixStream::connect(&socket).expect("it listens"));
    assert!(text.contains("wasmsr_boots_total 1\n"), "{text}");
    world.finish().exited(1);
    assert!(!socket.exists(), "the socket is removed");
    Ok(())
}

#[apply(test)]
fn other_machines_are_refused() -> Outcome {
    for (address, reason) in [
        ("0.0.0.0:9100", "other machines"),
        ("[::]:9100", "other machines"),
        ("192.0.2.1:9100", "other machines"),
        ("localhost:9100", "names are not looked up"),
        ("9100", "127.0.0.1:PORT"),
        ("unix:", "path"),
    ] {
        let run = Workdir::new().wasmsr(&["run", "vm.toml", "--metrics", address]).exited(2);
        assert!(run.stderr.contains(reason), "{address}: {run}");
    }
    Ok(())
}

#[apply(test)]
fn an_address_that_is_taken() -> Outcome {
    let world = World::start(COUNTED, &["--metrics", "127.0.0.1:0"])?;
    let run = world.asks(&["run", "vm.toml", "--metrics", &world.port()]).exited(12);
    run.said(&["cannot offer metrics", &world.port(), "in use"]);
    Ok(())
}

#[apply(test)]
fn readers_that_misbehave() -> Outcome {
    let world = World::start(COUNTED, &["--metrics", "127.0.0.1:0"])?;
    let threads = || fs::read_dir(world.running.proc().join("task")).expect("it runs").count();
    let (port, before) = (world.port(), threads());
    let connect = || TcpStream::connect(&port).expect("it listens");
    let status = |request: &[u8]| {
        let mut stream = connect();
        // It may have had enough before the end.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    };
    for (request, expected) in [
        (&b"\x00\xff\x1b[2J garbage\r\n\r\n"[..], "400"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", "404"),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"),
    ] {
        assert!(status(request).contains(expected), "{expected}: {}", status(request));
    }
    // The rest of a huge request is not read; whether the refusal is seen is
    // up to TCP.
    let huge = [&b"GET /metrics HTTP/1.1\r\nX: "[..], &vec![b'x'; 4 << 20]].concat();
    let refusal = status(&huge);
    assert!(refusal.is_empty() || refusal.contains("431"), "{refusal}");
    // Most of these wait in the kernel's queue, until the first run out of time.
    let silent: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    let stats = world.asks(&["stats"]).exited(0);
    assert!(stats.stdout.contains("0x1000 "), "they do not blind the owner: {stats}");
    let began = Instant::now();
    let text = metrics(connect());
    assert!(text.contains("wasmsr_boots_total 1\n"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(threads(), before, "readers cost no thread");
    drop(silent);
    world.finish().exited(1);
    Ok(())
}

#[apply(test)]
fn a_directory_that_cannot_be_used() -> Outcome {
    require_kvm()?;
    let workdir = Vm::new().plugin(&COUNTER).on_disk("r 1000 -> 1")?;
    workdir.put("wasmsr", "a file");
    let run = told(&workdir, &["run", "vm.toml"]).exited(1);
    run.said(&["wasmsr is no directory", "do not find this VM"]);
    Ok(())
}

/// It is another user's, as after `sudo -E`, or gone: the fallback serves.
#[apply(test)]
fn a_runtime_directory_that_is_not_ours() -> Outcome {
    require_kvm()?;
    let workdir = Vm::new().plugin(&COUNTER).on_disk(COUNTED)?;
    let theirs = workdir.path().join("theirs");
    fs::create_dir(&theirs).expect("a folder can be made");
    if chown(&theirs, Some(65534), None).is_err() {
        return cannot_run_here("only root can give a folder away");
    }
    for directory in [&theirs, &workdir.path().join("missing")] {
        let mut run = command(&workdir, &["run", "vm.toml"]);
        let mut running = Running::start(run.env("XDG_RUNTIME_DIR", directory));
        running.wait_for("\nkey ->");
        let pid = running.proc();
        let pid = pid.file_name().and_then(|name| name.to_str()).expect("a number");
        let mut stats = command(&workdir, &["stats", pid]);
        Running::start(stats.env("XDG_RUNTIME_DIR", directory)).finish().exited(0);
        running.type_in("a");
        running.finish().exited(1);
    }
    assert_eq!(fs::read_dir(&theirs).expect("we are root").count(), 0);
    Ok(())
}

#[apply(test)]
fn a_directory_that_others_can_change() -> Outcome {
    require_kvm()?;
    let workdir = Vm::new().plugin(&COUNTER).on_disk("r 1000 -> 1")?;
    let directory = workdir.path().join("wasmsr");
    fs::create_dir(&directory).expect("a folder can be made");
    let mode = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode));
    mode(0o777).expect("it is ours");
    told(&workdir, &["run", "vm.toml"]).exited(1).said(&["open to others (mode 777)"]);
    mode(0o700).expect("it is ours");
    if chown(&directory, Some(65534), None).is_err() {
        return cannot_run_here("only root can give a folder away");
    }
    told(&workdir, &["run", "vm.toml"]).exited(1).said(&["belongs to user 65534"]);
    assert_eq!(fs::read_dir(&directory).expect("we are root").count(), 0);
    Ok(())
}

/// A guest that reads for as long as a test looks.
const BUSY: &str = "key -> ? \n times 10000000 r 1000 -> ?";

fn busy() -> Result<World, Skip> {
    require_kvm()?;
    let workdir = Vm::new().plugin(&COUNTER).on_disk(BUSY)?;
    let mut running = Running::start(&mut command(&workdir, &["run", "vm.toml"]));
    running.wait_for("key ->");
    running.type_in("a");
    running.wait_for("times");
    Ok(World { workdir, running })
}

#[apply(test)]
fn top_on_a_terminal() -> Outcome {
    let world = busy()?;
    let mut top = Terminal::start(&command(&world.workdir, &["top", "-d", "0.2"]))?;
    top.shows(|screen| screen.contains("0x1000") && screen.contains("accesses/s"));
    // It goes on.
    let total = |screen: &str| {
        let row = screen.lines().find(|line| line.starts_with("0x1000"))?;
        row.split_whitespace().nth(4)?.parse::<u64>().ok()
    };
    let first = total(&top.shows(|screen| total(screen).is_some()));
    top.shows(|screen| total(screen) > first);
    top.type_in("v");
    top.shows(|screen| screen.contains("by plugin") && !screen.contains("0x1000"));
    top.type_in("v/nothing");
    top.shows(|screen| screen.contains("filter: nothing_") && !screen.contains("counter"));
    top.type_in("\x1b");
    top.shows(|screen| screen.contains("0x1000"));
    top.type_in("?");
    top.shows(|screen| screen.contains("the other way round"));
    top.type_in("x");
    top.type_in("p");
    top.shows(|screen| screen.contains("PAUSED"));
    top.type_in("q");
    assert_eq!(top.finish(), Some(0), "exit code");
    Ok(())
}

#[apply(test)]
fn top_over_a_reboot() -> Outcome {
    require_kvm()?;
    let script = "times 64 r 1000 -> 64 \n r 2000 \n key \n outb 64 fe ->";
    let workdir = Vm::new().plugin(&COUNTER).on_disk(script)?;
    let mut running =
        Running::start(&mut command(&workdir, &["run", "vm.toml", "--max-boots", "2"]));
    running.wait_for("\nkey ->");
    let mut top = Terminal::start(&command(&workdir, &["top", "-d", "0.1"]))?;
    top.shows(|screen| screen.contains("boots 1") && screen.contains("0x2000"));
    // Down to the last row.
    top.type_in("\x1b[6~");
    top.shows(|screen| screen.contains("0x1000") != screen.contains("0x2000"));
    running.type_in("a");
    top.shows(|screen| screen.contains("boots 2") && screen.contains("0x"));
    running.type_in("a");
    top.wait_for("the VM has ended");
    running.finish().exited(14);
    Ok(())
}

#[apply(test)]
fn top_without_colours() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    for (variable, is_coloured) in [("CLICOLOR", true), ("NO_COLOR", false)] {
        let mut command = command(&world.workdir, &["top"]);
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm").env(variable, "1");
        let mut top = Terminal::start(&command)?;
        top.shows(|screen| screen.contains("0x1000"));
        assert_eq!(top.is_coloured(), is_coloured, "{variable}");
    }
    Ok(())
}

#[apply(test)]
fn top_ends_after_so_many_looks() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    for looks in ["1", "3"] {
        let top = Terminal::start(&command(&world.workdir, &["top", "-d", "0.1", "-n", looks]))?;
        top.wait_for("0x1000");
        assert_eq!(top.finish(), Some(0), "exit code");
    }
    Ok(())
}

#[apply(test)]
fn top_says_that_the_vm_has_ended() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    let mut top = Terminal::start(&command(&world.workdir, &["top", "-d", "0.2"]))?;
    top.shows(|screen| screen.contains("0x1000"));
    world.finish().exited(1);
    top.wait_for("the VM has ended");
    assert_eq!(top.finish(), Some(0), "exit code");
    Ok(())
}

#[apply(test)]
fn top_leaves_the_terminal_as_it_was() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    type End = fn(&mut Terminal);
    let ends: [(End, i32); 3] = [
        (|top| top.type_in("\x03"), 0),
        (|top| top.send(Signal::TERM), 143),
        (|top| top.send(Signal::HUP), 129),
    ];
    for (end, code) in ends {
        let mut top = Terminal::start(&command(&world.workdir, &["top"]))?;
        top.shows(|screen| screen.contains("0x1000"));
        end(&mut top);
        // The main screen again, and the cursor.
        top.wait_for("\x1b[?1049l");
        assert_eq!(top.finish(), Some(code), "exit code");
    }
    Ok(())
}

/// A signal cannot be heeded where the screen takes nothing; a second one is.
#[apply(test)]
fn top_ends_though_its_terminal_is_stuck() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    let mut top = Terminal::start(&command(&world.workdir, &["top", "-d", "0.1"]))?;
    top.shows(|screen| screen.contains("0x1000"));
    top.stop_output();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !top.has_ended() && Instant::now() < deadline {
        top.send(Signal::TERM);
        // Two that come at once are one.
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(top.finish(), Some(143), "exit code");
    Ok(())
}

#[apply(test)]
fn top_in_lines() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    let run = world.asks(&["top", "--batch", "-n", "3", "-d", "0.1"]).exited(0);
    assert_eq!(run.stdout.matches("0x1000 ").count(), 3, "{run}");
    assert!(!run.stdout.contains('\x1b'), "{run}");
    Ok(())
}

#[apply(test)]
fn top_without_a_terminal() -> Outcome {
    told(&Workdir::new(), &["top"]).refused(&["needs a terminal", "--batch", "wasmsr stats"]);
    Ok(())
}
