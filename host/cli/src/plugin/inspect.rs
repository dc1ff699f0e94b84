//! `wasmsr plugin inspect`: what a plugin's file says about itself.

use anyhow::Context;
use bytesize::ByteSize;
use serde::Serialize;
use wasmsr_engine::plugin;

use crate::args;
use crate::console::print;
use crate::exit::{Code, Failure};

/// Prints a plugin's manifest, exports and imports.
pub(crate) fn inspect(args: &args::Inspect) -> Result<Code, Failure> {
    let inspection = plugin::inspect(&args.file)
        .with_context(|| format!("plugin {}", args.file.display()))
        .map_err(Failure::input)?;
    let text = match args.json {
        true => {
            serde_json::to_string_pretty(&Report::new(args, &inspection)).map_err(Failure::host)?
        }
        false => for_people(args, &inspection),
    };
    print(&text).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

#[derive(Serialize)]
struct Report<'a> {
    path: String,
    size: u64,
    sha256: String,
    abi: u32,
    name: &'a str,
    version: String,
    capabilities: Vec<String>,
    optional_capabilities: Vec<String>,
    manifest: &'a str,
    exports: Vec<Item<'a>>,
    imports: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    ty: &'a str,
}

impl<'a> Report<'a> {
    fn new(args: &args::Inspect, inspection: &'a plugin::Inspection) -> Self {
        let about = &inspection.manifest.plugin;
        let needs = &inspection.manifest.needs;
        Report {
            path: args.file.display().to_string(),
            size: inspection.size,
            sha256: inspection.sha256.to_string(),
            abi: about.abi,
            name: &about.name,
            version: about.version.to_string(),
            capabilities: needs.capabilities.iter().map(ToString::to_string).collect(),
            optional_capabilities: needs.optional.iter().map(ToString::to_string).collect(),
            manifest: &inspection.manifest_text,
            exports: items(&inspection.exports),
            imports: items(&inspection.imports),
        }
    }
}

fn items(pairs: &[(String, String)]) -> Vec<Item<'_>> {
    pairs.iter().map(|(name, ty)| Item { name, ty }).collect()
}

fn for_people(args: &args::Inspect, inspection: &plugin::Inspection) -> String {
    let about = &inspection.manifest.plugin;
    let list = |items: &[(String, String)]| match items {
        [] => "  none\n".to_owned(),
        items => items.iter().map(|(name, ty)| format!("  {name}  {ty}\n")).collect(),
    };
    let manifest: String =
        inspection.manifest_text.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "plugin   {} {}\nfile     {}\nsize     {} ({} bytes)\nSHA-256  {}\nABI      {}\n\n\
         manifest\n{manifest}\nexports\n{}\nimports\n{}",
        about.name,
        about.version,
        args.file.display(),
        ByteSize(inspection.size).display().iec(),
        inspection.size,
        inspection.sha256,
        about.abi,
        list(&inspection.exports),
        list(&inspection.imports),
    )
}
