//! `wasmsr plugin new`: writes the crate of a new plugin. Everything is checked before
//! anything is written, and the folder appears whole or not at all.

use std::env;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use toml::Table;
use wasmsr_engine::manifest::{Manifest, ManifestError};

use super::subject::filter_of;
use super::template::Template;
use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;

/// Most MSRs for which a new plugin keeps values. They take half of an instance's
/// default memory.
const MOST_MSRS: u64 = 1 << 16;

/// Writes the crate and says what to do next.
pub(crate) fn new(args: &args::New) -> Result<Code, Failure> {
    let here = env::current_dir().map_err(Failure::host)?;
    let files = planned(args, &here).map_err(Failure::input)?;
    write(&here, &args.name, &files).map_err(Failure::host)?;
    let name = &args.name;
    let next = format!(
        "{name}/ is the crate of the new plugin; continue in its src/lib.rs\n\n  \
         cd {name}\n  \
         cargo test             run its unit tests\n  \
         wasmsr plugin build    build the .wasm file, and show what it asks for\n  \
         wasmsr plugin test     run traces/{name}.trace, without KVM\n  \
         wasmsr plugin bench    measure its accesses\n  \
         wasmsr run vm.toml     boot a small guest that accesses the MSRs"
    );
    print(&next).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

/// A file of the new crate, by its path within.
struct Planned {
    path: PathBuf,
    text: String,
}

fn planned(args: &args::New, here: &Path) -> Result<Vec<Planned>> {
    check_name(&args.name)?;
    let folder = here.join(&args.name);
    ensure!(
        folder.symlink_metadata().is_err(),
        "{} exists already; choose another name, or move it away",
        args.name
    );
    let sdk = sdk(args.sdk.as_deref())?;
    let checkout = sdk.parent().unwrap_or(&sdk);
    let here = here.canonicalize().with_context(|| format!("folder {}", here.display()))?;
    let folder = here.join(&args.name);
    // Within the checkout the crate moves together with the SDK, so the path is relative.
    let sdk_path = match folder.starts_with(checkout) {
        true => relative(&folder, &sdk),
        false => sdk.clone(),
    };
    let workspace = enclosing_workspace(&folder)?;
    let template = Template {
        name: &args.name,
        ranges: &args.msr,
        access: args.access,
        scope: args.scope,
        sdk: text_of(&sdk_path)?,
        plugins: match &workspace {
            Some(root) => text_of(&relative(&folder, &root.join("target/plugins")))?,
            None => "target/plugins".to_owned(),
        },
        is_member: workspace.is_some(),
    };
    check_msrs(&template)?;
    let mut files: Vec<Planned> = template
        .files()
        .into_iter()
        .map(|(path, text)| Planned { path: path.into(), text })
        .collect();
    // The SDK's own versions are known to work, and are on this machine if wasmsr was
    // built here, so no network is needed.
    if let (None, Ok(text)) = (&workspace, fs::read_to_string(checkout.join("Cargo.lock"))) {
        files.push(Planned { path: "Cargo.lock".into(), text });
    }
    Ok(files)
}

/// Checks that a name is valid for a manifest, a crate and a folder.
fn check_name(name: &str) -> Result<()> {
    const RESERVED: &[&str] = &[
        "abstract",
        "as",
        "async",
        "await",
        "become",
        "box",
        "break",
        "const",
        "continue",
        "crate",
        "do",
        "dyn",
        "else",
        "enum",
        "extern",
        "false",
        "final",
        "fn",
        "for",
        "gen",
        "if",
        "impl",
        "in",
        "let",
        "loop",
        "macro",
        "match",
        "mod",
        "move",
        "mut",
        "override",
        "priv",
        "pub",
        "ref",
        "return",
        "self",
        "static",
        "struct",
        "super",
        "trait",
        "true",
        "try",
        "type",
        "typeof",
        "unsafe",
        "unsized",
        "use",
        "virtual",
        "where",
        "while",
        "yield",
        // Crates that every plugin has, and cargo's own.
        "alloc",
        "core",
        "std",
        "test",
        "proc-macro",
        "wasmsr-sdk",
    ];
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good = name.len() <= 64 && name.bytes().all(letter);
    ensure!(
        good && name.starts_with(|first: char| first.is_ascii_lowercase()) && !name.ends_with('-'),
        "`{name}` is not a name for a plugin; use at most 64 lower-case letters, digits and \
         `-`, with a letter first"
    );
    ensure!(
        !RESERVED.contains(&name),
        "`{name}` cannot be the name of a crate, since Rust reserves it; choose another, such \
         as `{name}-msrs`"
    );
    Ok(())
}

/// Checks the future manifest against the rules of the engine and of KVM.
fn check_msrs(template: &Template<'_>) -> Result<()> {
    let count: u64 = template.ranges.iter().map(|range| range.count()).sum();
    ensure!(
        count <= MOST_MSRS,
        "--msr names {count} MSRs, and a new plugin keeps values for at most {MOST_MSRS}; name \
         fewer, and widen plugin.toml when the plugin needs no value for each"
    );
    let manifest = Manifest::parse(template.manifest().as_bytes());
    let manifest = manifest.map_err(|error| match error {
        // The place would be in a file that does not exist yet.
        ManifestError::At { mistake, .. } => *mistake,
        error => error,
    })?;
    filter_of(&manifest)?;
    Ok(())
}

/// The folder of the SDK's crate.
fn sdk(given: Option<&Path>) -> Result<PathBuf> {
    // Where the checkout was when this command was built.
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk");
    let sdk = match given {
        Some(path) => path.to_owned(),
        None => built_from,
    };
    let package = read_toml(&sdk.join("Cargo.toml")).ok().flatten();
    let package = package.as_ref().and_then(|file| file.get("package")?.get("name")?.as_str());
    match (package == Some("wasmsr-sdk"), given) {
        (true, _) => Ok(sdk.canonicalize()?),
        (false, Some(path)) => bail!(
            "--sdk {} is not the crate wasmsr-sdk; give the folder plugin-sdk of a wasmsr checkout",
            path.display()
        ),
        (false, None) => bail!(
            "the checkout that this wasmsr was built from is gone; give the folder plugin-sdk of \
             another one with --sdk DIR"
        ),
    }
}

/// The root of the workspace that has a crate in `folder` as its member.
fn enclosing_workspace(folder: &Path) -> Result<Option<PathBuf>> {
    for root in folder.ancestors().skip(1) {
        let path = root.join("Cargo.toml");
        let file = read_toml(&path).with_context(|| format!("workspace {}", path.display()))?;
        let Some(workspace) = file.as_ref().and_then(|file| file.get("workspace")) else {
            continue;
        };
        let within = folder.strip_prefix(root)?;
        let listed = |key: &str| {
            let list = workspace.get(key).and_then(toml::Value::as_array);
            list.into_iter().flatten().filter_map(toml::Value::as_str).collect::<Vec<_>>()
        };
        let member = listed("members").into_iter().any(|pattern| matches(pattern, within));
        let excluded = listed("exclude").into_iter().any(|path| within.starts_with(path));
        return Ok((member && !excluded).then(|| root.to_owned()));
    }
    Ok(None)
}

/// Reads a TOML file; `None` if it does not exist.
fn read_toml(path: &Path) -> Result<Option<Table>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.parse()?)),
        Err(_) => Ok(None),
    }
}

/// Whether a pattern of cargo's matches a folder: `*` stands for any characters except
/// `/`.
fn matches(pattern: &str, folder: &Path) -> bool {
    let mut parts = Path::new(pattern).components().filter(|part| *part != Component::CurDir);
    let mut own = folder.components();
    loop {
        match (parts.next(), own.next()) {
            (None, None) => return true,
            (Some(part), Some(name)) => {
                let (part, name) = (part.as_os_str(), name.as_os_str());
                if !part_matches(&part.to_string_lossy(), &name.to_string_lossy()) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

fn part_matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.any(|at| rest.get(at..).is_some_and(|rest| part_matches(after, rest)))
        }),
    }
}

/// The relative path from one folder to another; both are absolute.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let same = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(same).map(|_| Component::ParentDir);
    up.chain(to.components().skip(same)).collect()
}

/// A path as text, as TOML needs it.
fn text_of(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| {
        let path = path.display();
        format!("the path {path} is not UTF-8, and cannot be written into Cargo.toml; use another")
    });
    text.map(str::to_owned)
}

/// Writes all files into a temporary folder beside the new one, and renames it.
fn write(here: &Path, name: &str, files: &[Planned]) -> Result<()> {
    let in_folder = || anyhow!("folder {}", here.display());
    let scratch = tempfile::Builder::new()
        .prefix(&format!(".{name}-"))
        .tempdir_in(here)
        .with_context(in_folder)?;
    let folder = scratch.path().join(name);
    for Planned { path, text } in files {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    fs::rename(&folder, here.join(name)).with_context(in_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_workspaces_are_cargo_s() {
        for (pattern, folder, expected) in [
            ("plugins/*", "plugins/new", true),
            ("./plugins/*", "plugins/new", true),
            ("plugins/*", "plugins", false),
            ("plugins/*", "plugins/a/b", false),
            ("plugin-*", "plugin-new", true),
            ("*-plugin", "new-plugin", true),
            ("a*b*c", "axxbxc", true),
            ("a*b", "axxc", false),
            ("new", "new", true),
            ("host", "new", false),
        ] {
            assert_eq!(matches(pattern, Path::new(folder)), expected, "{pattern} {folder}");
        }
    }

    #[test]
    fn the_way_from_here_to_there() {
        for (from, to, expected) in [
            ("/w/plugins/new", "/w/plugin-sdk", "../../plugin-sdk"),
            ("/w/new", "/w/new/sdk", "sdk"),
            ("/a", "/b/c", "../b/c"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(expected));
        }
    }

    #[test]
    fn names_are_those_of_crates() {
        for name in ["", "-a", "a-", "A", "1a", "a_b", "a/b", "..", "ä", "fn", "std"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["a", "my-plugin", "plugin", "x2"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        assert!(check_name(&"a".repeat(65)).is_err());
    }
}
