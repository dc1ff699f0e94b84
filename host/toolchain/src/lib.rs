//! Builds plugin crates: a Rust toolchain that compiles for Wasm, the crates of
//! a workspace as cargo tells them, and the built files put where profiles look
//! for them.
//!
//! Shared by the command and the chores of this workspace, so that there is one
//! way to build a plugin.

mod build;
mod cargo;
mod crates;
mod find;

pub use build::{BuildError, Built, Output, build, publish};
pub use cargo::{cargo, forget_own_package};
pub use crates::{CratesError, PluginCrate, PluginCrates};
pub use find::{Missing, TARGET, WasmToolchain};
