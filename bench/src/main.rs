//! `cargo bench -p wasmsr-bench [-- [--json] [NAME...]]`: how fast wasmsr is,
//! each figure beside a reference that does the same without it.
//!
//! wasmsr and the reference are measured in turn in one run, so a slow machine
//! slows both.

mod dispatch;
mod figure;
mod guest;
mod linux;
mod lookup;
mod measure;
mod packing;
mod plugins;
mod process;
mod real_loop;

use std::process::ExitCode;

use figure::{Bench, Report};

/// In the order in which they are reported.
const BENCHES: &[Bench] = &[
    dispatch::READ,
    dispatch::WRITE,
    dispatch::SWAPPABLE,
    dispatch::SCALING,
    lookup::ONE,
    lookup::HUNDRED,
    lookup::TEN_THOUSAND,
    packing::PACKING,
    real_loop::REAL_LOOP,
    process::COLD,
    process::WARM,
    process::MEMORY,
    linux::FIRST_BYTE,
    linux::INIT,
];

fn main() -> ExitCode {
    let mut report = Report::for_people();
    let mut wanted = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            // An argument that cargo itself adds.
            "--bench" => {}
            "--json" => report = Report::Json,
            name => wanted.push(name.to_owned()),
        }
    }
    let mut failed = false;
    for bench in BENCHES {
        if !wanted.is_empty() && !wanted.iter().any(|name| bench.name.contains(name)) {
            continue;
        }
        eprintln!("measuring {}", bench.name);
        match (bench.run)() {
            Ok(result) => report.add(bench, &result),
            Err(error) => {
                eprintln!("error: {}: {error:#}", bench.name);
                failed = true;
            }
        }
    }
    report.finish();
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
