//! What `run --metrics` offers to Prometheus.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use prometheus_parse::{Scrape, Value as Sample};
use serde_json::Value;

use super::{COUNTED, COUNTER, World, command, get, json, metrics};
use crate::fixture::{Outcome, Plugin, Running, Terminal, Vm, Workdir, apply, require_kvm, test};

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
fn what_is_no_socket_stays_where_it_is() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", "boot.guest = \"hello\"");
    workdir.put("file", "a letter");
    std::os::unix::fs::symlink("none", workdir.path().join("link")).expect("a link can be made");
    std::fs::create_dir(workdir.path().join("folder")).expect("a folder can be made");
    for (name, what) in [("file", "a file"), ("link", "a link"), ("folder", "a folder")] {
        let run = workdir.wasmsr(&["run", "vm.toml", "--metrics", &format!("unix:{name}")]);
        let there = format!("unix:{name}: {what} is there; remove it, or name another path");
        run.refused(&["cannot offer metrics", &there]);
    }
    Ok(())
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
    assert!(stats.stdout.contains("more MSRs that no plugin handles"), "{stats}");
    Ok(())
}

/// Answers 0 where the counter counts.
const CANDIDATE: Plugin = Plugin {
    name: "candidate",
    manifest: COUNTER.manifest,
    code: "(reads (i64.const 0)) (writes)",
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
fn one_exporter_for_all_vms() -> Outcome {
    let one = World::of(Vm::new().named("web").plugin(&COUNTER), COUNTED, &[])?;
    let mut others = ["vm.toml", "db.toml"].map(|profile| {
        let text = std::fs::read_to_string(one.workdir.path().join("vm.toml"));
        let text = text.expect("it is there");
        one.workdir.put("db.toml", text.replace("\"web\"", "\"db\""));
        Running::start(&mut command(&one.workdir, &["run", profile]))
    });
    others.iter_mut().for_each(|other| other.wait_for("\nkey ->"));
    let pid = one.pid();
    let twin = format!("web:{pid}");
    let check = |text: &str| {
        let scrape = scrape(text);
        for vm in ["db", &twin] {
            let of = |name, labels: &[(&str, &str)]| {
                value(&scrape, name, &[&[("vm", vm)], labels].concat())
            };
            let read = [("msr", "0x1000"), ("op", "read"), ("plugin", "counter")];
            assert_eq!(of("wasmsr_msr_accesses_total", &read), Some(100.0), "{vm}:\n{text}");
            assert_eq!(of("wasmsr_up", &[]), Some(1.0), "{vm}:\n{text}");
            assert_eq!(of("wasmsr_generation", &[]), Some(1.0), "{vm}:\n{text}");
        }
        let all = scrape.samples.iter().all(|sample| sample.labels.get("vm").is_some());
        assert!(all, "each series says whose it is:\n{text}");
    };
    check(&one.asks(&["metrics", "--all"]).exited(0).stdout);

    let serve = ["metrics", "--all", "--listen", "unix:all.sock"];
    let exporter = Running::start(&mut command(&one.workdir, &serve));
    let socket = one.workdir.path().join("all.sock");
    while !exporter.stderr().contains("are offered at") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    check(&metrics(UnixStream::connect(&socket).expect("it listens")));
    one.running.stop();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let text = metrics(UnixStream::connect(&socket).expect("it listens"));
    let silent = value(&scrape(&text), "wasmsr_up", &[("vm", &twin)]);
    assert_eq!(silent, Some(0.0), "a VM that is stopped has a name still:\n{text}");
    one.running.send(rustix::process::Signal::CONT);
    exporter.send(rustix::process::Signal::INT);
    exporter.finish().exited(130);
    assert!(!socket.exists(), "the socket is removed");
    one.asks(&["metrics"]).exited(2);
    one.asks(&["metrics", "--all", "--listen", "0.0.0.0:1"]).exited(2);
    Ok(())
}
