//! `cargo xtask test`: every test, wherever it can run.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{nested, plugins, process};

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let with_nested = match arguments {
        [] => true,
        [flag] if flag == "--no-nested" => false,
        _ => bail!("`test` takes no arguments but `--no-nested`"),
    };
    let workspace = Workspace::load()?;
    plugins::build(&workspace)?;

    let mut tally = run_workspace(&workspace)?;
    if with_nested {
        eprintln!("test: the black-box tests again, in the nested host");
        tally.add_second_place(nested::run_tests(&workspace, &nested::Options::default(), &[])?);
    }

    tally.print();
    Ok(tally.exit_code())
}

fn run_workspace(workspace: &Workspace) -> Result<Tally> {
    // What does not compile is no failed test.
    process::run(cargo_test(workspace).arg("--no-run"))?;
    let mut tally = Tally::default();
    let succeeded = run_reading(&mut cargo_test(workspace), &mut tally)?;
    if !succeeded && !tally.has_failures() {
        tally.harness_failed();
    }
    Ok(tally)
}

fn cargo_test(workspace: &Workspace) -> Command {
    let mut cargo = process::cargo();
    cargo.current_dir(&workspace.root).args(["test", "--workspace", "--no-fail-fast"]);
    cargo
}

/// Passes the output on and reads the results in it.
fn run_reading(command: &mut Command, tally: &mut Tally) -> Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("reading the tests' output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.read(&line);
    }
    Ok(child.wait()?.success())
}
