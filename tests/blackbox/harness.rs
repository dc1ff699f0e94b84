//! What the tests themselves rely on.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use crate::built::is_current_in;
use crate::fixture::{Outcome, Workdir, apply, test};

#[apply(test)]
fn a_plugin_that_is_older_than_a_source_is_refused() -> Outcome {
    for (plugin, source) in [
        ("a_b", "plugins/a-b/src/deep/down.rs"),
        ("a_b", "examples/a-b/plugin.toml"),
        ("a_b", "plugin-sdk/src/lib.rs"),
        ("a_b", "Cargo.lock"),
        ("c/a_b", "examples/c/a_b.c"),
        ("c/a_b", "plugin-sdk/c/wasmsr.h"),
        ("wat/a_b", "examples/wat/a_b.wat"),
    ] {
        let workspace = Workdir::new();
        let put = |file: &str, seconds: u64| {
            let path = workspace.path().join(file);
            fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a new folder");
            let file = File::create(path).expect("a new file");
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            file.set_modified(time).expect("a file has a time");
        };
        let is_current = || is_current_in(workspace.path(), plugin);
        let built = format!("target/plugins/{plugin}.wasm");
        put(&built, 2000);
        assert_eq!(is_current(), Ok(()), "without any sources, as in the nested host");
        put(source, 2000);
        assert_eq!(is_current(), Ok(()), "{source}");
        put(source, 2001);
        let reason = is_current().expect_err(source);
        for part in [&built, source, "cargo xtask plugins"] {
            assert!(reason.contains(part), "no `{part}` in: {reason}");
        }
    }
    Ok(())
}
