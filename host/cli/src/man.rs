//! `wasmsr man`: the manual pages, as roff.

use std::fs;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;

use crate::args::{self, Cli};
use crate::console::print;
use crate::exit::{Code, Failure};

/// Prints the page of the command, or writes one for each verb too.
pub(crate) fn man(args: &args::Man) -> Result<Code, Failure> {
    match &args.out {
        Some(folder) => {
            let written = fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
            written
                .with_context(|| format!("cannot write manual pages into {}", folder.display()))
                .map_err(Failure::input)?;
        }
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page).map_err(Failure::host)?;
            print(&String::from_utf8_lossy(&page)).map_err(Failure::host)?;
        }
    }
    Ok(Code::SUCCESS)
}
