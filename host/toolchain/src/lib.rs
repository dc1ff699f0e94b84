//! Builds plugin crates: finds a Rust toolchain that compiles for Wasm, asks cargo for
//! the crates of a workspace, builds them, and puts the files where profiles look for
//! them.
//!
//! Shared by the command and the chores of this workspace, so that there is one
//! way to build a plugin.

// These panic if the reader of the stream has gone.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod build;
mod cargo;
mod crates;
mod find;
mod stderr;

pub use build::{BuildError, Built, Output, build, publish};
pub use cargo::{cargo, forget_own_package};
pub use crates::{CratesError, PluginCrate, PluginCrates};
pub use find::{Missing, TARGET, WasmToolchain};
