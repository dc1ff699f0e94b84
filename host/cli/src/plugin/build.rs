//! `wasmsr plugin build`: builds a plugin's crate into a `.wasm` file.

use bytesize::ByteSize;

use super::report::Report;
use super::subject::Subject;
use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;
use crate::terminal::plain::{plain, pretty_json};

/// Builds a crate, and prints what the file is and what it asks for.
pub(crate) fn build(args: &args::Build) -> Result<Code, Failure> {
    let subject = Subject::build(&args.dir)?;
    let report = Report::new(&subject.wasm, &subject.inspection);
    let text = match args.json {
        true => pretty_json(&report).map_err(Failure::host)?,
        false => for_people(&report),
    };
    print(&text).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

fn for_people(report: &Report) -> String {
    let exports: Vec<String> = report.exports.iter().map(|export| plain(&export.name)).collect();
    format!(
        "plugin      {} {}\nfile        {}\nsize        {} ({} bytes)\n\
         SHA-256     {}\nABI         {}\nexports     {}\n{}",
        report.name,
        plain(&report.version),
        report.path,
        ByteSize(report.size).display().iec(),
        report.size,
        report.sha256,
        report.abi,
        exports.join(", "),
        report.asks.for_people().trim_end(),
    )
}
