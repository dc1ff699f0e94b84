//! The control socket as other programs use it, and clients that misbehave.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{COUNTER, World, command, json as json_of, told};
use crate::fixture::{Outcome, Running, Vm, apply, cannot_run_here, test};

/// The status and the body of the answer to these bytes.
fn send(socket: &Path, request: &[u8]) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    // It may have had enough before the end.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn post(socket: &Path, path: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let head = format!("POST /v1/{path} HTTP/1.1\r\nHost: vm\r\nContent-Length: {length}\r\n\r\n");
    send(socket, format!("{head}{body}").as_bytes())
}

fn info(socket: &Path) -> Value {
    let (status, info) = send(socket, b"GET /v1/vm HTTP/1.1\r\n\r\n");
    assert_eq!(status, 200, "{info:#}");
    info
}

/// Waits until the VM says this of itself.
fn becomes(socket: &Path, key: &str, expected: &Value) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while info(socket).get(key) != Some(expected) {
        assert!(Instant::now() < deadline, "{key} is never {expected}: {:#}", info(socket));
        thread::sleep(Duration::from_millis(10));
    }
}

/// Reads; then the guest waits for a key.
const STEADY: &str = "times 64 r 1000 -> 64 \n key";

#[apply(test)]
fn requests_are_json_both_ways() -> Outcome {
    let world = World::of(Vm::new().named("web-1").plugin(&COUNTER), STEADY, &[])?;
    let socket = world.socket();
    let at_first = info(&socket);
    for (key, expected) in [
        ("name", json!("web-1")),
        ("generation", json!(1)),
        ("paused", json!(false)),
        ("swaps", json!(0)),
        ("boots", json!(1)),
        ("last", Value::Null),
    ] {
        assert_eq!(at_first.get(key), Some(&expected), "{key} of {at_first:#}");
    }
    assert_eq!(at_first.pointer("/plugins/0/name"), Some(&json!("counter")), "{at_first:#}");
    let set = at_first.get("set").and_then(Value::as_str).expect("a digest");
    assert!(set.len() == 64 && set.bytes().all(|digit| digit.is_ascii_hexdigit()), "{set}");
    let stats = json_of(&world.asks(&["stats", "web-1", "--json"]).exited(0));
    assert_eq!(stats.get("set"), at_first.get("set"), "{stats:#}");

    assert_eq!(post(&socket, "pause", "{}"), (200, json!({})));
    becomes(&socket, "health", &json!("paused"));
    assert_eq!(post(&socket, "resume", ""), (200, json!({})));
    becomes(&socket, "paused", &json!(false));

    assert_eq!(at_first.get("health"), Some(&json!("good")), "{at_first:#}");
    let (status, started) = post(&socket, "rollback", "");
    assert_eq!(status, 202, "{started:#}");
    let id = started.get("operation").and_then(Value::as_u64).expect("a number");
    let get = format!("GET /v1/operations/{id} HTTP/1.1\r\n\r\n");
    let deadline = Instant::now() + Duration::from_secs(60);
    let failed = loop {
        let (status, operation) = send(&socket, get.as_bytes());
        assert_eq!(status, 200, "{operation:#}");
        match operation.get("state").and_then(Value::as_str) {
            Some("queued" | "running") => thread::sleep(Duration::from_millis(10)),
            _ => break operation,
        }
        assert!(Instant::now() < deadline, "{operation:#}");
    };
    assert_eq!(failed.get("state"), Some(&json!("failed")), "there is no former set: {failed:#}");
    assert!(failed.get("error").is_some_and(Value::is_string), "{failed:#}");
    world.finish().exited(1);
    Ok(())
}

#[apply(test)]
fn requests_that_are_none() -> Outcome {
    let world = World::start(STEADY, &["--metrics", "127.0.0.1:0"])?;
    let socket = world.socket();
    for (request, status) in [
        (&b"POST /v1/stop HTTP/1.1\r\n\r\n"[..], 411),
        (b"POST /v1/stop HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /v1/stop HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", 413),
        (b"POST /v1/stop HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"POST /v1/stop HTTP/1.1\r\nContent-Length: x\r\n\r\n{}", 400),
        (b"DELETE /v1/vm HTTP/1.1\r\n\r\n", 405),
        (b"GET /v1/stop HTTP/1.1\r\n\r\n", 405),
        (b"GET /v1/nothing HTTP/1.1\r\n\r\n", 404),
        (b"GET /v1/operations/1 HTTP/1.1\r\n\r\n", 404),
    ] {
        let text = String::from_utf8_lossy(request);
        assert_eq!(send(&socket, request).0, status, "{text}");
    }
    let deep = "[".repeat(60_000);
    for (path, body, status) in [
        ("stop", "{", 422),
        ("stop", r#"{"now": true}"#, 422),
        ("swap", r#"{"profle": "/x"}"#, 422),
        ("swap", &*deep, 422),
        ("disable", r#"{"plugin": "counter", "answer": "stop"}"#, 422),
        ("disable", r#"{"plugin": "nobody", "answer": "fault"}"#, 409),
        ("enable", r#"{"plugin": "nobody"}"#, 409),
    ] {
        let (came, told) = post(&socket, path, body);
        assert_eq!(came, status, "{path}: {told:#}");
        assert!(told.get("error").is_some_and(Value::is_string), "{path}: {told:#}");
    }
    // What follows a request is not read as another one.
    let two = b"POST /v1/resume HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}\
        POST /v1/stop HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(send(&socket, two), (200, json!({})));
    // Where Prometheus reads, nothing is controlled.
    for (request, status) in [
        ("POST /v1/stop HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405"),
        ("GET /v1/vm HTTP/1.1\r\n\r\n", "404"),
    ] {
        let mut stream = TcpStream::connect(world.port()).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert_eq!(info(&socket).get("health"), Some(&json!("good")), "it runs on");
    world.finish().exited(1);
    Ok(())
}

#[apply(test)]
fn half_requests_hold_up_nothing() -> Outcome {
    let world = World::start(STEADY, &[])?;
    let socket = world.socket();
    let threads = || fs::read_dir(world.running.proc().join("task")).expect("it runs").count();
    let before = threads();
    let half = |_| {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        let request = b"POST /v1/stop HTTP/1.1\r\nContent-Length: 60000\r\n\r\n{\"";
        stream.write_all(request).expect("it takes a request");
        stream
    };
    let halves: Vec<UnixStream> = (0..20).map(half).collect();
    let began = Instant::now();
    world.asks(&["stats"]).exited(0);
    assert!(began.elapsed() < Duration::from_secs(5), "stats do not wait for them");
    assert_eq!(threads(), before, "clients cost no thread");
    // A body that comes drop by drop has no more time than others.
    let mut slow = half(0);
    let began = Instant::now();
    while slow.write_all(b" ").is_ok() {
        assert!(began.elapsed() < Duration::from_secs(60), "it is never closed");
        thread::sleep(Duration::from_millis(50));
    }
    // More than there is room for: the rest waits, until the first run out of time.
    let crowd: Vec<UnixStream> = (0..100).map(half).collect();
    drop(halves);
    assert_eq!(post(&socket, "resume", ""), (200, json!({})));
    drop(crowd);
    world.finish().exited(1);
    Ok(())
}

/// What the folder's mode keeps out already, if its owner has not changed that.
#[apply(test)]
fn another_user_is_let_in_nowhere() -> Outcome {
    let world = World::start(STEADY, &[])?;
    let socket = world.socket();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let is = fs::metadata(&socket).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(is, 0o600, "the socket is the user's alone");
    mode(world.workdir.path(), 0o755);
    mode(&world.workdir.path().join("wasmsr"), 0o755);
    mode(&socket, 0o666);
    let mut stats = command(&world.workdir, &["stats", socket.to_str().expect("text")]);
    // Root alone can be another user; the command and its folders must be theirs to read.
    let Ok(output) = stats.uid(65534).output() else {
        return cannot_run_here("the command cannot run as another user here");
    };
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(12), "{told}");
    assert!(told.contains("ended") || told.contains("reset"), "it was closed: {told}");
    world.asks(&["stats", socket.to_str().expect("text")]).exited(0);
    Ok(())
}

#[apply(test)]
fn a_vm_by_its_name() -> Outcome {
    let one = World::of(Vm::new().named("web-1").plugin(&COUNTER), STEADY, &[])?;
    one.workdir.put(
        "other.toml",
        fs::read_to_string(one.workdir.path().join("vm.toml"))
            .expect("it is there")
            .replace("web-1", "vm"),
    );
    let mut other = Running::start(&mut command(&one.workdir, &["run", "other.toml"]));
    other.wait_for("\nkey ->");
    let name = |wanted: &str| {
        let stats = json_of(&one.asks(&["stats", wanted, "--json"]).exited(0));
        stats.get("name").and_then(Value::as_str).expect("text").to_owned()
    };
    assert_eq!(name("web-1"), "web-1");
    // The name of one and the profile of the other.
    assert_eq!(name("vm"), "vm");
    assert_eq!(name("vm.toml"), "web-1");
    let list = one.asks(&["ps"]).exited(0);
    for part in ["NAME", "web-1", "HEALTH", "good"] {
        assert!(list.stdout.contains(part), "{part}: {list}");
    }
    let list = json_of(&one.asks(&["ps", "--json"]).exited(0));
    let names = list.as_array().expect("a list").iter().map(|vm| vm["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), [json!("vm"), json!("web-1")]);

    let mut twin = Running::start(&mut command(&one.workdir, &["run", "vm.toml"]));
    twin.wait_for("\nkey ->");
    one.asks(&["pause", "web-1"]).refused(&["several VMs", "name one by its process", &one.pid()]);
    told(&one.workdir, &["pause", &one.pid()]).exited(0);
    Ok(())
}
