//! `wasmsr recording show`: a recording, one line per access.

use std::io::{self, Write};

use wasmsr_engine::record::{
    AccessLine, BootLine, BootPlugin, DroppedLine, EndLine, Line, Op, PluginCall, SwapLine,
};
use wasmsr_interface::counted;

use super::call;
use super::units::{date, duration, moment};
use crate::args;
use crate::exit::{Code, Failure};
use crate::recording::reader::{Read, RecordingReader};
use crate::terminal::console;
use crate::terminal::plain::{plain, plain_up_to, write_json};

/// Prints the chosen accesses as they are read.
pub(crate) fn show(args: &args::RecordingShow) -> Result<Code, Failure> {
    let mut out = console::output();
    let form = match (args.json, args.calls) {
        (true, _) => Form::Json,
        (false, true) => Form::WithCalls,
        (false, false) => Form::Accesses,
    };
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut recording = RecordingReader::open_silently(&args.file)?;
    // Stop at the last chosen access: in a pipe the next line may take long.
    while left > 0
        && let Some(line) = recording.next()
    {
        let written = match line {
            Ok(Read { boot, line, .. }) if args.filter.takes(boot, &line) => {
                left -= u64::from(matches!(line, Line::Access(_)));
                form.write(&mut out, &line)
            }
            Ok(_) => Ok(()),
            // The lines before the error are printed first.
            Err(error) => {
                console::reached(out.flush()).map_err(Failure::output)?;
                return Err(error);
            }
        };
        if !console::reached(written).map_err(Failure::output)? {
            return Ok(Code::SUCCESS);
        }
    }
    console::reached(out.flush()).map_err(Failure::output)?;
    Ok(Code::SUCCESS)
}

/// How a line is printed.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Accesses,
    WithCalls,
}

impl Form {
    fn write(self, out: &mut dyn Write, line: &Line) -> io::Result<()> {
        match self {
            Form::Json => {
                write_json(&mut *out, line)?;
                writeln!(out)
            }
            Form::Accesses => write_line(out, line).map(|_| ()),
            Form::WithCalls => {
                let calls = write_line(out, line)?;
                calls
                    .iter()
                    .try_for_each(|call| writeln!(out, "{:21}{}", "", call::described(call)))
            }
        }
    }
}

/// Writes a line without its host calls, and returns those.
fn write_line<'a>(out: &mut dyn Write, line: &'a Line) -> io::Result<&'a [PluginCall]> {
    Ok(match line {
        Line::Boot(boot) => {
            write_boot(out, boot)?;
            &[]
        }
        Line::Start(start) => {
            writeln!(out, "{}  the plugins were started", moment(start.t))?;
            &start.calls
        }
        Line::Access(access) => {
            write_access(out, access)?;
            &access.calls
        }
        Line::Wake(wake) => {
            let (t, ns) = (moment(wake.t), duration(wake.ns));
            let failed = names(&wake.failed, ", failed: ");
            writeln!(out, "{t} {:>4}  timers of plugins, {ns}{failed}", wake.vcpu)?;
            &wake.calls
        }
        Line::Swap(swap) => {
            write_swap(out, swap)?;
            &swap.calls
        }
        Line::Dropped(DroppedLine { t, lines }) => {
            let missing = counted(*lines, "line is", "lines are");
            writeln!(out, "{}  {missing} missing here: the recorder had no room", moment(*t),)?;
            &[]
        }
        Line::End(EndLine { t, lines, dropped, failed }) => {
            let lines = counted(*lines, "line", "lines");
            let failed = names(failed, "; failed in a report or a reset: ");
            let t = moment(*t);
            writeln!(out, "{t}  the boot is over: {lines} recorded, {dropped} dropped{failed}")?;
            &[]
        }
    })
}

/// The names of some plugins, behind `head`; empty if there are none.
fn names(plugins: &[String], head: &str) -> String {
    match plugins {
        [] => String::new(),
        plugins => {
            let names: Vec<String> = plugins.iter().take(8).map(|name| plain(name)).collect();
            let more = if plugins.len() > names.len() { ", …" } else { "" };
            format!("{head}{}{more}", names.join(", "))
        }
    }
}

fn write_boot(out: &mut dyn Write, boot: &BootLine) -> io::Result<()> {
    writeln!(
        out,
        "{}  boot {}, {}: {}, {}, wasmsr {}",
        moment(boot.t),
        boot.boot,
        date(boot.unix_ms),
        counted(boot.vcpus, "vCPU", "vCPUs"),
        plain_up_to(&boot.profile.display().to_string(), 200),
        plain(&boot.version),
    )?;
    boot.plugins.iter().try_for_each(|plugin| write_plugin(out, plugin, ""))?;
    if boot.generation > 1 || boot.state.is_some() || !boot.unsaved.is_empty() {
        let generation = boot.generation;
        writeln!(out, "{:15}the recording begins in a running VM, in generation {generation}", "")?;
    }
    if !boot.unsaved.is_empty() {
        let names = names(&boot.unsaved, "plugins whose state then is not known: ");
        writeln!(out, "{:15}{names}", "")?;
    }
    writeln!(
        out,
        "{:>13}  VCPU  OP     {:10}  {:26}  {:18}  {:8}  {:20}  {:>8}  RIP",
        "TIME", "MSR", "NAME", "VALUE", "OUTCOME", "PLUGIN", "COST"
    )
}

fn write_swap(out: &mut dyn Write, swap: &SwapLine) -> io::Result<()> {
    let set: String = swap.set.chars().take(12).collect();
    writeln!(
        out,
        "{}  generation {} is in charge: {}, set {}, {}",
        moment(swap.t),
        swap.generation,
        swap.cause,
        plain(&set),
        plain_up_to(&swap.profile.display().to_string(), 200),
    )?;
    swap.plugins.iter().try_for_each(|plugin| {
        let is_kept = swap.kept.contains(&plugin.name);
        write_plugin(out, plugin, if is_kept { ", goes on as it is" } else { "" })
    })
}

fn write_plugin(out: &mut dyn Write, plugin: &BootPlugin, more: &str) -> io::Result<()> {
    let (name, version) = (plain(&plugin.name), plain(&plugin.version));
    let hash = plain(&plugin.sha256.chars().take(12).collect::<String>());
    writeln!(out, "{:15}plugin {name} {version}, SHA-256 {hash}{more}", "")
}

fn write_access(out: &mut dyn Write, access: &AccessLine) -> io::Result<()> {
    let op = match access.op {
        Op::Read => "read",
        Op::Write => "write",
    };
    writeln!(
        out,
        "{} {:>5}  {op:5}  {:10}  {:26}  {:18}  {:8}  {:20}  {:>8}{}{}",
        moment(access.t),
        access.vcpu,
        access.msr.to_string(),
        access.name.as_deref().map_or("-".to_owned(), plain),
        access.value.map_or("-".to_owned(), |value| format!("{:#x}", value.0)),
        access.outcome,
        access.plugin.as_deref().map_or("(policy)".to_owned(), plain),
        duration(access.ns),
        access.rip.map_or(String::new(), |rip| format!("  {:#x}", rip.0)),
        if access.failed { "  the plugin failed" } else { "" },
    )
}
