//! Builds plugin crates: a Rust toolchain that compiles for Wasm, the crates of
//! a workspace as cargo tells them, and the built files put where profiles look
//! for them.
//!
//! Shared by the command and the chores of this workspace, so that there is one
//! way to build a plugin.

// These panic where nobody reads any more.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod build;
mod cargo;
mod crates;
mod find;

use std::io::Write as _;

pub use build::{BuildError, Built, Output, build, publish};
pub use cargo::{cargo, forget_own_package};
pub use crates::{CratesError, PluginCrate, PluginCrates};
pub use find::{Missing, TARGET, WasmToolchain};

/// Writes to standard error, for whoever waits for a build. Where that has gone,
/// nobody is left to be told.
fn say(text: &[u8]) {
    let _ = std::io::stderr().write_all(text);
}
