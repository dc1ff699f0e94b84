//! `wasmsr doctor`: whether this host can run VMs, and what to do if it cannot.

use std::path::{Path, PathBuf};

use serde::Serialize;
use wasmsr_engine::plugin::{CacheError, CodeCache};
use wasmsr_toolchain::{Missing, WasmToolchain};
use wasmsr_vmm::{Finding, Fitness};

use crate::args;
use crate::exit::{Code, Failure};
use crate::loaded::cache_directory;
use crate::terminal::console::print;
use crate::terminal::tables::table;

/// Checks the host and prints one line per point. Code 12 if no VM can run.
pub(crate) fn doctor(args: &args::Doctor) -> Result<Code, Failure> {
    let mut findings = wasmsr_vmm::survey();
    let opened = cache_directory(&args.cache)
        .map(|directory| CodeCache::open(&directory).map(|_| directory));
    findings.extend([cache(opened), wasm_toolchain(&WasmToolchain::find(Path::new(".")))]);
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
    /// `null` where all is well.
    remedy: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(finding: &'a Finding) -> Self {
        Line {
            what: finding.what,
            verdict: word(finding.verdict),
            found: &finding.found,
            remedy: finding.remedy.as_deref(),
        }
    }
}

fn word(verdict: Fitness) -> &'static str {
    match verdict {
        Fitness::Good => "good",
        Fitness::Limited => "limited",
        Fitness::Unfit => "unfit",
    }
}

/// One row per point, and below it what to do.
fn for_people(findings: &[Finding]) -> String {
    let mut table = table(["POINT", "VERDICT", "FOUND"], &[]);
    for finding in findings {
        table.add_row([finding.what, word(finding.verdict), &finding.found]);
        if let Some(remedy) = &finding.remedy {
            table.add_row(["", "", &format!("-> {remedy}")]);
        }
    }
    table.trim_fmt()
}

/// Whether the cache can be used; `None` if there is no directory for it.
fn cache(opened: Option<Result<PathBuf, CacheError>>) -> Finding {
    const WHAT: &str = "cache";
    const SO: &str = "so every start compiles its plugins";
    match opened {
        Some(Ok(directory)) => {
            Finding::good(WHAT, format!("{} keeps compiled plugins", directory.display()))
        }
        Some(Err(CacheError::Open { path, source })) => Finding::limited(
            WHAT,
            format!("{} cannot be opened ({source}), {SO}", path.display()),
            "check its permissions, or choose another with --cache-dir",
        ),
        Some(Err(CacheError::Exposed { path, why, user })) => Finding::limited(
            WHAT,
            format!("{}: {why}, but the files there are run as code, {SO}", path.display()),
            format!("`chown {user}` and `chmod 700` it, or choose another with --cache-dir"),
        ),
        None => Finding::limited(
            WHAT,
            format!("none, {SO}"),
            "set HOME or XDG_CACHE_HOME, or name a directory with --cache-dir",
        ),
    }
}

/// The toolchain that authors of plugins need; running plugins needs none.
fn wasm_toolchain(found: &Result<WasmToolchain, Missing>) -> Finding {
    const WHAT: &str = "Wasm toolchain";
    match found {
        Ok(toolchain) => Finding::good(WHAT, toolchain.to_string()),
        Err(missing) => Finding::limited(WHAT, missing.cause(), missing.remedy()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[track_caller]
    fn check(finding: &Finding, verdict: Fitness, found: &str, remedy: &str) {
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(finding.found.contains(found), "{finding:?}");
        assert!(finding.remedy.as_deref().unwrap_or_default().contains(remedy), "{finding:?}");
        let line = serde_json::to_value(Line::of(finding)).unwrap();
        assert_eq!(line["remedy"].is_null(), verdict == Fitness::Good, "{line}");
    }

    #[test]
    fn without_a_cache_every_start_compiles() {
        let path = || PathBuf::from("/c");
        check(&cache(Some(Ok(path()))), Fitness::Good, "/c keeps", "");
        let source = io::ErrorKind::PermissionDenied.into();
        let closed = cache(Some(Err(CacheError::Open { path: path(), source })));
        check(&closed, Fitness::Limited, "/c cannot be opened", "--cache-dir");
        let exposed = CacheError::Exposed { path: path(), why: "others may write".into(), user: 7 };
        check(&cache(Some(Err(exposed))), Fitness::Limited, "run as code", "`chown 7`");
        check(&cache(None), Fitness::Limited, "none", "--cache-dir");
    }

    #[test]
    fn a_toolchain_is_for_authors() {
        check(&wasm_toolchain(&Ok(WasmToolchain::Active)), Fitness::Good, "compiles", "");
        let missing = Missing { packages: vec!["lld"], has_cargo: false, ..Missing::default() };
        check(&wasm_toolchain(&Err(missing)), Fitness::Limited, "no rustc", "rustup.rs");
    }

    #[test]
    fn what_to_do_stands_below_what_was_found() {
        let points = [Finding::good("a", "well"), Finding::unfit("b", "broken", "mend it")];
        let text = for_people(&points);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected: [&[&str]; 4] = [
            &["POINT", "VERDICT", "FOUND"],
            &["a", "good", "well"],
            &["b", "unfit", "broken"],
            &["->", "mend", "it"],
        ];
        assert_eq!(lines, expected);
    }
}
