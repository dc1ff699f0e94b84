//! Traces: their text, and what is wrong with it.

use tempfile::TempDir;
use wasmsr_engine::LoadOptions;
use wasmsr_engine::script::{Trace, blessed, differences};

use crate::fixture::plugin;

/// A folder with a plugin that reads 5 at 0x10.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let body = "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 5))";
    let bytes = plugin("five", "[[msr]]\nrange = \"0x10\"\naccess = \"r\"", body);
    std::fs::write(folder.path().join("five.wasm"), bytes).unwrap();
    folder
}

fn replay(text: &str) -> Result<String, String> {
    let folder = folder();
    let trace = Trace::parse(text, folder.path()).map_err(|error| error.to_string())?;
    trace.replay(&LoadOptions::default()).map_err(|error| error.to_string())
}

const TABLES: &str = "[vm]\nvcpus = 2\n[[plugin]]\npath = \"five.wasm\"\n---\n";

#[test]
fn comments_are_no_steps_and_outlive_a_blessing() {
    let text = format!("{TABLES}# r 0x1 -> 0x1\nr 0x10   -> 0x6  # why\ncpu 1 # -> 2\n\n");
    let answered = replay(&text).unwrap();
    let differences = differences(&text, &answered);
    assert_eq!(differences.len(), 1, "{differences:?}");
    assert_eq!(differences[0].line, 7);
    assert_eq!(differences[0].came, "r 0x10 -> 0x5  # why");
    assert_eq!(blessed(&text, &answered), text.replace("0x10   -> 0x6", "0x10 -> 0x5"));
}

#[test]
fn lines_end_as_any_editor_ends_them() {
    let text = format!("{TABLES}r 0x10 -> 0x5").replace('\n', "\r\n");
    let answered = replay(&text).unwrap();
    assert_eq!(differences(&text, &answered), []);
    assert_eq!(blessed(&text, &answered), text);
}

#[test]
fn a_trace_that_asks_nothing_is_no_test() {
    for steps in ["", "khz 5\n", "# r 0x10 -> 0x6\n"] {
        let error = replay(&format!("{TABLES}{steps}")).unwrap_err();
        assert!(error.contains("asks for no answer"), "{error}");
    }
    let error = replay(TABLES.trim_end()).unwrap_err();
    assert!(error.contains("asks for no answer"), "{error}");
    let error = replay("r 0x10 -> 0x6\n").unwrap_err();
    assert!(error.contains("no line `---`"), "{error}");
}

#[test]
fn mistakes_above_the_steps_have_the_lines_of_the_trace() {
    for (text, place) in [
        ("[vm]\nvcpu = 2\n---\nr 0x10 -> 0x5\n", "its profile is wrong: line 2, column 1: "),
        ("# a\r\n[[plugin]]\r\npat = 5\r\n---\r\n", "its profile is wrong: line 3, column 1: "),
        ("[[plugin]]\npath = \"no.wasm\"\n---\nr 0x10 -> 0x5\n", "its plugins do not load: "),
    ] {
        let error = replay(text).unwrap_err();
        assert!(error.contains(place) && !error.contains("trace.toml"), "{error}");
    }
}

#[test]
fn memory_without_ram_is_an_error_of_the_step() {
    let error = replay(&format!("{TABLES}mem 0x1000 01 02\nr 0x10 -> 0x5\n")).unwrap_err();
    for part in ["line 6, `mem 0x1000 01 02`: ", "0x1000", "`ram GPA LENGTH`"] {
        assert!(error.contains(part), "{error}");
    }
    let steps = "ram 0x1000 16\nmem 0x1000 01 02\nmem 0x1000 3 -> 01 02 00\n";
    let text = format!("{TABLES}{steps}");
    assert_eq!(replay(&text).unwrap(), text);
}

/// A plugin of this version whose reads of 0x10 give its number plus what it saved, and
/// whose writes ask for a timer, which adds 1.
fn timed(version: u32) -> Vec<u8> {
    let manifest = "[[msr]]\nrange = \"0x10\"\n[needs]\ncapabilities = [\"timer\"]";
    let body = format!(
        "(import \"wasmsr\" \"timer\" (func $timer (param i64) (result i32)))
         (import \"wasmsr\" \"save_state\" (func $save (param i32 i32) (result i32)))
         (import \"wasmsr\" \"saved_state\" (func $saved (param i32 i32) (result i32)))
         (func (export \"save\") (result i32) (call $save (i32.const 0) (i32.const 8)))
         (func (export \"restore\") (result i32)
           (drop (call $saved (i32.const 0) (i32.const 8))) (i32.const 0))
         (func (export \"timer\")
           (i64.store (i32.const 0) (i64.add (i64.load (i32.const 0)) (i64.const 1))))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
           (i64.add (i64.load (i32.const 0)) (i64.const {version}00)))
         (func (export \"wrmsr\") (param i32 i64 i32 i32) (drop (call $timer (local.get 1))))"
    );
    plugin("timed", manifest, &body)
}

#[test]
fn a_swap_keeps_timers_and_takes_another_version() {
    let folder = folder();
    for version in [1, 2] {
        let path = folder.path().join(format!("timed-{version}.wasm"));
        std::fs::write(path, timed(version)).unwrap();
    }
    let replay = |steps: &str| {
        let text = format!(
            "[vm]\nvcpus = 2\n[[plugin]]\npath = \"timed-1.wasm\"\ngrant = [\"timer\"]\n---\n{steps}"
        );
        let trace = Trace::parse(&text, folder.path()).unwrap();
        let answered = trace.replay(&LoadOptions::default()).map_err(|error| error.to_string())?;
        assert_eq!(differences(&text, &answered), []);
        Ok::<_, String>(())
    };
    let second = "cpu 1\nns 5000\nw 0x10 9000000 -> ok\n";
    replay(&format!(
        "{second}swap\nalarm -> 9000000\nns 9000000\nwake\nr 0x10 -> 0x65\nalarm -> none\n"
    ))
    .unwrap();
    replay(&format!(
        "{second}r 0x10 -> 0x64\nswap timed-2.wasm\nr 0x10 -> 0xc8\nalarm -> 9000000\n\
         ns 9000000\nwake\nr 0x10 -> 0xc9\nswap timed-1.wasm\nr 0x10 -> 0x65\n"
    ))
    .unwrap();
    for (file, part) in [("five.wasm", "is plugin `five`"), ("no.wasm", "cannot read it")] {
        let error = replay(&format!("r 0x10 -> 0x64\nswap {file}\n")).unwrap_err();
        assert!(error.contains(part) && error.contains(file), "{error}");
    }
}

#[test]
fn an_intercept_that_is_off_leaves_the_access_to_kvm() {
    let folder = folder();
    let manifest = "[[msr]]\nrange = \"0x10-0x11\"\nintercept = \"off\"\n[[msr]]\nrange = \"0x20\"\n\
        [needs]\ncapabilities = [\"intercept\"]";
    let body = "
        (import \"wasmsr\" \"intercept\" (func $intercept (param i32 i32 i32 i32) (result i32)))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 5))
        (func (export \"wrmsr\") (param i32 i64 i32 i32)
          (drop (call $intercept (i32.const 0x10) (i32.const 0x11) (i32.const 1)
            (i32.wrap_i64 (local.get 1)))))";
    std::fs::write(folder.path().join("off.wasm"), plugin("off", manifest, body)).unwrap();
    let text = "[[plugin]]\npath = \"off.wasm\"\ngrant = [\"intercept\"]\n---\nkvm 0x10 7\n\
        r 0x10 -> kernel\nr 0x11 -> fault\nw 0x10 1 -> kernel\n\
        w 0x20 1 -> ok\nr 0x10 -> 0x5\nr 0x11 -> 0x5\nw 0x11 1 -> fault\n\
        w 0x20 0 -> ok\nr 0x10 -> kernel\nr 0x11 -> fault\nr 0x11 unknown -> fault\n";
    let answered = Trace::parse(text, folder.path()).unwrap().replay(&LoadOptions::default());
    assert_eq!(differences(text, &answered.unwrap()), []);
}
