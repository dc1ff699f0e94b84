//! Compiled plugins kept on disk: where, by whom, and what if not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::fixture::{Outcome, Plugin, Workdir, apply, test};

const ANSWERS: Plugin = Plugin {
    name: "answers",
    manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
    code: "(reads (i64.const 1))",
};

fn workdir() -> Workdir {
    let workdir = Workdir::new();
    workdir.put("answers.wasm", ANSWERS.wasm());
    workdir.put("vm.toml", "[boot]\nguest = \"hello\"\n[[plugin]]\npath = \"answers.wasm\"\n");
    workdir
}

/// The names and contents of what the cache holds.
fn entries(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let listed = fs::read_dir(folder).expect("the cache is a folder");
    let mut entries: Vec<_> = listed
        .map(|entry| {
            let entry = entry.expect("an entry can be listed");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).expect("an entry can be read"))
        })
        .collect();
    entries.sort();
    entries
}

#[apply(test)]
fn a_second_start_finds_what_the_first_one_compiled() -> Outcome {
    let workdir = workdir();
    let arguments = ["check", "vm.toml", "--cache-dir", "cache"];
    let first = workdir.wasmsr(&arguments).exited(0);
    let folder = workdir.path().join("cache");
    let compiled = entries(&folder);
    assert_eq!(compiled.len(), 1, "entries of the cache");
    let mode = fs::metadata(&folder).expect("the cache is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "mode of the cache");
    let second = workdir.wasmsr(&arguments).exited(0);
    assert_eq!(second.stdout, first.stdout);
    assert!(entries(&folder) == compiled, "the entry is still the first one");
    Ok(())
}

#[apply(test)]
fn a_damaged_entry_is_made_anew() -> Outcome {
    let workdir = workdir();
    let arguments = ["check", "vm.toml", "--cache-dir", "cache"];
    workdir.wasmsr(&arguments).exited(0);
    let folder = workdir.path().join("cache");
    let compiled = entries(&folder);
    for (name, contents) in &compiled {
        let half = contents.get(..contents.len() / 2).unwrap_or_default();
        fs::write(folder.join(name), half).expect("an entry can be cut");
    }
    let run = workdir.wasmsr(&arguments).exited(0);
    assert_eq!(run.stderr, "", "nothing is lost, so nothing is said");
    let anew = entries(&folder);
    let same_size = anew.iter().zip(&compiled).all(|(a, b)| a.0 == b.0 && a.1.len() == b.1.len());
    assert!(same_size && anew.len() == compiled.len(), "the entry is whole again");
    Ok(())
}

#[apply(test)]
fn no_cache_leaves_nothing_behind() -> Outcome {
    let workdir = workdir();
    workdir.wasmsr(&["check", "vm.toml", "--no-cache"]).exited(0);
    assert!(!workdir.path().join("cache").exists());
    let both = ["check", "vm.toml", "--no-cache", "--cache-dir", "cache"];
    workdir.wasmsr(&both).exited(2).said(&["--no-cache", "--cache-dir"]);
    Ok(())
}

#[apply(test)]
fn a_folder_that_others_may_write_is_not_used() -> Outcome {
    let workdir = workdir();
    let folder = workdir.path().join("cache");
    fs::create_dir(&folder).expect("a folder can be made");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("and opened up");
    workdir.wasmsr(&["check", "vm.toml", "--cache-dir", "cache"]).exited(0).said(&[
        "cache directory cache",
        "chmod 700",
        "run as code",
    ]);
    assert!(entries(&folder).is_empty(), "nothing is put there");
    Ok(())
}
