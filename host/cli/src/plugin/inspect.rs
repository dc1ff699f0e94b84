//! `wasmsr plugin inspect`: what a plugin's file says about itself. It is safe for files
//! that are not trusted.

use anyhow::Context;
use bytesize::ByteSize;
use wasmsr_engine::plugin;

use super::report::{Item, Report};
use super::subject::filter_of;
use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;
use crate::terminal::plain::{plain, plain_up_to, pretty_json};

/// Prints a plugin's manifest, exports and imports.
pub(crate) fn inspect(args: &args::Inspect) -> Result<Code, Failure> {
    let inspection = plugin::inspect(&args.file)
        .with_context(|| format!("plugin {}", args.file.display()))
        .map_err(Failure::input)?;
    let report = Report::new(&args.file, &inspection);
    let text = match args.json {
        true => pretty_json(&report).map_err(Failure::host)?,
        false => for_people(&report),
    };
    print(&text).map_err(Failure::host)?;
    if let Err(error) = filter_of(&inspection.manifest) {
        tracing::warn!("no VM can run it: {error}");
    }
    Ok(Code::SUCCESS)
}

fn for_people(report: &Report) -> String {
    let list = |items: &[Item]| match items {
        [] => "  none\n".to_owned(),
        items => {
            let line = |Item { name, ty }: &Item| format!("  {}  {ty}\n", plain(name));
            items.iter().map(line).collect()
        }
    };
    // Lines are shown whole: a capability may be at the end of a long line.
    let line = |line: &str| plain_up_to(&line.replace('\t', "    "), usize::MAX);
    let manifest: String =
        report.manifest.lines().map(|text| format!("  {}\n", line(text))).collect();
    format!(
        "plugin   {} {}\nfile     {}\nsize     {} ({} bytes)\nSHA-256  {}\nABI      {}\n\n\
         manifest\n{manifest}\nexports\n{}\nimports\n{}",
        report.name,
        plain(&report.version),
        report.path,
        ByteSize(report.size).display().iec(),
        report.size,
        report.sha256,
        report.abi,
        list(&report.exports),
        list(&report.imports),
    )
}
