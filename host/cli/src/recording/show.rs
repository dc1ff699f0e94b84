//! `wasmsr recording show`: a recording, one line per access.

use std::io::{self, Write};

use wasmsr_engine::record::{AccessLine, BootLine, DroppedLine, EndLine, Line, Op, PluginCall};

use super::call;
use super::units::{counted, date, duration, moment};
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
            let failed = names_of_failed(&wake.failed, ", failed: ");
            writeln!(out, "{t} {:>4}  timers of plugins, {ns}{failed}", wake.vcpu)?;
            &wake.calls
        }
        Line::Dropped(DroppedLine { t, lines }) => {
            let missing = if *lines == 1 { "1 line is" } else { &format!("{lines} lines are") };
            writeln!(out, "{}  {missing} missing here: the recorder had no room", moment(*t),)?;
            &[]
        }
        Line::End(EndLine { t, lines, dropped, failed }) => {
            let lines = counted(*lines, "line", "lines");
            let failed = names_of_failed(failed, "; failed in a report or a reset: ");
            let t = moment(*t);
            writeln!(out, "{t}  the boot is over: {lines} recorded, {dropped} dropped{failed}")?;
            &[]
        }
    })
}

/// The plugins that failed at no access, behind `head`; empty if none did.
fn names_of_failed(failed: &[String], head: &str) -> String {
    match failed {
        [] => String::new(),
        failed => {
            let names: Vec<String> = failed.iter().take(8).map(|name| plain(name)).collect();
            let more = if failed.len() > names.len() { ", …" } else { "" };
            format!("{head}{}{more}", names.join(", "))
        }
    }
}

fn write_boot(out: &mut dyn Write, boot: &BootLine) -> io::Result<()> {
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
        "{:>13}  VCPU  OP     {:10}  {:26}  {:18}  {:8}  {:20}  {:>8}  RIP",
        "TIME", "MSR", "NAME", "VALUE", "OUTCOME", "PLUGIN", "COST"
    )
}

fn write_access(out: &mut dyn Write, access: &AccessLine) -> io::Result<()> {
    let op = match access.op {
        Op::Read => "read",
        Op::Write => "write",
    };
    writeln!(
        out,
        "{} {:>5}  {op:5}  {:10}  {:26}  {:18}  {:8}  {:20}  {:>8}  {}{}",
        moment(access.t),
        access.vcpu,
        access.msr.to_string(),
        access.name.as_deref().map_or("-".to_owned(), plain),
        access.value.map_or("-".to_owned(), |value| format!("{:#x}", value.0)),
        access.outcome,
        access.plugin.as_deref().map_or("(policy)".to_owned(), plain),
        duration(access.ns),
        access.rip.map_or("-".to_owned(), |rip| format!("{:#x}", rip.0)),
        if access.failed { "  the plugin failed" } else { "" },
    )
}
