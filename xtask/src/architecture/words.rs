//! Words that may be in the code of one part only.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::folder::entries;

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
        promise: "only host/vmm, and the example of another VMM, open /dev/kvm",
        within: &["host", "plugin-sdk", "plugins", "examples"],
        except: &["host/vmm", "host/kvm/tests", "examples/embed"],
        files: ".rs",
        words: &["Kvm::new", "\"/dev/kvm\""],
        but: &[],
    },
    Rule {
        promise: KVM_CRATES,
        within: &["host", "plugin-sdk", "plugins", "examples"],
        except: &["host/vmm", "host/kvm", "examples/embed"],
        files: ".rs",
        words: &["kvm_ioctls", "kvm_bindings"],
        but: &[],
    },
    Rule {
        promise: KVM_CRATES,
        within: &["host", "plugin-sdk", "plugins", "examples"],
        except: &["host/vmm", "host/kvm", "examples/embed"],
        files: "Cargo.toml",
        words: &["kvm-ioctls", "kvm-bindings"],
        but: &[],
    },
    Rule {
        promise: "no type of wasmsr-kvm is another crate's for KVM",
        within: &["host/kvm/src"],
        except: &["host/kvm/src/uapi/tests.rs"],
        files: ".rs",
        words: &["kvm_ioctls", "kvm_bindings"],
        but: &[],
    },
    Rule {
        promise: "host/vmm knows neither the engine nor wasmtime",
        within: &["host/vmm"],
        except: &[],
        files: "Cargo.toml",
        words: &["wasmtime", "wasmsr-engine"],
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
        promise: "examples/embed uses the engine and what lies below it, and no more of wasmsr",
        within: &["examples/embed"],
        except: &[],
        files: "Cargo.toml",
        words: &["wasmsr", "../host", "../plugin-sdk", "../book"],
        but: &["wasmsr-engine", "wasmsr-interface", "wasmsr-kvm"],
    },
];

const KVM_CRATES: &str =
    "only host/vmm, host/kvm, and the example of another VMM, use the crates around KVM";

/// Adds every place below `root` that has a word where it must not be.
pub(super) fn check(root: &Path, breaches: &mut Vec<String>) -> Result<()> {
    for rule in RULES {
        for folder in rule.within.iter().map(|folder| root.join(folder)) {
            if folder.is_dir() {
                inspect(rule, root, &folder, breaches)?;
            }
        }
    }
    Ok(())
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

/// Prose may name anything.
fn is_comment(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") || line.starts_with('#')
}
