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
mod say;

pub use build::{BuildError, Built, Output, build, publish};
pub use cargo::{cargo, forget_own_package};
pub use crates::{CratesError, PluginCrate, PluginCrates};
pub use find::{Missing, TARGET, WasmToolchain};
