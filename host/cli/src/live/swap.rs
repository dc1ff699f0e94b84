//! `wasmsr swap` and `wasmsr rollback`: another set of plugins for a running VM.

use std::path::{Path, PathBuf};

use wasmsr_stats::control::{Operation, ProbationTerms, Swap, SwapPlugin, Swapped};

use super::operation::{LONGEST, perform};
use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::{print, say};
use crate::terminal::plain::{plain, plain_up_to};

/// Puts another set in charge.
pub(crate) fn swap(args: &args::Swap) -> Result<Code, Failure> {
    let (vm, _) = wasmsr_stats::find(Some(&args.vm))?;
    let plugins = args.plugin.chunks_exact(2).map(|pair| match pair {
        [name, file] => Ok(SwapPlugin { name: name.clone(), file: absolute(Path::new(file))? }),
        _ => Err(Failure::input(anyhow::anyhow!("--plugin takes a name and a file"))),
    });
    let is_watched = !args.dry_run && (args.probation > 0.0 || args.probation_accesses.is_some());
    let asked = Swap {
        profile: args.profile.as_deref().map(absolute).transpose()?,
        plugins: plugins.collect::<Result<_, _>>()?,
        dry_run: args.dry_run,
        expect: args.expect.clone(),
        probation: is_watched.then(|| ProbationTerms {
            seconds: Some(args.probation).filter(|seconds| *seconds > 0.0),
            accesses: args.probation_accesses,
            differences: args.differences,
            may_differ: args.may_differ.clone(),
        }),
    };
    let waits = args.wait && is_watched;
    let done = perform(&vm, "swap", &asked, |it| !waits || it.verdict.is_some())?;
    show(&done, args.json, if args.dry_run { "would be" } else { "is" })?;
    if is_watched && !waits && !args.json {
        say("wasmsr: it is on probation; `wasmsr ps` says how that goes");
    }
    match done.verdict.as_deref() {
        Some(verdict) if verdict.starts_with("returned") => Ok(Code::DIFFERENT),
        _ => Ok(Code::SUCCESS),
    }
}

/// Puts the set before in charge again.
pub(crate) fn rollback(args: &args::Rollback) -> Result<Code, Failure> {
    let (vm, _) = wasmsr_stats::find(Some(&args.vm))?;
    let done = perform(&vm, "rollback", &serde_json::json!({}), |_| true)?;
    show(&done, args.json, "is")?;
    Ok(Code::SUCCESS)
}

fn show(done: &Operation, json: bool, verb: &str) -> Result<(), Failure> {
    let text = match json {
        true => serde_json::to_string_pretty(done).map_err(Failure::host)?,
        false => {
            let result = done.result.clone().unwrap_or_default();
            let mut text = for_people(&result, verb);
            if let Some(verdict) = &done.verdict {
                text.push_str(&format!("\nprobation: {}", plain_up_to(verdict, LONGEST)));
            }
            text
        }
    };
    print(&text).map_err(Failure::host)
}

fn for_people(swapped: &Swapped, verb: &str) -> String {
    let filter = if swapped.filter_changed { "other" } else { "the same" };
    let mut lines = vec![format!(
        "generation {} {verb} in charge, set {}; {filter} accesses exit; made ready in {:.1} ms, \
         vCPUs held for {:.0} us",
        swapped.generation,
        plain(&swapped.set),
        swapped.prepared_ms,
        swapped.cut_us,
    )];
    for plugin in &swapped.plugins {
        lines.push(format!("  plugin {}: {}", plain(&plugin.name), plain(&plugin.state)));
        for lost in &plugin.lost {
            lines.push(format!("  plugin {}: lost {}", plain(&plugin.name), plain(lost)));
        }
    }
    lines
        .extend(swapped.changes.iter().map(|change| format!("  {}", plain_up_to(change, LONGEST))));
    lines.join("\n")
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(Failure::input)
}
