//! What the README shows of Linux, where Linux can run; `tests/documents` tries
//! all else that the documents show.

#[path = "../documents/page.rs"]
#[allow(dead_code, reason = "made for all pages; here it reads one")]
mod page;

use crate::fixture::{Outcome, Running, Workdir, apply, require_linux, shipped, test, wasmsr};

const README: &str = include_str!("../../README.md");

#[apply(test)]
fn linux_prints_what_the_readme_shows() -> Outcome {
    let linux = require_linux()?;
    let blocks = page::blocks(README);
    let profile = blocks.iter().find(|block| block.said("file") == Some("linux.toml"));
    let profile = &profile.expect("the README has a linux.toml").text;
    let session = blocks.iter().find(|block| block.text.contains(" run wasmsr run linux.toml"));
    let steps = session.expect("the README runs it").steps();

    let workdir = Workdir::new();
    workdir.put("counter.wasm", shipped("counter")?);
    workdir.put("arch_capabilities.wasm", shipped("arch_capabilities")?);
    let linux = format!("{}/", linux.display());
    let profile = profile.replace("target/nested/linux/", &linux).replace("target/plugins/", "");
    workdir.put("linux.toml", profile);
    let run = Running::start(wasmsr(&["run", "linux.toml"]).current_dir(workdir.path()));
    let run = run.finish().exited(0);
    // On a terminal the log comes in between, long before the end.
    let end = run.stderr.lines().skip_while(|line| !line.starts_with("wasmsr: "));
    let lines = run.stdout.lines().chain(end).filter(|line| !line.trim().is_empty());
    let lines: Vec<&str> = lines.collect();
    let [step] = steps.as_slice() else { panic!("the README runs one command there") };
    assert!(page::is_as_expected(&step.output, &lines), "the README shows otherwise:\n{run}");
    Ok(())
}
