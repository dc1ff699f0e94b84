//! What a running VM does at once: pause, resume, reset, stop, power down, log otherwise,
//! and answer in place of a plugin.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use wasmsr_stats::control::{self, Disable, Enable, Log};
use wasmsr_stats::{AskError, ControlError, FindError};

use super::operation::ask;
use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::say;

/// How long `disable` waits for the socket.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Has a VM do something that needs no more than its name.
pub(crate) fn act(args: &args::OneVm, path: &str) -> Result<Code, Failure> {
    let (vm, _) = wasmsr_stats::find(Some(&args.vm))?;
    ask(&vm, path, &serde_json::json!({}))?;
    Ok(Code::SUCCESS)
}

/// Changes how much a VM logs.
pub(crate) fn log(args: &args::Log) -> Result<Code, Failure> {
    let (vm, _) = wasmsr_stats::find(Some(&args.vm))?;
    ask(&vm, "log", &Log { level: args.level.into() })?;
    Ok(Code::SUCCESS)
}

/// Has something else answer in place of a plugin. If the socket does not answer, by a
/// file and a signal.
pub(crate) fn disable(args: &args::Disable) -> Result<Code, Failure> {
    let answer: control::Answer = args.answer.into();
    let body = serde_json::to_string(&Disable { plugin: args.plugin.clone(), answer });
    let body = body.map_err(Failure::host)?;
    let asked = match wasmsr_stats::find_within(&args.vm, AT_ONCE) {
        Ok((vm, _)) => vm.control::<serde_json::Value>("POST", "disable", Some(&body), AT_ONCE),
        Err(FindError::Silent { process, error }) => {
            return by_signal(args, process, &error.to_string());
        }
        Err(error) => return Err(error.into()),
    };
    match asked {
        Ok(_) => Ok(Code::SUCCESS),
        Err(ControlError::Ask(error @ AskError::Socket { .. })) => {
            let process = wasmsr_stats::process_of(&args.vm);
            match process {
                Some(process) => by_signal(args, process, &error.to_string()),
                None => Err(ControlError::Ask(error).into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn by_signal(args: &args::Disable, process: u32, why: &str) -> Result<Code, Failure> {
    let vm = wasmsr_stats::at_process(process);
    let vm = vm.ok_or_else(|| Failure::host(anyhow::anyhow!("process {process} has no socket")))?;
    if !wasmsr_stats::takes_wishes(process) {
        let why = format!("process {process} does not answer ({why}), and catches no SIGUSR1");
        return Err(Failure::host(anyhow::anyhow!(why)));
    }
    let answer = match args.answer {
        args::InPlace::Kernel => "kernel",
        args::InPlace::Fault => "fault",
        args::InPlace::Ignore => "ignore",
    };
    let file = vm.leave_wish(&format!("{} {answer}", args.plugin)).map_err(Failure::host)?;
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::host(anyhow::anyhow!("{process} is not a process")))?;
    kill_process(pid, Signal::USR1).map_err(Failure::host)?;
    say(&format!(
        "wasmsr: the socket does not answer ({why}); the wish is in {}, and process {process} has \
         got SIGUSR1",
        file.display()
    ));
    Ok(Code::SUCCESS)
}

/// Lets a plugin answer again.
pub(crate) fn enable(args: &args::Enable) -> Result<Code, Failure> {
    let (vm, _) = wasmsr_stats::find(Some(&args.vm))?;
    ask(&vm, "enable", &Enable { plugin: args.plugin.clone() })?;
    Ok(Code::SUCCESS)
}
