//! Reads the tables in `data/`, checks them, and makes them static arrays.

use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "build/emit.rs"]
mod emit;
#[path = "build/plugins.rs"]
mod plugins;
#[path = "build/read.rs"]
mod read;

const FILES: &[&str] = &["architectural", "x2apic", "intel", "amd", "hyperv", "kvm", "old"];

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=data");
    println!("cargo::rerun-if-changed=build");
    let sources = read_file("sources.txt")?;
    let mut table = read::Table::new(&sources);
    for name in FILES {
        let file = format!("{name}.msr");
        table.read(&file, &read_file(&file)?)?;
    }
    let rows = table.finish()?;
    let mut text = String::new();
    emit::arrays(&rows, &mut text).map_err(|error| error.to_string())?;
    let target = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(target.join("table.rs"), text).map_err(|error| error.to_string())?;
    let plugins = plugins::read("plugins.txt", &read_file("plugins.txt")?)?;
    let mut text = String::new();
    emit::shipped(&plugins, &mut text).map_err(|error| error.to_string())?;
    fs::write(target.join("shipped.rs"), text).map_err(|error| error.to_string())
}

fn read_file(name: &str) -> Result<String, String> {
    let path = Path::new("data").join(name);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}
