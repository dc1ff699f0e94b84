//! Compiled plugins on disk: found again, and never trusted further than they
//! deserve.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use tempfile::TempDir;
use wasmsr_engine::plugin::CodeCache;
use wasmsr_engine::{Engine, LoadOptions};
use wasmsr_interface::Outcome;

use crate::fixture::{Setup, plugin, read, start};

/// A plugin that answers 0x10, and a cache.
struct Scene {
    setup: Setup,
    home: TempDir,
}

impl Scene {
    fn new() -> Self {
        let setup = Setup::new().with("p.wasm", answering(43), "");
        Scene { setup, home: tempfile::tempdir().unwrap() }
    }

    fn directory(&self) -> PathBuf {
        self.home.path().join("cache/wasmsr")
    }

    fn cache(&self) -> CodeCache {
        CodeCache::open(&self.directory()).unwrap()
    }

    /// The one entry.
    fn entry(&self) -> PathBuf {
        match entries(&self.directory()).as_slice() {
            [entry] => entry.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Loads, runs, and tells whether the code came from the cache.
    #[track_caller]
    fn hits(&self, cache: &CodeCache) -> bool {
        let options = LoadOptions { cache: Some(cache.clone()), ..LoadOptions::default() };
        let engine = Engine::load(&self.setup.profile(), &options).unwrap();
        let mut vcpu = start(&engine, 1).0.vcpus.remove(0);
        assert_eq!(read(&mut vcpu, 0x10), Outcome::Value(43));
        engine.plugins().next().unwrap().from_cache
    }
}

fn answering(value: u64) -> Vec<u8> {
    let rdmsr = "(func (export \"rdmsr\") (param i32 i32 i32) (result i64)";
    plugin(
        "p",
        "[[msr]]\nrange = \"0x10\"\naccess = \"r\"",
        &format!("{rdmsr} (i64.const {value}))"),
    )
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_second_load_compiles_nothing() {
    let scene = Scene::new();
    let cache = scene.cache();
    assert!(!scene.hits(&cache));
    let written = fs::metadata(scene.entry()).unwrap();
    assert!(scene.hits(&cache));
    assert!(scene.hits(&scene.cache()), "another process");
    assert_eq!(fs::metadata(scene.entry()).unwrap().ino(), written.ino(), "written once");
}

#[test]
fn another_plugin_has_another_entry() {
    let mut scene = Scene::new();
    let cache = scene.cache();
    assert!(!scene.hits(&cache));
    scene.setup =
        Setup::new().with("p.wasm", [answering(43), b"\0\x02\x01x".to_vec()].concat(), "");
    assert!(!scene.hits(&cache), "one custom section more");
    assert_eq!(entries(&scene.directory()).len(), 2);
}

#[test]
fn directory_and_entries_are_the_users_alone() {
    let scene = Scene::new();
    scene.hits(&scene.cache());
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&scene.directory()), 0o700);
    assert_eq!(mode(&scene.entry()), 0o600);
}

/// Every byte of the header, and the code all over.
#[test]
fn a_damaged_entry_is_compiled_anew() {
    let scene = Scene::new();
    let cache = scene.cache();
    scene.hits(&cache);
    let good = fs::read(scene.entry()).unwrap();
    for at in (0..128).chain((128..good.len()).step_by(997)).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(scene.entry(), &bad).unwrap();
        assert!(!scene.hits(&cache), "byte {at}");
        assert!(scene.hits(&cache), "byte {at}, rebuilt");
    }
}

#[test]
fn an_entry_that_is_too_short_or_too_long_is_compiled_anew() {
    let scene = Scene::new();
    let cache = scene.cache();
    scene.hits(&cache);
    let good = fs::read(scene.entry()).unwrap();
    let cuts = [0, 1, 8, 40, 48, 56, 87, 88, 89, good.len() / 2, good.len() - 1];
    for bad in
        cuts.map(|length| good[..length].to_vec()).into_iter().chain([[&good[..], b"x"].concat()])
    {
        fs::write(scene.entry(), &bad).unwrap();
        assert!(!scene.hits(&cache), "{} bytes", bad.len());
        assert!(scene.hits(&cache), "{} bytes, rebuilt", bad.len());
    }
}

/// One plugin's entry under another's name is whole, but not what was asked.
#[test]
fn an_entry_of_another_plugin_is_compiled_anew() {
    let mut scene = Scene::new();
    scene.setup = Setup::new().with("p.wasm", answering(1), "");
    let cache = scene.cache();
    let options = LoadOptions { cache: Some(cache.clone()), ..LoadOptions::default() };
    Engine::load(&scene.setup.profile(), &options).unwrap();
    let foreign = scene.entry();
    scene.setup = Setup::new().with("p.wasm", answering(43), "");
    scene.hits(&cache);
    let own = entries(&scene.directory()).into_iter().find(|entry| *entry != foreign).unwrap();
    fs::rename(&foreign, &own).unwrap();
    assert!(!scene.hits(&cache));
    assert!(scene.hits(&cache));
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    let scene = Scene::new();
    scene.cache();
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(scene.directory(), fs::Permissions::from_mode(mode)).unwrap();
        let error = CodeCache::open(&scene.directory()).unwrap_err().to_string();
        for part in ["cache/wasmsr", &format!("{mode:o}"), "chmod 700"] {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
    }
}

#[test]
fn an_entry_that_others_may_write_is_compiled_anew() {
    let scene = Scene::new();
    let cache = scene.cache();
    scene.hits(&cache);
    fs::set_permissions(scene.entry(), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!scene.hits(&cache));
    assert!(scene.hits(&cache), "replaced by one of the user's own");
}

/// Only root can give a file away.
#[test]
fn an_entry_of_another_user_is_compiled_anew() {
    let scene = Scene::new();
    let cache = scene.cache();
    scene.hits(&cache);
    if std::os::unix::fs::chown(scene.entry(), Some(65_534), None).is_ok() {
        assert!(!scene.hits(&cache));
        std::os::unix::fs::chown(scene.directory(), Some(65_534), None).unwrap();
        let error = CodeCache::open(&scene.directory()).unwrap_err().to_string();
        assert!(error.contains("belongs to user 65534"), "{error}");
    }
}

#[test]
fn what_is_no_directory_is_refused() {
    let scene = Scene::new();
    fs::write(scene.home.path().join("cache"), "").unwrap();
    let error = CodeCache::open(&scene.directory()).unwrap_err().to_string();
    assert!(error.contains("cache/wasmsr"), "{error}");
}

#[test]
fn a_directory_that_takes_nothing_costs_only_time() {
    let scene = Scene::new();
    let cache = scene.cache();
    fs::remove_dir(scene.directory()).unwrap();
    assert!(!scene.hits(&cache));
    assert!(!scene.hits(&cache));
}

#[test]
fn many_at_once_share_a_directory() {
    let scene = Scene::new();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let cache = scene.cache();
                for _ in 0..8 {
                    scene.hits(&cache);
                    // Entries vanish, too, when another process prunes.
                    for entry in entries(&scene.directory()) {
                        let _ = fs::remove_file(entry);
                    }
                }
            });
        }
    });
    scene.hits(&scene.cache());
    assert!(scene.hits(&scene.cache()));
}
