//! `cargo xtask nested`: true KVM on any machine.
//!
//! QEMU's software emulation includes AMD's SVM, so Debian's kernel inside it
//! loads `kvm-amd` and offers the same KVM as a server does, only slower.
//! Files lie inside at the paths they have outside.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use self::debian::Debian;
use self::image::Image;
use self::options::Verb;
pub(crate) use self::options::{HELP, Options};
use crate::plugins;
use crate::tally::Tally;
use crate::workspace::Workspace;

mod benchmarks;
mod black_box;
mod cpio;
mod debian;
mod image;
mod linux_guest;
mod machine;
mod options;
mod other_kernels;

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let (options, verb) = options::parse(arguments)?;
    let workspace = Workspace::load()?;
    plugins::build(&workspace)?;
    match verb {
        Verb::Run(command) => {
            workspace.build_wasmsr()?;
            let code = run_command(&workspace, &options, &command)?;
            Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
        }
        Verb::Test(arguments) => {
            let tally = run_tests(&workspace, &options, &arguments)?;
            tally.print();
            Ok(tally.exit_code())
        }
    }
}

/// Runs a command inside, its output passed through, and returns its exit
/// code. Plugins and `wasmsr` must have been built.
pub(crate) fn run_command(
    workspace: &Workspace,
    options: &Options,
    command: &[String],
) -> Result<i32> {
    let debian = Debian::fetch(workspace)?;
    let image = host_image(workspace, options, &debian)?;
    machine::run(workspace, options, &debian, image, command, &mut |line| println!("{line}"))
}

/// Runs the black-box tests inside; `arguments` go to their harness. Plugins must
/// have been built.
pub(crate) fn run_tests(
    workspace: &Workspace,
    options: &Options,
    arguments: &[String],
) -> Result<Tally> {
    let tests = black_box::build(workspace)?;
    let debian = Debian::fetch(workspace)?;
    let mut image = host_image(workspace, options, &debian)?;
    let mut command = black_box::add(workspace, &mut image, &tests)?;
    command.extend_from_slice(arguments);

    let mut tally = Tally::default();
    let code = machine::run(workspace, options, &debian, image, &command, &mut |line| {
        println!("{line}");
        tally.read(line);
    })?;
    if code != 0 && !tally.has_failures() {
        tally.harness_failed();
    }
    Ok(tally)
}

/// Runs the benchmarks inside; `arguments` go to them.
pub(crate) fn run_benchmarks(
    workspace: &Workspace,
    options: &Options,
    arguments: &[String],
) -> Result<i32> {
    machine::install()?;
    let debian = Debian::fetch(workspace)?;
    let mut image = host_image(workspace, options, &debian)?;
    let mut command = benchmarks::add(workspace, &mut image)?;
    command.extend_from_slice(arguments);
    machine::run(workspace, options, &debian, image, &command, &mut |line| println!("{line}"))
}

/// Builds the stock Linux guest, for a KVM outside that can run it.
pub(crate) fn build_linux_guest(workspace: &Workspace) -> Result<PathBuf> {
    linux_guest::build(workspace, &Debian::fetch(workspace)?)
}

/// What every command may need inside.
fn host_image(workspace: &Workspace, options: &Options, debian: &Debian) -> Result<Image> {
    let mut image = Image::new(workspace, debian)?;
    image.add_program(&workspace.wasmsr())?;
    image.add(&workspace.plugins())?;
    image.add(&workspace.root.join("examples"))?;
    let guest = linux_guest::build(workspace, debian)?;
    image.add(&guest)?;
    image.set_variable("WASMSR_LINUX", &guest);
    if let Some(kernels) = other_kernels::fetch(workspace) {
        image.add(&kernels)?;
        image.set_variable("WASMSR_KERNELS", &kernels);
    }
    for file in &options.files {
        image.add_as(&file.outside, &file.inside)?;
    }
    Ok(image)
}
