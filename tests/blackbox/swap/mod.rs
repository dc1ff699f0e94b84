//! Sets of plugins that change places in a running VM, over the VM's socket.

mod disabled;
mod refused;
mod returns;
mod storm;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Run, Running, Skip, Workdir, module_with_manifest, require_kvm, wasmsr};

/// Numbers its reads: of each vCPU's at 0x1000, of the VM's at 0x1001. The lowest bit of a
/// value is the mark. Saves the number; `more` are further fields of the module.
fn counter(mark: u64, more: &str) -> Vec<u8> {
    let answer = format!("(i64.or (i64.shl (global.get $count) (i64.const 1)) (i64.const {mark}))");
    counting("", &answer, more)
}

/// Counts its reads in `$count`, which it saves, and then does what `answer` says.
fn counting(imports: &str, answer: &str, more: &str) -> Vec<u8> {
    let manifest = r#"
msr = [{ range = "0x1000", access = "rw" }, { range = "0x1001", access = "rw", scope = "vm" }]
[plugin]
name = "counter"
version = "1.0.0"
abi = 1
"#;
    let code = format!(
        r#"(import "wasmsr" "save_state" (func $save (param i32 i32) (result i32)))
        (import "wasmsr" "saved_state" (func $saved (param i32 i32) (result i32)))
        {imports}
        (memory (export "memory") 1) (func (export "wasmsr_abi_v1"))
        (global $count (mut i64) (i64.const 0))
        (reads
            (global.set $count (i64.add (global.get $count) (i64.const 1)))
            {answer})
        (writes)
        {more}"#
    );
    let state = r#"
        (func (export "save") (result i32)
            (i64.store (i32.const 0) (global.get $count))
            (call $save (i32.const 0) (i32.const 8)))
        (func (export "restore") (result i32)
            (drop (call $saved (i32.const 0) (i32.const 8)))
            (global.set $count (i64.load (i32.const 0)))
            (i32.const 0))"#;
    let has_own = more.contains("\"save\"") || more.contains("\"restore\"");
    let code = if has_own { code } else { code + state };
    module_with_manifest(manifest, &code)
}

/// A VM with the guest `hello` and the counter, and other versions beside it.
struct Vm {
    workdir: Workdir,
    running: Running,
}

impl Vm {
    fn start(vcpus: u32, cmdline: &str, arguments: &[&str]) -> Result<Self, Skip> {
        Self::with(vcpus, cmdline, "", arguments)
    }

    fn with(vcpus: u32, cmdline: &str, tables: &str, arguments: &[&str]) -> Result<Self, Skip> {
        require_kvm()?;
        let workdir = Workdir::new();
        workdir.put("a.wasm", counter(0, ""));
        workdir.put("b.wasm", counter(1, ""));
        let profile = format!(
            "[vm]\nvcpus = {vcpus}\nmemory = \"16MiB\"\n[boot]\nguest = \"hello\"\n\
             cmdline = \"{cmdline}\"\n[[plugin]]\npath = \"a.wasm\"\n{tables}"
        );
        workdir.put("vm.toml", profile);
        let arguments = [&["run", "vm.toml", "--cache-dir", "cache"], arguments].concat();
        let running = Running::start(&mut command(&workdir, &arguments));
        let vm = Vm { workdir, running };
        vm.wait_until("it boots", |vm| vm["generation"] == 1);
        Ok(vm)
    }

    fn asks(&self, arguments: &[&str]) -> Run {
        Running::start(&mut command(&self.workdir, arguments)).finish()
    }

    fn socket(&self) -> std::path::PathBuf {
        let proc = self.running.proc();
        let pid = proc.file_name().and_then(|name| name.to_str()).expect("a number");
        self.workdir.path().join("wasmsr").join(format!("{pid}.sock"))
    }

    /// The status and the body of an answer; `None` if the VM closes without one.
    fn request(&self, request: &str) -> Option<(u16, Value)> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or_default()))
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let length = body.len();
        let request = format!("POST /v1/{path} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
        self.request(&request).expect("the VM answers")
    }

    fn get(&self, path: &str) -> Value {
        let answer = self.request(&format!("GET /v1/{path} HTTP/1.1\r\n\r\n"));
        answer.map(|(_, body)| body).unwrap_or_default()
    }

    /// Does an operation, and returns it when it is over.
    fn operation(&self, path: &str, body: &Value) -> Value {
        let id = self.begin(path, body);
        self.ended(id)
    }

    fn begin(&self, path: &str, body: &Value) -> u64 {
        let (status, answer) = self.post(path, body);
        assert_eq!(status, 202, "{answer}");
        answer["operation"].as_u64().expect("a number")
    }

    fn ended(&self, id: u64) -> Value {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let operation = self.get(&format!("operations/{id}"));
            if ["done", "failed"].iter().any(|state| operation["state"] == *state) {
                return operation;
            }
            assert!(Instant::now() < deadline, "operation {id} does not end: {operation}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Swaps in one of the files, without a probation.
    fn swap(&self, file: &str) -> Value {
        let path = self.workdir.path().join(file);
        self.operation("swap", &json!({ "plugins": [{ "name": "counter", "file": path }] }))
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let vm = self.get("vm");
            if is_so(&vm) {
                return vm;
            }
            assert!(Instant::now() < deadline, "{what}: {vm}\n{}", self.running.stderr());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Memory in KiB, descriptors and threads of the VM's process.
    fn footprint(&self) -> (u64, usize, usize) {
        let proc = self.running.proc();
        let status = fs::read_to_string(proc.join("status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("memory");
        let memory = line.trim().trim_end_matches(" kB").trim().parse().expect("a number");
        let count = |what| fs::read_dir(proc.join(what)).expect("it runs").count();
        (memory, count("fd"), count("task"))
    }

    fn stop(self) -> Run {
        let (status, _) = self.post("stop", &json!({}));
        assert_eq!(status, 200);
        self.running.finish()
    }
}

fn command(workdir: &Workdir, arguments: &[&str]) -> Command {
    let mut command = wasmsr(arguments);
    command.current_dir(workdir.path()).env("XDG_RUNTIME_DIR", workdir.path());
    command
}

/// What the guest's first vCPU read at 0x1000, in order. A line that the end of the VM has
/// cut says nothing.
fn values_read(run: &Run) -> Vec<u64> {
    let lines = run.stdout.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let values = lines.filter_map(|line| line.trim().strip_prefix("rdmsr 0x00001000 = 0x"));
    values.filter_map(|hex| u64::from_str_radix(hex, 16).ok()).collect()
}

/// How often something is done: fewer times in tests of every day than by hand, where the
/// variable says how often.
fn times(variable: &str, every_day: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(every_day)
}
