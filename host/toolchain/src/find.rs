//! Finds a Rust toolchain that compiles for Wasm.
//!
//! Three are tried, in this order: the active toolchain if it has the target, the active
//! toolchain after rustup has added the target, and Debian's own, whose packages include
//! the sources of the standard library.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cargo::{cargo, forget_own_package};
use crate::stderr::say;

/// The target that plugins are built for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's Rust that follows upstream closely, kept for web browsers.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Debian's linker for Wasm, and its package.
const LLD: (&str, &str) = ("/usr/bin/wasm-ld", "lld");

/// How long rustup may take: a target is some 20 MB, and a server that cannot be reached
/// must not delay longer.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// A way to compile for [`TARGET`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WasmToolchain {
    /// The toolchain on PATH, or the one that runs this program.
    Active,
    /// Debian's, which builds `core` and `alloc` itself.
    Debian {
        /// The linker for Wasm.
        linker: PathBuf,
    },
}

/// There is no such toolchain. The text says what to install.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// The Debian packages that are missing.
    pub packages: Vec<&'static str>,
    /// Whether there is a compiler, for any target.
    pub has_rustc: bool,
    /// Whether there is a cargo.
    pub has_cargo: bool,
    /// Whether there is a rustup.
    pub has_rustup: bool,
}

impl std::error::Error for Missing {}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause(), self.remedy())
    }
}

impl Missing {
    /// What is missing.
    pub fn cause(&self) -> String {
        match (self.has_rustc, self.has_cargo, self.has_rustup) {
            (false, _, false) => "there is no rustc to build plugins with".to_owned(),
            (_, false, _) => "there is no cargo to build plugins with".to_owned(),
            (_, true, true) => {
                format!("no toolchain here compiles for {TARGET}, the target of plugins")
            }
            (true, true, false) => format!(
                "rustc lacks {TARGET}, the target of plugins, and there is no rustup to add it"
            ),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let rustup = match self.has_cargo && self.has_rustup {
            true => format!("run `rustup target add {TARGET}`"),
            false => "install Rust from https://rustup.rs".to_owned(),
        };
        format!("{rustup}, or on Debian, as root, `apt-get install {}`", self.packages.join(" "))
    }
}

impl WasmToolchain {
    /// Looks for a toolchain, and changes nothing. Which toolchain is active may depend on
    /// the folder.
    ///
    /// # Errors
    /// [`Missing`]
    pub fn find(folder: &Path) -> Result<Self, Missing> {
        if has_cargo() && active_has_target(folder) {
            return Ok(Self::Active);
        }
        Self::debian(folder)
    }

    /// Looks for a toolchain. If the active one lacks the target, rustup adds it, after a
    /// line on standard error about that.
    ///
    /// # Errors
    /// [`Missing`]
    pub fn find_or_add(folder: &Path) -> Result<Self, Missing> {
        if has_cargo() && (active_has_target(folder) || rustup_adds_target(folder)) {
            return Ok(Self::Active);
        }
        Self::debian(folder)
    }

    fn debian(folder: &Path) -> Result<Self, Missing> {
        let mut packages: Vec<_> =
            DEBIAN_PACKAGES.into_iter().filter(|package| !is_debian_package(package)).collect();
        let linker = linker(folder);
        if linker.is_none() {
            packages.push(LLD.1);
        }
        match linker {
            Some(linker) if packages.is_empty() => Ok(Self::Debian { linker }),
            _ => Err(Missing {
                packages,
                has_rustc: is_installed("rustc"),
                has_cargo: has_cargo(),
                has_rustup: is_installed("rustup"),
            }),
        }
    }

    /// `cargo build` with this toolchain; the caller adds [`TARGET`].
    pub(crate) fn cargo_build(&self) -> Command {
        let mut cargo = match self {
            Self::Active => {
                let mut cargo = cargo();
                cargo.arg("build");
                cargo
            }
            Self::Debian { linker } => debian_cargo_build(linker),
        };
        // If one of these is set, cargo ignores the flags of its configuration, among
        // them the size of a plugin's stack.
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        cargo
    }
}

impl fmt::Display for WasmToolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => write!(f, "rustc compiles for {TARGET}"),
            Self::Debian { .. } => write!(f, "Debian's {DEBIAN_RUSTC} compiles for {TARGET}"),
        }
    }
}

fn debian_cargo_build(linker: &Path) -> Command {
    let mut cargo = Command::new(DEBIAN_CARGO);
    forget_own_package(&mut cargo);
    // These variables would lead to rustup's compiler.
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "LD_LIBRARY_PATH", "RUSTDOC"] {
        cargo.env_remove(name);
    }
    cargo
        .args(["build", "-Zbuild-std=core,alloc"])
        .env("RUSTC", DEBIAN_RUSTC)
        // Lets a stable compiler build the standard library.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    cargo
}

fn active_has_target(folder: &Path) -> bool {
    let Some(folder) = printed(folder, &["--print", "target-libdir", "--target", TARGET]) else {
        return false;
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn rustup_adds_target(folder: &Path) -> bool {
    if !is_installed("rustup") {
        return false;
    }
    say(format!("adding the target {TARGET} with rustup\n").as_bytes());
    let rustup = Command::new("rustup")
        .current_dir(folder)
        .args(["--quiet", "target", "add", TARGET])
        .env("RUSTUP_MAX_RETRIES", "0")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let added = rustup.is_ok_and(|mut rustup| ends_well_within(RUSTUP_LIMIT, &mut rustup));
    if !added {
        say(b"rustup cannot add the target\n");
    }
    added && active_has_target(folder)
}

/// Waits for a program, and kills it when the time is over. Whether it succeeded.
fn ends_well_within(limit: Duration, child: &mut Child) -> bool {
    const POLL: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
            _ => {
                // Both fail if it has just ended.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// The linker for Wasm: `rust-lld` of a rustup toolchain, or that of Debian's package
/// `lld`.
fn linker(folder: &Path) -> Option<PathBuf> {
    const BUNDLED: &str = "lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld";
    let sysroot = printed(folder, &["--print", "sysroot"]);
    let bundled = sysroot.map(|sysroot| Path::new(&sysroot).join(BUNDLED));
    bundled.filter(|path| path.is_file()).or_else(|| {
        let lld = PathBuf::from(LLD.0);
        lld.is_file().then_some(lld)
    })
}

/// What the active rustc of a folder prints, if it succeeds.
fn printed(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("rustc")
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether there is a cargo for [`cargo`] to run.
fn has_cargo() -> bool {
    std::env::var_os("CARGO").is_some() || is_installed("cargo")
}

/// Whether a program of that name is on PATH.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn is_debian_package(package: &str) -> bool {
    let status = Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output();
    status.is_ok_and(|output| output.stdout == b"installed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(there: &[&str], cause: &str, remedy: &str) {
        let missing = Missing {
            packages: vec!["rustc-web", "lld"],
            has_rustc: there.contains(&"rustc"),
            has_cargo: there.contains(&"cargo"),
            has_rustup: there.contains(&"rustup"),
        };
        assert!(missing.cause().contains(cause), "{missing}");
        assert!(missing.remedy().contains(remedy), "{missing}");
        assert!(missing.remedy().contains("`apt-get install rustc-web lld`"), "{missing}");
    }

    #[test]
    fn what_is_missing_comes_with_what_to_do() {
        let add = "`rustup target add wasm32-unknown-unknown`";
        check(&["rustc", "cargo", "rustup"], "compiles for wasm32", add);
        check(&["cargo", "rustup"], "compiles for wasm32", add);
        check(&["rustc", "cargo"], "no rustup", "https://rustup.rs");
        check(&["rustc"], "no cargo", "https://rustup.rs");
        check(&["rustc", "rustup"], "no cargo", "https://rustup.rs");
        check(&[], "no rustc", "https://rustup.rs");
    }

    #[test]
    fn flags_of_the_environment_do_not_hide_those_of_the_crate() {
        for toolchain in [WasmToolchain::Active, WasmToolchain::Debian { linker: "lld".into() }] {
            let cargo = toolchain.cargo_build();
            for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
                let removed = cargo.get_envs().any(|(key, value)| key == name && value.is_none());
                assert!(removed, "{toolchain}: {name}");
            }
        }
    }

    #[test]
    fn a_program_that_does_not_end_is_stopped() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!ends_well_within(Duration::from_millis(1), &mut child));
        assert!(child.try_wait().unwrap().is_some());
        let mut child = Command::new("true").spawn().unwrap();
        assert!(ends_well_within(Duration::from_secs(60), &mut child));
    }
}
