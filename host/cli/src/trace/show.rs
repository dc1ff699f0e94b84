//! `wasmsr trace show`: a recording, an access a line.

use std::io::{self, Write};

use wasmsr_engine::record::{Access, Boot, Ended, Line, Op, PluginCall};

use super::call;
use super::units::{date, duration, moment};
use crate::args;
use crate::console;
use crate::exit::{Code, Failure};
use crate::plain::{plain, plain_up_to, write_json};
use crate::recording::{Read, Recording};

/// Prints the accesses that were asked for, as they are read.
pub(crate) fn show(args: &args::TraceShow) -> Result<Code, Failure> {
    let mut out = console::output();
    let mut left = args.limit.unwrap_or(u64::MAX);
    for line in Recording::open_silently(&args.file)? {
        let written = match line {
            Ok(Read { boot, line, .. }) if args.filter.takes(boot, &line) => {
                if matches!(line, Line::Access(_)) {
                    match left {
                        0 => break,
                        _ => left -= 1,
                    }
                }
                match args.json {
                    true => write_json_line(&mut out, &line),
                    false => write_line(&mut out, &line, args.calls),
                }
            }
            Ok(_) => Ok(()),
            // What was whole is seen before the error.
            Err(error) => {
                console::reached(out.flush()).map_err(Failure::host)?;
                return Err(error);
            }
        };
        if !console::reached(written).map_err(Failure::host)? {
            return Ok(Code::SUCCESS);
        }
    }
    console::reached(out.flush()).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

fn write_json_line(out: &mut dyn Write, line: &Line) -> io::Result<()> {
    write_json(&mut *out, line)?;
    writeln!(out)
}

fn write_line(out: &mut dyn Write, line: &Line, with_calls: bool) -> io::Result<()> {
    let calls = match line {
        Line::Boot(boot) => {
            write_boot(out, boot)?;
            &[]
        }
        Line::Start(start) => {
            writeln!(out, "{}  the plugins were started", moment(start.t))?;
            start.calls.as_slice()
        }
        Line::Access(access) => {
            write_access(out, access)?;
            access.calls.as_slice()
        }
        Line::Wake(wake) => {
            writeln!(
                out,
                "{} {:>4}  timers of plugins, {}",
                moment(wake.t),
                wake.vcpu,
                duration(wake.ns)
            )?;
            wake.calls.as_slice()
        }
        Line::Dropped(dropped) => {
            writeln!(
                out,
                "{}  {} lines are missing here: the recorder had no room for them",
                moment(dropped.t),
                dropped.lines
            )?;
            &[]
        }
        Line::End(end) => {
            writeln!(
                out,
                "{}  the boot is over: {} lines recorded, {} dropped",
                moment(end.t),
                end.lines,
                end.dropped
            )?;
            &[]
        }
    };
    if with_calls { write_calls(out, calls) } else { Ok(()) }
}

fn write_boot(out: &mut dyn Write, boot: &Boot) -> io::Result<()> {
    writeln!(
        out,
        "{}  boot {}, {}: {} vCPU{}, {}, wasmsr {}",
        moment(boot.t),
        boot.boot,
        date(boot.unix_ms),
        boot.vcpus,
        if boot.vcpus == 1 { "" } else { "s" },
        plain_up_to(&boot.profile.display().to_string(), 200),
        plain(&boot.version),
    )?;
    for plugin in &boot.plugins {
        let (name, version) = (plain(&plugin.name), plain(&plugin.version));
        let hash = plain(&plugin.sha256.chars().take(12).collect::<String>());
        writeln!(out, "{:15}plugin {name} {version}, SHA-256 {hash}", "")?;
    }
    writeln!(
        out,
        "{:>13}  VCPU  OP     {:10}  {:26}  {:18}  {:8}  {:20}  {:>8}",
        "TIME", "MSR", "NAME", "VALUE", "OUTCOME", "PLUGIN", "COST"
    )
}

fn write_access(out: &mut dyn Write, access: &Access) -> io::Result<()> {
    let op = match access.op {
        Op::Read => "read",
        Op::Write => "write",
    };
    writeln!(
        out,
        "{} {:>5}  {op:5}  {:10}  {:26}  {:18}  {:8}  {:20}  {:>8}{}",
        moment(access.t),
        access.vcpu,
        access.msr.to_string(),
        access.name.as_deref().map_or("-".to_owned(), plain),
        access.value.map_or("-".to_owned(), |value| format!("{:#x}", value.0)),
        outcome(access.outcome),
        access.plugin.as_deref().map_or("(policy)".to_owned(), plain),
        duration(access.ns),
        if access.failed { "  the plugin failed" } else { "" },
    )
}

/// What became of an access, in the words of the format.
pub(super) fn outcome(ended: Ended) -> &'static str {
    match ended {
        Ended::Handled => "handled",
        Ended::Fault => "fault",
        Ended::Kernel => "kernel",
        Ended::Stop => "stop",
    }
}

fn write_calls(out: &mut dyn Write, calls: &[PluginCall]) -> io::Result<()> {
    calls.iter().try_for_each(|call| writeln!(out, "{:21}{}", "", call::described(call)))
}
