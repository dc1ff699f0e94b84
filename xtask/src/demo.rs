//! `cargo xtask demo`: the first thing that a visitor runs.

use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use crate::{nested, plugins};

const PROFILE: &str = "examples/hello/vm.toml";

/// What `wasmsr run` ends with where `/dev/kvm` is missing or of no use.
const NO_KVM: i32 = 12;

/// The guest's success: its debug-exit port makes `(n << 1) | 1` of an `n`,
/// so that a guest's code is never 0.
const GUEST_SUCCESS: i32 = 1;

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let always_nested = match arguments {
        [] => false,
        [flag] if flag == "--nested" => true,
        _ => bail!("`demo` takes no arguments but `--nested`"),
    };
    let workspace = Workspace::load()?;
    build(&workspace)?;
    let code = if always_nested {
        eprintln!("demo: in the nested software host, as asked");
        run_nested(&workspace)?
    } else {
        match run_here(&workspace)? {
            NO_KVM => {
                eprintln!("demo: no KVM here that can be used, so once more in a software host");
                run_nested(&workspace)?
            }
            code => code,
        }
    };
    Ok(explain(code))
}

/// Builds the command and the plugins at once: each alone leaves processors idle at
/// its end, and they have target folders of their own.
fn build(workspace: &Workspace) -> Result<()> {
    eprintln!("demo: building wasmsr and the plugins of {PROFILE}");
    thread::scope(|scope| {
        let plugins = scope.spawn(|| plugins::build_for(workspace, PROFILE));
        workspace.build_wasmsr()?;
        plugins.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn run_here(workspace: &Workspace) -> Result<i32> {
    eprintln!("demo: wasmsr run {PROFILE}");
    let status = Command::new(workspace.wasmsr())
        .current_dir(&workspace.root)
        .args(["run", PROFILE])
        .status()
        .context("cannot start wasmsr")?;
    status.code().with_context(|| format!("wasmsr was killed ({status})"))
}

fn run_nested(workspace: &Workspace) -> Result<i32> {
    let command = ["wasmsr", "run", PROFILE].map(str::to_owned);
    nested::run_command(workspace, &nested::Options::default(), &command)
}

fn explain(code: i32) -> ExitCode {
    if code == GUEST_SUCCESS {
        eprintln!("demo: the guest ended with its success code, {code}");
        return ExitCode::SUCCESS;
    }
    eprintln!("demo: wasmsr ended with {code}, not with the guest's success code {GUEST_SUCCESS}");
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
