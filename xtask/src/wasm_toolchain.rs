//! A Rust toolchain that compiles for Wasm, found or set up.
//!
//! In this order: the active toolchain has the target; rustup can add it;
//! Debian's own toolchain, whose packages come with the library's sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{apt, process};

/// The target that plugins are built for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's Rust that follows upstream closely, kept for web browsers.
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A target is some 20 MB; a server that cannot be reached shall not cost
/// more than this.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// A way to compile for [`TARGET`].
pub(crate) enum WasmToolchain {
    /// The toolchain that runs this chore.
    Active,
    /// Debian's, which builds `core` and `alloc` itself.
    Debian {
        /// The linker for Wasm.
        linker: PathBuf,
    },
}

impl WasmToolchain {
    /// Finds one, installing what is missing where that is possible.
    pub(crate) fn find() -> Result<Self> {
        if active_has_target() || rustup_adds_target() {
            return Ok(Self::Active);
        }
        let lacking = apt::lacking(DEBIAN_PACKAGES);
        if !lacking.is_empty() {
            if !apt::can_install() {
                bail!(
                    "no toolchain here compiles for {TARGET}: run `rustup target add {TARGET}`, \
                     or on Debian, as root, `apt-get install {}`",
                    DEBIAN_PACKAGES.join(" ")
                );
            }
            apt::install(&lacking)?;
        }
        Ok(Self::Debian { linker: linker()? })
    }

    /// `cargo build` with this toolchain; the caller adds [`TARGET`].
    pub(crate) fn cargo_build(&self) -> Command {
        match self {
            Self::Active => {
                let mut cargo = process::cargo();
                cargo.arg("build");
                cargo
            }
            Self::Debian { linker } => debian_cargo_build(linker),
        }
    }
}

fn debian_cargo_build(linker: &Path) -> Command {
    let mut cargo = Command::new(DEBIAN_CARGO);
    process::forget_own_package(&mut cargo);
    // What leads from rustup's cargo to rustup's compiler.
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

fn active_has_target() -> bool {
    let libraries = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::null())
        .output();
    let Ok(libraries) = libraries else {
        return false;
    };
    let folder = String::from_utf8_lossy(&libraries.stdout);
    let Ok(entries) = fs::read_dir(folder.trim()) else {
        return false;
    };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn rustup_adds_target() -> bool {
    if !process::is_installed("rustup") {
        return false;
    }
    eprintln!("adding the target {TARGET} with rustup");
    let mut rustup = Command::new("rustup");
    rustup
        .args(["--quiet", "target", "add", TARGET])
        .env("RUSTUP_MAX_RETRIES", "0")
        .env_remove("RUST_BACKTRACE");
    match process::run_within(RUSTUP_LIMIT, &mut rustup) {
        Ok(()) => active_has_target(),
        Err(error) => {
            eprintln!("rustup cannot add the target ({error:#}); trying Debian's toolchain");
            false
        }
    }
}

/// rustup's toolchains bring `rust-lld`; Debian's package `lld` is the other
/// source.
fn linker() -> Result<PathBuf> {
    const LLD: &str = "/usr/bin/wasm-ld";
    let sysroot = process::output_of(Command::new("rustc").args(["--print", "sysroot"]));
    if let Ok(sysroot) = sysroot {
        let bundled = "lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld";
        let rust_lld = Path::new(sysroot.trim()).join(bundled);
        if rust_lld.is_file() {
            return Ok(rust_lld);
        }
    }
    if !Path::new(LLD).is_file() {
        apt::install(&["lld"]).context("no linker for Wasm")?;
    }
    Ok(LLD.into())
}
