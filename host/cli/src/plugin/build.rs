//! `wasmsr plugin build`: a plugin's crate becomes a `.wasm` file.

use bytesize::ByteSize;
use serde::Serialize;

use super::asks::Asks;
use super::subject::Subject;
use crate::args;
use crate::console::print;
use crate::exit::{Code, Failure};

/// Builds a crate, and prints what came of it and what it asks for.
pub(crate) fn build(args: &args::Build) -> Result<Code, Failure> {
    let report = Report::new(&Subject::build(&args.dir)?);
    let text = match args.json {
        true => serde_json::to_string_pretty(&report).map_err(Failure::host)?,
        false => report.for_people(),
    };
    print(&text).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

#[derive(Serialize)]
struct Report {
    name: String,
    version: String,
    path: String,
    size: u64,
    sha256: String,
    abi: u32,
    #[serde(flatten)]
    asks: Asks,
    exports: Vec<String>,
}

impl Report {
    fn new(subject: &Subject) -> Self {
        let inspection = &subject.inspection;
        let about = &inspection.manifest.plugin;
        Report {
            name: about.name.clone(),
            version: about.version.to_string(),
            path: subject.wasm.display().to_string(),
            size: inspection.size,
            sha256: inspection.sha256.to_string(),
            abi: about.abi,
            asks: Asks::of(&inspection.manifest),
            exports: inspection.exports.iter().map(|(name, _)| name.clone()).collect(),
        }
    }

    fn for_people(&self) -> String {
        let size = ByteSize(self.size).display().iec().to_string();
        format!(
            "plugin      {} {}\nfile        {}\nsize        {size} ({} bytes)\n\
             SHA-256     {}\nABI         {}\nexports     {}\n{}",
            self.name,
            self.version,
            self.path,
            self.size,
            self.sha256,
            self.abi,
            self.exports.join(", "),
            self.asks.for_people().trim_end(),
        )
    }
}
