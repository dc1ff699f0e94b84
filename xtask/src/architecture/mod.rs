//! Keeps the promises between the workspace's parts that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Words that may be in the code of one part only.
struct Rule {
    promise: &'static str,
    /// Where to look.
    within: &'static [&'static str],
    /// Where the words are at home.
    except: &'static [&'static str],
    /// Which files to read, by the end of their name.
    files: &'static str,
    words: &'static [&'static str],
    /// Names that have such a word in them and are allowed.
    but: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        promise: KVM,
        within: &["host", "plugin-sdk", "plugins", "examples"],
        except: &["host/vmm", "examples/embed"],
        files: ".rs",
        words: &["kvm_ioctls", "Kvm::new", "\"/dev/kvm\""],
        but: &[],
    },
    Rule {
        promise: KVM,
        within: &["host", "plugin-sdk", "plugins", "examples"],
        except: &["host/vmm", "examples/embed"],
        files: "Cargo.toml",
        words: &["kvm-ioctls", "kvm-bindings"],
        but: &[],
    },
    Rule {
        promise: "only host/engine/src/plugin names wasmtime",
        within: &["host", "plugin-sdk", "plugins", "examples"],
        except: &["host/engine/src/plugin"],
        files: ".rs",
        words: &["wasmtime::", "use wasmtime"],
        but: &[],
    },
    Rule {
        promise: "only host/engine/src/plugin names wasmtime",
        within: &["host", "plugin-sdk", "plugins", "examples"],
        except: &["host/engine"],
        files: "Cargo.toml",
        words: &["wasmtime"],
        but: &[],
    },
    Rule {
        promise: "the SDK depends on nothing in host/",
        within: &["plugin-sdk"],
        except: &[],
        files: "Cargo.toml",
        words: &["wasmsr-engine", "wasmsr-vmm", "../host", "wasmsr.workspace", "wasmsr ="],
        but: &[],
    },
    Rule {
        promise: "examples/embed uses nothing of wasmsr but its engine",
        within: &["examples/embed"],
        except: &[],
        files: "Cargo.toml",
        words: &["wasmsr", "../host", "../plugin-sdk", "../book"],
        but: &["wasmsr-engine"],
    },
];

/// The example is a VMM of its own, for those who have one.
const KVM: &str = "only host/vmm, and the example of another VMM, open /dev/kvm";

/// Fails with every place that breaks a promise.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut breaches = Vec::new();
    for rule in RULES {
        for folder in rule.within {
            inspect(rule, root, &root.join(folder), &mut breaches)?;
        }
    }
    if breaches.is_empty() { Ok(()) } else { bail!("{}", breaches.join("\n")) }
}

fn inspect(rule: &Rule, root: &Path, folder: &Path, breaches: &mut Vec<String>) -> Result<()> {
    for path in entries(folder)? {
        let place = path.strip_prefix(root)?;
        if rule.except.iter().any(|home| place.starts_with(home)) {
            continue;
        }
        if path.is_dir() {
            inspect(rule, root, &path, breaches)?;
        } else if path.to_string_lossy().ends_with(rule.files) {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !is_comment(line)) {
                let line = rule.but.iter().fold(line.to_owned(), |line, but| line.replace(but, ""));
                if let Some(word) = rule.words.iter().find(|word| line.contains(*word)) {
                    let place = place.display();
                    breaches.push(format!("{}: {place}:{number} has {word}", rule.promise));
                }
            }
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut entries = read().with_context(|| format!("cannot read {}", folder.display()))?;
    entries.sort();
    Ok(entries)
}

/// Prose may name anything.
fn is_comment(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") || line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace of these files on top of one that keeps every promise.
    fn check_with(files: &[(&str, &str)]) -> Result<()> {
        let root = tempfile::tempdir().unwrap();
        let sound = [
            ("host/vmm/Cargo.toml", "kvm-ioctls.workspace = true"),
            ("host/vmm/src/vm.rs", "use kvm_ioctls::Kvm;"),
            ("host/engine/Cargo.toml", "wasmtime.workspace = true"),
            ("host/engine/src/plugin/module.rs", "use wasmtime::Module;"),
            ("host/engine/src/lib.rs", "//! Compiled by wasmtime::Engine.\nmod plugin;"),
            ("plugin-sdk/Cargo.toml", "name = \"wasmsr-sdk\""),
            ("plugins/one/Cargo.toml", "wasmsr-sdk.workspace = true"),
            (
                "examples/embed/Cargo.toml",
                "description = \"around wasmsr-engine\"\nkvm-ioctls.workspace = true\n\
                 wasmsr-engine.workspace = true",
            ),
            ("examples/embed/src/main.rs", "use kvm_ioctls::Kvm;"),
        ];
        for (path, text) in sound.iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        check(root.path())
    }

    #[track_caller]
    fn breaks(path: &str, text: &str, breach: &str) {
        let error = check_with(&[(path, text)]).unwrap_err().to_string();
        assert_eq!(error, breach);
    }

    #[test]
    fn a_sound_workspace_passes() {
        check_with(&[]).unwrap();
    }

    #[test]
    fn each_promise_can_be_broken() {
        breaks(
            "host/cli/src/main.rs",
            "\nlet kvm = Kvm::new()?;",
            "only host/vmm, and the example of another VMM, open /dev/kvm: host/cli/src/main.rs:2 has Kvm::new",
        );
        breaks(
            "host/engine/Cargo.toml",
            "kvm-bindings.workspace = true",
            "only host/vmm, and the example of another VMM, open /dev/kvm: host/engine/Cargo.toml:1 has kvm-bindings",
        );
        breaks(
            "host/engine/src/trace.rs",
            "use wasmtime as w;",
            "only host/engine/src/plugin names wasmtime: host/engine/src/trace.rs:1 has use wasmtime",
        );
        breaks(
            "host/cli/Cargo.toml",
            "wasmtime = \"1\"",
            "only host/engine/src/plugin names wasmtime: host/cli/Cargo.toml:1 has wasmtime",
        );
        breaks(
            "examples/counter/Cargo.toml",
            "kvm-bindings.workspace = true",
            "only host/vmm, and the example of another VMM, open /dev/kvm: \
             examples/counter/Cargo.toml:1 has kvm-bindings",
        );
        for (dependency, word) in [
            ("wasmsr-vmm.workspace = true", "wasmsr"),
            ("wasmsr-toolchain = { workspace = true }", "wasmsr"),
            ("wasmsr = { path = \"../../cli\" }", "wasmsr"),
            ("vmm = { path = \"../../host/vmm\" }", "../host"),
        ] {
            breaks(
                "examples/embed/Cargo.toml",
                dependency,
                &format!(
                    "examples/embed uses nothing of wasmsr but its engine: \
                     examples/embed/Cargo.toml:1 has {word}"
                ),
            );
        }
        breaks(
            "plugin-sdk/Cargo.toml",
            "wasmsr-engine.workspace = true",
            "the SDK depends on nothing in host/: plugin-sdk/Cargo.toml:1 has wasmsr-engine",
        );
    }

    /// A function of this name, or a trial that is called so.
    fn has_test(file: &str, name: &str) -> bool {
        let is_trial = |line: &str| {
            line.contains("trial(\"") || line.contains("Trial::") && line.contains('"')
        };
        let ends = format!("{name}\"");
        file.contains(&format!("fn {name}("))
            || file.lines().any(|line| is_trial(line) && line.contains(&ends))
    }

    #[test]
    fn tests_are_told_from_what_only_sounds_like_one() {
        assert!(has_test("fn stops() -> Outcome {", "stops"));
        assert!(has_test("    trial(\"header::stops\", f),", "stops"));
        assert!(has_test("    Trial::ignorable_test(\"stops\", f),", "stops"));
        assert!(!has_test("fn stops_late() {}", "stops"));
        assert!(!has_test("// See stops.\ntrials![stops_late]", "stops"));
    }

    /// A document that says which tests show a thing links each to its file.
    #[test]
    fn the_tests_that_documents_name_are_there() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        for (document, at_least) in [("why.md", 30), ("embedding.md", 9)] {
            let text = fs::read_to_string(docs.join(document)).unwrap();
            let links = text.split("[`").skip(1).filter_map(|rest| {
                let (name, rest) = rest.split_once("`](")?;
                let (path, _) = rest.split_once(')')?;
                path.ends_with(".rs").then_some((name, path))
            });
            let mut found = 0;
            for (name, path) in links {
                let file = fs::read_to_string(docs.join(path));
                let file = file.unwrap_or_else(|error| panic!("{document}: {path}: {error}"));
                assert!(has_test(&file, name), "{document}: {path} has no test `{name}`");
                found += 1;
            }
            assert!(found >= at_least, "{document} names {found} tests");
        }
    }
}
