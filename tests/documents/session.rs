//! A reader at a shell doing what a page shows.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use wasmsr_engine::manifest::Manifest;

use crate::built;
use crate::page::{Block, Step, is_as_expected};

/// What became of a block.
pub(crate) enum Done {
    Right,
    NotRun(String),
    Wrong(String),
}

/// The reader's folder and where in it they are.
pub(crate) struct Session {
    workspace: PathBuf,
    folder: TempDir,
    place: PathBuf,
    /// Files that could not be made here, each with what is lacking: what later
    /// blocks do with them cannot be tried either.
    unmade: BTreeMap<String, String>,
}

/// The command, which cargo has built with these tests.
const WASMSR: &str = env!("CARGO_BIN_EXE_wasmsr");

/// What a command may take: `cargo` may have to compile.
const PATIENCE_SECONDS: &str = "600";

/// Chores that must not begin by oversight: they run these tests, or a machine.
const LONG: &[&str] =
    &["cargo xtask test", "cargo xtask prepush", "cargo xtask nested", "cargo xtask bench"];

/// Code of a command that was out of time.
const OUT_OF_TIME: i32 = 124;

impl Session {
    /// A folder that looks like the workspace's, so that what a page has
    /// readers write does not get into that.
    pub(crate) fn new(workspace: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for entry in fs::read_dir(workspace).expect("the workspace can be read") {
            let entry = entry.expect("an entry");
            symlink(entry.path(), folder.path().join(entry.file_name())).expect("a link");
        }
        let place = folder.path().to_path_buf();
        Session { workspace: workspace.to_path_buf(), folder, place, unmade: BTreeMap::new() }
    }

    /// Does what a block says.
    pub(crate) fn take(&mut self, block: &Block) -> Done {
        if let Some(reason) = block.said("not run") {
            return match self.names_tests_that_exist(block) {
                Ok(()) => Done::NotRun(format!("not run: {reason}")),
                Err(why) => Done::Wrong(why),
            };
        }
        if let Some(reason) = block.said("from").and_then(|path| self.unmade.get(path)) {
            return Done::NotRun(reason.clone());
        }
        let taken = match (block.language.as_str(), block.comment.as_str()) {
            ("console", _) => return self.run(block),
            (_, "part of a profile") => self.is_part_of_a_profile(&block.text),
            (_, "part of a manifest") => is_part_of_a_manifest(&block.text),
            _ => self.file(block),
        };
        taken.map_or_else(Done::Wrong, |()| Done::Right)
    }

    fn names_tests_that_exist(&self, block: &Block) -> Result<(), String> {
        for (file, name) in block.tests() {
            let text = fs::read_to_string(self.workspace.join(file))
                .map_err(|error| format!("the comment before it names {file}: {error}"))?;
            if !text.contains(&format!("fn {name}(")) {
                return Err(format!(
                    "the comment before it names {file}::{name}, which is no test"
                ));
            }
        }
        Ok(())
    }

    /// A block that is a file, or a part of one.
    fn file(&self, block: &Block) -> Result<(), String> {
        if let Some(name) = block.said("file") {
            // As in a file of the workspace that the page shows, a part may be
            // left out; of the reader's own it may not.
            return self.write(name, block.text.as_bytes());
        }
        if let Some(name) = block.said("plugin") {
            let module = wat::parse_str(&block.text).map_err(|error| error.to_string())?;
            return self.write(name, &module);
        }
        if let Some(path) = block.said("from") {
            // The reader's, and else the workspace's.
            let own = self.place.join(path);
            let path = if own.is_file() { own } else { self.workspace.join(path) };
            let text = fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let anything = || std::iter::once("[…]".to_owned());
            let shown = block.text.lines().map(str::to_owned);
            let expected: Vec<String> = anything().chain(shown).chain(anything()).collect();
            // Marks of parts, which pages leave out.
            let lines = text.lines().filter(|line| !line.contains("ANCHOR"));
            let lines: Vec<&str> = lines.collect();
            return match is_as_expected(&expected, &lines) {
                true => Ok(()),
                false => Err(format!("{} does not have these lines", path.display())),
            };
        }
        Err("the comment before a block says what it is; tests/documents/page.rs lists them"
            .to_owned())
    }

    fn write(&self, name: &str, contents: &[u8]) -> Result<(), String> {
        let path = self.place.join(name);
        // A link of that name leads into the workspace.
        let is_link = path.symlink_metadata().is_ok_and(|data| data.is_symlink());
        let written = if is_link { fs::remove_file(&path) } else { Ok(()) }
            .and_then(|()| fs::create_dir_all(path.parent().unwrap_or(&self.place)))
            .and_then(|()| fs::write(&path, contents));
        written.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A profile of which a page shows a part, with the plugins as they are
    /// built. A reader's own kernel is not there to be loaded, so of a part that
    /// boots one all else is checked; a pin is of a reader's own file too.
    fn is_part_of_a_profile(&self, text: &str) -> Result<(), String> {
        let boots_own = text.contains("[boot]");
        let boot = if boots_own { "" } else { "[boot]\nguest = \"hello\"\n" };
        let lines = text.lines().filter(|line| !line.starts_with("sha256 = "));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        let text = format!("{boot}{text}").replace("path = \"", "path = \"target/plugins/");
        self.write(".part.toml", text.as_bytes())?;
        plugins_are_current()?;
        let mut check = Command::new(WASMSR);
        self.surround(&mut check, "wasmsr check");
        let output = check.args(["check", ".part.toml"]).output();
        let output = output.map_err(|error| format!("wasmsr: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.success() || boots_own && said.contains("No such file or directory") {
            true => Ok(()),
            false => Err(said.into_owned()),
        }
    }

    fn run(&mut self, block: &Block) -> Done {
        let steps = block.steps();
        let last = steps.len();
        for (number, step) in (1..).zip(&steps) {
            if LONG.iter().any(|chore| step.command.starts_with(chore)) {
                let why = "takes minutes; the comment before the block says why it is not run";
                return Done::Wrong(format!("`{}` {why}", step.command));
            }
            let lacking = can_run_here(&step.command).err();
            if let Some(reason) = lacking.or_else(|| self.needs_unmade(&step.command)) {
                let left_out = steps.get(number - 1..).unwrap_or_default();
                left_out.iter().for_each(|step| self.note_unmade(&step.command, &reason));
                return Done::NotRun(reason);
            }
            let code = block.said("exits with").filter(|_| number == last);
            if let Err(why) = self.perform(step, code) {
                return Done::Wrong(why);
            }
        }
        Done::Right
    }

    /// What was lacking where a file should have been made that a command names.
    fn needs_unmade(&self, command: &str) -> Option<String> {
        words(command).find_map(|word| self.unmade.get(word)).cloned()
    }

    /// Notes the files that a command would have made: what it names and is not
    /// there.
    fn note_unmade(&mut self, command: &str, reason: &str) {
        let files = words(command).filter(|word| word.contains(['.', '/']));
        for file in files.filter(|file| !self.place.join(file).exists()) {
            self.unmade.insert(file.to_owned(), reason.to_owned());
        }
    }

    /// Runs a command; what it prints and its code must be as the page says.
    fn perform(&mut self, step: &Step, code: Option<&str>) -> Result<(), String> {
        if step.command.starts_with("wasmsr ") {
            plugins_are_current()?;
        }
        let printed = self.folder.path().join(".printed");
        let output = File::create(&printed).expect("a temporary file can be made");
        // The shell's own folder afterwards is where the next command runs.
        let place = self.folder.path().join(".place");
        let script = format!("{}\ncode=$?; pwd > '{}'; exit $code", step.command, place.display());
        let mut shell = Command::new("timeout");
        shell.args([PATIENCE_SECONDS, "bash", "--norc", "-c", &script]);
        self.surround(&mut shell, &step.command);
        let shared = output.try_clone().expect("a file can be cloned");
        shell.stdin(Stdio::null()).stdout(output).stderr(shared);
        let status = shell.status().map_err(|error| format!("bash: {error}"))?;
        if let (Ok(place), true) = (fs::read_to_string(&place), !self.is_for_cargo(&step.command)) {
            self.place = PathBuf::from(place.trim_end());
        }

        let printed = fs::read(&printed).expect("a temporary file can be read");
        let printed = String::from_utf8_lossy(&printed);
        let lines: Vec<&str> = printed.lines().collect();
        let ended = status.code().unwrap_or(-1);
        let is_right = match code {
            Some(code) => code == ended.to_string(),
            // What the guest `hello` ends with, too.
            None => ended == 0 || (ended == 1 && step.command.starts_with("wasmsr run")),
        };
        let shown = || format!("$ {}\n{printed}", step.command);
        if ended == OUT_OF_TIME {
            return Err(format!("not done within {PATIENCE_SECONDS} s\n{}", shown()));
        }
        if !is_right {
            return Err(format!("it ended with code {ended}\n{}", shown()));
        }
        match is_as_expected(&step.output, &lines) {
            true => Ok(()),
            false => {
                Err(format!("the page shows\n{}\nand it is\n{}", step.output.join("\n"), shown()))
            }
        }
    }

    /// The workspace's own chores must run in it: cargo knows a package by its
    /// path.
    fn is_for_cargo(&self, command: &str) -> bool {
        self.place == self.folder.path() && command.starts_with("cargo ")
    }

    fn surround(&self, shell: &mut Command, command: &str) {
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            let is_of_cargo = name.starts_with("CARGO_") && name != "CARGO_HOME";
            if is_of_cargo || ["RUST_LOG", "RUST_BACKTRACE", "CLICOLOR_FORCE"].contains(&&*name) {
                shell.env_remove(&*name);
            }
        }
        let commands = Path::new(WASMSR).parent().map(Path::to_path_buf).unwrap_or_default();
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([commands].into_iter().chain(env::split_paths(&path)));
        shell
            .env("PATH", path.expect("the folder of wasmsr has no colon"))
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            // The page's own VMs and no others.
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .env("CARGO_TERM_COLOR", "never");
        match self.is_for_cargo(command) {
            true => shell.current_dir(&self.workspace),
            false => shell
                .current_dir(&self.place)
                // What a reader's own crates are built of is built once.
                .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("documents")),
        };
    }
}

/// What a command says beside its options.
fn words(command: &str) -> impl Iterator<Item = &str> {
    let words = command.split(|c: char| c.is_whitespace() || "'\"=<>|;".contains(c));
    words.filter(|word| !word.is_empty() && !word.starts_with('-'))
}

/// Whether this machine has what a command needs.
fn can_run_here(command: &str) -> Result<(), String> {
    const WITH_KVM: &[&str] = &[
        "wasmsr run",
        "wasmsr swap",
        "wasmsr ps",
        "wasmsr top",
        "wasmsr doctor",
        "cargo xtask demo",
        "cargo run -q -p embed",
    ];
    const TOOLS: &[&str] = &["clang", "wat2wasm", "llvm-objcopy"];
    let tool = TOOLS.iter().find(|tool| command.split(' ').next() == Some(tool));
    if let Some(tool) = tool
        && Command::new(tool).arg("--version").output().is_err()
    {
        return Err(format!("no {tool}"));
    }
    let needs_kvm = WITH_KVM.iter().any(|start| command.starts_with(start));
    match File::options().read(true).write(true).open("/dev/kvm") {
        Err(error) if needs_kvm => Err(format!("/dev/kvm: {error}")),
        _ => Ok(()),
    }
}

/// Says so where a built plugin is older than its sources.
fn plugins_are_current() -> Result<(), String> {
    ["", "c", "wat"].iter().try_for_each(|language| {
        let entries = fs::read_dir(built::plugins().join(language)).into_iter().flatten().flatten();
        let files = entries.map(|entry| entry.path());
        files.filter(|file| file.extension().is_some_and(|ending| ending == "wasm")).try_for_each(
            |file| {
                let name = Path::new(language).join(file.file_stem().unwrap_or_default());
                built::is_current(&name.to_string_lossy())
            },
        )
    })
}

fn is_part_of_a_manifest(text: &str) -> Result<(), String> {
    let about = "[plugin]\nname = \"a\"\nversion = \"1.0.0\"\nabi = 1\n";
    let about = if text.contains("[plugin]") { "" } else { about };
    let text = format!("{text}\n{about}");
    Manifest::parse(text.as_bytes()).map(drop).map_err(|error| described(&error))
}

fn described(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

/// A session goes on without what could not be made.
pub(crate) fn what_was_not_made_is_not_asked_for() {
    let mut session = Session::new(built::workspace());
    session.note_unmade("wasmsr run Cargo.toml --record 'a.jsonl' > b", "no KVM");
    let needs = |command: &str| session.needs_unmade(command);
    assert_eq!(needs("wasmsr recording show a.jsonl | head"), Some("no KVM".to_owned()));
    // That one is there, and `b` reads like a word.
    assert_eq!(needs("wasmsr check Cargo.toml b --a.jsonl"), None);
}
