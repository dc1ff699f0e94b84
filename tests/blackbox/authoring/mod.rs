//! From an idea to a tested plugin: `wasmsr plugin new`, `build`, `test` and
//! `bench`, and the result in a guest.

mod new;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use tempfile::TempDir;

use crate::built;
use crate::fixture::{
    Outcome, Run, Running, Workdir, apply, cannot_run_here, guest_exit, require_kvm, test, wasmsr,
};

/// The name of the crate that the tests share.
const NAME: &str = "first-try";

/// What cargo builds in is shared by the tests; they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A crate as `plugin new` wrote it for one test. All share what cargo keeps of
/// their dependencies.
struct Crate {
    folder: TempDir,
}

/// A crate of this test alone.
fn new_crate(name: &str, arguments: &[&str]) -> Result<Crate, crate::fixture::Skip> {
    require_toolchain()?;
    let krate = Crate { folder: tempfile::tempdir().expect("a temporary folder can be made") };
    let sdk = built::workspace().join("plugin-sdk");
    let sdk = sdk.to_str().expect("the checkout has a plain path");
    let mut all = vec!["plugin", "new", name, "--sdk", sdk];
    all.extend(arguments);
    let run = Running::start(wasmsr(&all).current_dir(krate.folder.path())).finish().exited(0);
    assert!(run.stdout.contains("wasmsr plugin build"), "no next step:\n{run}");
    // What was built for one crate serves the next.
    let target = krate.folder.path().join(name).join("target");
    fs::create_dir_all(target.join("plugins")).expect("a folder can be made");
    std::os::unix::fs::symlink(shared_target(), target.join("wasm")).expect("a link can be made");
    Ok(krate)
}

/// Where the crates of all tests are built for Wasm.
fn shared_target() -> &'static Path {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    TARGET.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("authoring");
        fs::create_dir_all(&target).expect("cargo's folder for tests can be written");
        target
    })
}

/// The crate that most tests start from.
fn first_try() -> Result<Crate, crate::fixture::Skip> {
    new_crate(NAME, &["--msr", "0x123,0x56440000-0x564400ff"])
}

/// Skips a test where no plugin can be built.
fn require_toolchain() -> Result<(), crate::fixture::Skip> {
    let sources = built::workspace().join("plugin-sdk");
    if !sources.join("Cargo.toml").is_file() {
        return cannot_run_here("the sources of wasmsr-sdk are not here");
    }
    let cargo = Command::new("cargo").arg("--version").stdout(Stdio::null()).status();
    match cargo.is_ok_and(|status| status.success()) {
        true => Ok(()),
        false => cannot_run_here("there is no cargo"),
    }
}

impl Crate {
    fn path(&self, file: &str) -> PathBuf {
        let crates = fs::read_dir(self.folder.path()).expect("the folder is there");
        let krate = crates.flatten().map(|entry| entry.path()).next();
        krate.expect("the crate is there").join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Replaces a text in one of its files.
    fn change(&self, file: &str, old: &str, new: &str) -> &Self {
        let text = self.read(file);
        assert!(text.contains(old), "{file} has no `{old}`:\n{text}");
        fs::write(self.path(file), text.replacen(old, new, 1)).expect("a file can be written");
        self
    }

    /// Makes cargo build it anew. In the shared folder cargo cannot tell crates
    /// of one name apart, and would take another's build for this one's if that
    /// is younger than these sources.
    fn outdate(&self) {
        let source = fs::File::options().append(true).open(self.path("src/lib.rs"));
        source.and_then(|source| source.set_modified(SystemTime::now())).expect("it is a file");
    }

    /// Runs `wasmsr ARGUMENTS` in its folder.
    fn wasmsr(&self, arguments: &[&str]) -> Run {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        self.outdate();
        Running::start(wasmsr(arguments).current_dir(self.path(""))).finish()
    }

    /// Its unit tests must pass, so many.
    fn passes_its_unit_tests(&self, count: usize) {
        let mut cargo = Command::new("cargo");
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_") {
                cargo.env_remove(name);
            }
        }
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        self.outdate();
        cargo.args(["test", "--quiet"]).current_dir(self.path(""));
        let run = Running::start(cargo.env("CARGO_TARGET_DIR", shared_target())).finish().exited(0);
        assert!(run.stdout.contains(&format!("{count} passed")), "{run}");
        assert!(!run.stderr.contains("warning"), "{run}");
    }
}

#[apply(test)]
fn the_crate_passes_its_unit_tests() -> Outcome {
    first_try()?.passes_its_unit_tests(2);
    Ok(())
}

#[apply(test)]
fn the_build_says_what_the_plugin_asks_for() -> Outcome {
    let krate = first_try()?;
    krate.change("plugin.toml", "[[msr]]", "[needs]\noptional = [\"timer\"]\n\n[[msr]]").change(
        "plugin.toml",
        "[needs]",
        "[[cpuid]]\nleaf = 7\nedx.set = [29]\n\n[needs]",
    );
    let run = krate.wasmsr(&["plugin", "build"]).exited(0);
    let file = "target/plugins/first_try.wasm";
    for part in [
        "first-try 0.1.0",
        file,
        "SHA-256",
        "0x123",
        "0x56440000-0x564400ff",
        "rw",
        "vcpu",
        "rdmsr",
    ] {
        assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
    }
    for part in ["can use     timer", "CPUID       0x7.0 edx sets 29"] {
        assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
    }
    let small = fs::metadata(krate.path(file)).expect("it is there").len() < 200 << 10;
    assert!(small, "it was not built with the profile for plugins:\n{run}");
    Ok(())
}

#[apply(test)]
fn the_build_for_programs() -> Outcome {
    let krate = first_try()?;
    let run = krate.wasmsr(&["plugin", "build", "--json"]).exited(0);
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    let path = report.get("path").and_then(Value::as_str).expect("a path");
    let wasm = fs::read(krate.path(path)).expect("the file is there");
    assert_eq!(report.get("size"), Some(&wasm.len().into()), "{report:#}");
    assert_eq!(report.pointer("/msrs/1/range"), Some(&"0x56440000-0x564400ff".into()));
    Ok(())
}

#[apply(test)]
fn the_traces_of_a_new_crate_pass() -> Outcome {
    let run = first_try()?.wasmsr(&["plugin", "test"]).exited(0);
    assert!(run.stdout.contains("traces/first-try.trace ... ok"), "{run}");
    assert!(run.stdout.contains("1 passed, 0 failed"), "{run}");
    Ok(())
}

#[apply(test)]
fn another_answer_is_a_difference() -> Outcome {
    let krate = first_try()?;
    krate.change("traces/first-try.trace", "w 0x123 0x2a -> ok", "w 0x123 0x2a -> fault");
    let run = krate.wasmsr(&["plugin", "test"]).exited(1);
    assert!(run.stdout.contains("- w 0x123 0x2a -> fault"), "{run}");
    assert!(run.stdout.contains("+ w 0x123 0x2a -> ok"), "{run}");
    let line = krate.read("traces/first-try.trace");
    let line = line.lines().position(|line| line.starts_with("w 0x123")).expect("it is there") + 1;
    assert!(run.stdout.contains(&format!(" {line} - ")), "not line {line}:\n{run}");
    let run = krate.wasmsr(&["plugin", "test", "--json"]).exited(1);
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    assert_eq!(report.get("failed"), Some(&1.into()), "{report:#}");
    assert_eq!(report.pointer("/tests/0/differences/0/line"), Some(&line.into()), "{report:#}");
    Ok(())
}

#[apply(test)]
fn blessing_writes_the_answers_that_came() -> Outcome {
    let krate = first_try()?;
    let before = krate.read("traces/first-try.trace");
    krate.change("traces/first-try.trace", "r 0x123 -> 0x1", "r 0x123 -> 0xbad");
    let run = krate.wasmsr(&["plugin", "test", "--bless"]).exited(0);
    assert!(run.stdout.contains("0 passed, 1 blessed, 0 failed"), "{run}");
    assert_eq!(krate.read("traces/first-try.trace"), before);
    krate.wasmsr(&["plugin", "test"]).exited(0);
    Ok(())
}

#[apply(test)]
fn a_trace_that_cannot_run_fails_alone() -> Outcome {
    let krate = first_try()?;
    let steps = "[[plugin]]\npath = \"first_try.wasm\"\n---\nread 0x123 -> 0x1\n";
    fs::write(krate.path("traces/broken.trace"), steps).expect("a file can be written");
    let run = krate.wasmsr(&["plugin", "test"]).exited(1);
    assert!(run.stdout.contains("line 4, `read 0x123 -> 0x1`"), "{run}");
    assert!(run.stdout.contains("1 passed, 1 failed"), "{run}");
    krate.wasmsr(&["plugin", "test", "--filter", "first"]).exited(0);
    Ok(())
}

#[apply(test)]
fn the_bench_of_a_crate() -> Outcome {
    let krate = first_try()?;
    let run = krate.wasmsr(&["plugin", "bench"]).exited(0);
    for part in ["0x123", "0x564400ff", "read", "write", "value", "vm.toml", "compile", "start"] {
        assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
    }
    let json = || -> Value {
        let run = krate.wasmsr(&["plugin", "bench", "--json"]).exited(0);
        serde_json::from_str(&run.stdout).expect("it is JSON")
    };
    let (first, second) = (json(), json());
    let number = |report: &Value, of: &str, key: &str| {
        let accesses = report.get("accesses").and_then(Value::as_array).expect("accesses");
        let access = accesses.iter().find(|access| {
            access.get("msr") == Some(&"0x123".into()) && access.get("op") == Some(&of.into())
        });
        access.and_then(|access| access.get(key)?.as_f64()).expect("a number")
    };
    for op in ["read", "write"] {
        let fuel = number(&first, op, "fuel");
        assert!(fuel > 0.0, "{first:#}");
        assert!((fuel - number(&second, op, "fuel")).abs() < 0.5, "fuel is exact:\n{second:#}");
        assert!(number(&first, op, "ns") > 0.0 && number(&first, op, "ratio") > 0.0, "{first:#}");
    }
    let memory = first.get("memory").and_then(Value::as_u64).expect("a size");
    assert!((64 << 10..=1 << 20).contains(&memory) && memory.is_multiple_of(64 << 10), "{first:#}");
    Ok(())
}

#[apply(test)]
fn a_guest_runs_the_new_plugin() -> Outcome {
    require_kvm()?;
    let krate = first_try()?;
    krate.wasmsr(&["plugin", "build"]).exited(0);
    let run = krate.wasmsr(&["run", "vm.toml"]).exited(guest_exit(0));
    let lines: Vec<&str> = run.stdout.lines().map(str::trim).collect();
    let expected = [
        "rdmsr 0x00000123 = 0x0000000000000001",
        "wrmsr 0x00000123 = 0x000000000000002a",
        "rdmsr 0x00000123 = 0x000000000000002a",
        "rdmsr 0x56440000 = 0x0000000000000002",
    ];
    assert!(lines.starts_with(&expected), "{run}");
    Ok(())
}

#[apply(test)]
fn a_mistake_in_the_manifest_costs_no_build() -> Outcome {
    for (old, new, place, why) in [
        ("abi = 1", "abi = 2", "line 6, column 7", "ABI 2"),
        ("access = \"rw\"", "acess = \"rw\"", "line 11, column 1", "did you mean `access`?"),
        ("name = \"first-try\"", "name = \"First\"", "line 4, column 8", "plugin name `First`"),
        ("0x56440000-0x564400ff", "0x120-0x130", "line 15, column 9", "overlap"),
        ("0x56440000-0x564400ff", "0x800-0x8ff", "line 15, column 9", "x2APIC"),
    ] {
        let krate = first_try()?;
        krate.change("plugin.toml", old, new);
        // No toolchain is even looked for.
        let mut command = wasmsr(&["plugin", "build"]);
        command.current_dir(krate.path("")).env("PATH", "/nowhere").env_remove("CARGO");
        Running::start(&mut command).finish().refused(&["manifest plugin.toml", place, why]);
    }
    Ok(())
}

#[apply(test)]
fn a_module_that_does_not_fit_its_manifest() -> Outcome {
    let krate = first_try()?;
    let built = krate.path("target/plugins/first_try.wasm");
    // A host call behind a capability that the manifest does not ask for.
    krate.change(
        "src/lib.rs",
        "Ok(*self.value",
        "let _ = wasmsr_sdk::timer::call_at(1);\nOk(*self.value",
    );
    let run = krate.wasmsr(&["plugin", "build"]);
    let place = "its manifest, line 3, column 1";
    run.refused(&[place, "wasmsr.timer", "capability `timer`", "[needs] capabilities"]);
    assert!(!built.exists(), "a module that does not load is where profiles look");
    Ok(())
}

#[apply(test)]
fn code_that_does_not_compile() -> Outcome {
    let krate = first_try()?;
    krate.change("src/lib.rs", "export!(Registers);", "export!(Nothing);");
    krate.wasmsr(&["plugin", "build"]).exited(2).said(&["Nothing", "`cargo build"]);
    Ok(())
}

/// As CI may have them. cargo would forget the flags of the crate for them.
#[apply(test)]
fn flags_in_the_environment_do_not_reach_plugins() -> Outcome {
    let krate = first_try()?;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    krate.outdate();
    let mut command = wasmsr(&["plugin", "bench", "--json"]);
    command.env("RUSTFLAGS", "-Cdebuginfo=0").current_dir(krate.path(""));
    let run = Running::start(&mut command).finish().exited(0);
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    let memory = report.get("memory").and_then(Value::as_u64).expect("a size");
    assert!(memory < 1 << 20, "its stack has the linker's size: {report:#}");
    Ok(())
}

/// rustup decides by the folder which toolchain is active.
#[apply(test)]
fn the_toolchain_is_that_of_the_crates_folder() -> Outcome {
    let krate = first_try()?;
    let elsewhere = Workdir::new();
    let rustc = elsewhere.path().join("rustc");
    let seen = elsewhere.path().join("seen");
    let script = format!("#!/bin/sh\npwd >> '{}'\nexit 1\n", seen.display());
    fs::write(&rustc, script).expect("a file can be written");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&rustc, executable).expect("it is there");
    let path = krate.path("");
    let mut command = wasmsr(&["plugin", "build", path.to_str().expect("a plain path")]);
    command.current_dir(elsewhere.path()).env("PATH", elsewhere.path()).env_remove("CARGO");
    Running::start(&mut command).finish().exited(12);
    let seen = fs::read_to_string(seen).expect("rustc was asked");
    let own = path.canonicalize().expect("it is there");
    assert!(seen.lines().all(|folder| Path::new(folder) == own), "{seen}");
    Ok(())
}

#[apply(test)]
fn without_cargo_the_host_is_to_blame() -> Outcome {
    let krate = first_try()?;
    let mut command = wasmsr(&["plugin", "build"]);
    command.current_dir(krate.path("")).env("PATH", "/nowhere").env_remove("CARGO");
    Running::start(&mut command).finish().exited(12).said(&["https://rustup.rs"]);
    Ok(())
}

#[apply(test)]
fn a_folder_that_is_not_a_crate() -> Outcome {
    for verb in ["build", "test", "bench"] {
        let run = Workdir::new().wasmsr(&["plugin", verb, "."]);
        run.refused(&["no Cargo.toml", "wasmsr plugin new"]);
    }
    Ok(())
}
