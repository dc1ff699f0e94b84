//! Black-box tests of the `wasmsr` command; how to write one is in
//! `tests/README.md`.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod authoring;
mod bad_input;
mod boots;
#[path = "../built.rs"]
mod built;
mod cache;
mod chains;
mod check;
mod colours;
mod conformance;
mod containment;
mod contract;
mod convert;
mod cpuid;
mod doctor;
mod ends;
mod explain;
mod fixture;
mod harness;
mod hello;
mod horizon;
mod hostcalls;
mod hostile;
mod inspect;
mod intercepts;
mod kernels;
mod left_to_kvm;
mod linux;
mod live;
mod milan;
mod msr_contract;
mod msrs;
mod multiboot;
mod no_kvm;
mod pack;
mod plugin_bench;
mod plugin_test;
mod plugins;
mod policy;
mod progress;
mod proof;
mod readme;
mod record;
mod record_file;
mod record_ring;
mod recording;
mod recording_report;
mod replay;
mod scope;
mod shadow;
mod shell_support;
mod stderr;
mod summary;
mod swap;
mod swapped_recordings;
mod timers;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use fixture::Registered;

fn main() -> ExitCode {
    if let Some(directory) = env::var_os("WASMSR_ASSEMBLE") {
        fixture::assemble_all(Path::new(&directory));
        return ExitCode::SUCCESS;
    }
    let registered = inventory::iter::<Registered>.into_iter();
    let mut trials: Vec<Trial> = registered.flat_map(|Registered(tests)| tests()).collect();
    // They come as the linker has laid them.
    trials.sort_by(|a, b| a.name().cmp(b.name()));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
