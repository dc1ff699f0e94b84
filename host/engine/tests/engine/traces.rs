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
