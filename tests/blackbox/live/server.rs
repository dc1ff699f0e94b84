//! The server behind `stats` and `--metrics`: where it listens, and readers that
//! misbehave.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::{Duration, Instant};

use super::{COUNTED, COUNTER, World, command, metrics, told};
use crate::fixture::{Outcome, Running, Vm, Workdir, apply, cannot_run_here, require_kvm, test};

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
    run.said(&["wasmsr is not a directory", "do not find this VM"]);
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
