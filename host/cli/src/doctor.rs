//! `wasmsr doctor`: whether this host is fit, and what to do where it is not.

use serde::Serialize;
use wasmsr_engine::plugin::CodeCache;
use wasmsr_toolchain::WasmToolchain;
use wasmsr_vmm::{Finding, Fitness};

use crate::args;
use crate::console::print;
use crate::exit::{Code, Failure};
use crate::loaded::cache_directory;
use crate::tables::table;

/// Looks at the host and prints a line a point. Code 12 if nothing would run.
pub(crate) fn doctor(args: &args::Doctor) -> Result<Code, Failure> {
    let mut findings = wasmsr_vmm::survey();
    findings.extend([cache(&args.cache), wasm_toolchain()]);
    let unfit = findings.iter().any(|finding| finding.verdict == Fitness::Unfit);
    let text = match args.json {
        true => {
            let report = Report { fit: !unfit, findings: findings.iter().map(Line::of).collect() };
            serde_json::to_string_pretty(&report).map_err(Failure::host)?
        }
        false => for_people(&findings),
    };
    print(&text).map_err(Failure::host)?;
    Ok(if unfit { Code::HOST } else { Code::SUCCESS })
}

#[derive(Serialize)]
struct Report<'a> {
    fit: bool,
    findings: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    what: &'a str,
    verdict: &'static str,
    found: &'a str,
}

impl<'a> Line<'a> {
    fn of(finding: &'a Finding) -> Self {
        Line { what: finding.what, verdict: word(finding.verdict), found: &finding.found }
    }
}

fn word(verdict: Fitness) -> &'static str {
    match verdict {
        Fitness::Good => "good",
        Fitness::Limited => "limited",
        Fitness::Unfit => "unfit",
    }
}

fn for_people(findings: &[Finding]) -> String {
    let mut table = table(["POINT", "VERDICT", "FOUND"], &[]);
    for finding in findings {
        table.add_row([finding.what, word(finding.verdict), &finding.found]);
    }
    table.trim_fmt()
}

fn cache(args: &args::Cache) -> Finding {
    let (verdict, found) = match cache_directory(args)
        .map(|directory| CodeCache::open(&directory).map(|_| directory))
    {
        Some(Ok(directory)) => {
            (Fitness::Good, format!("{} keeps compiled plugins", directory.display()))
        }
        Some(Err(error)) => {
            (Fitness::Limited, format!("{error} with --cache-dir; every start compiles"))
        }
        None => (Fitness::Limited, "none, so every start compiles its plugins".to_owned()),
    };
    Finding { what: "cache", verdict, found }
}

/// What authors of plugins need; running them takes none.
fn wasm_toolchain() -> Finding {
    let (verdict, found) = match WasmToolchain::find() {
        Ok(toolchain) => (Fitness::Good, toolchain.to_string()),
        Err(missing) => (Fitness::Limited, missing.to_string()),
    };
    Finding { what: "Wasm toolchain", verdict, found }
}
