//! The steps of a trace, as text.

use std::path::PathBuf;

use wasmsr_interface::{MsrAccess, MsrIndex, MsrOp, ParseRangeError, Reason, VcpuId, VcpuTimes};

use super::line::ScriptLine;

/// One step.
#[derive(Debug)]
pub(super) enum Step {
    /// The accesses that follow are this vCPU's.
    Cpu(VcpuId),
    Tell(Fact),
    /// Sets bytes of RAM that is there.
    SetMemory(u64, Vec<u8>),
    /// Shows KVM's value.
    KvmMsr(MsrIndex),
    /// Shows guest memory.
    Memory(u64, usize),
    /// Shows when the vCPU is to be woken.
    Alarm,
    /// An access; without a reason, it leaves the kernel if the filter or KVM says so.
    Access {
        access: MsrAccess,
        as_kvm_says: bool,
    },
    Wake,
    Reset,
    /// With another file of a plugin, or with the same ones.
    Swap(Option<String>),
    Report,
}

/// What the host is from now on.
#[derive(Debug)]
pub(crate) enum Fact {
    Ns(u64),
    Tsc(u64),
    Khz(u32),
    Realtime(u64),
    Stable(bool),
    Cpus(u32),
    KvmMsr(MsrIndex, u64),
    HostMsr(Option<u32>, MsrIndex, u64),
    Times(VcpuId, VcpuTimes),
    File(PathBuf, String),
    Ram(u64, usize),
    /// Bytes of RAM, which comes with them.
    Bytes(u64, Vec<u8>),
}

/// Most bytes of RAM that one step gives.
const MOST_RAM: u64 = 64 << 20;

impl Step {
    /// What a line means; `None` for one that says nothing.
    pub(super) fn parse(line: ScriptLine<'_>) -> Result<Option<Step>, String> {
        let words: Vec<&str> = line.question.split_whitespace().collect();
        let asks = line.answer.is_some();
        let (verb, words) = match words.split_first() {
            Some((&verb, words)) => (verb, words),
            None if asks => ("", &[][..]),
            None => return Ok(None),
        };
        let step = match (verb, words, asks) {
            ("cpu", [n], false) => Step::Cpu(VcpuId(small(n)?)),
            ("ns", [n], false) => Step::Tell(Fact::Ns(number(n)?)),
            ("tsc", [n], false) => Step::Tell(Fact::Tsc(number(n)?)),
            ("khz", [n], false) => Step::Tell(Fact::Khz(small(n)?)),
            ("realtime", [n], false) => Step::Tell(Fact::Realtime(number(n)?)),
            ("stable", ["yes"], false) => Step::Tell(Fact::Stable(true)),
            ("stable", ["no"], false) => Step::Tell(Fact::Stable(false)),
            ("cpus", [n], false) => Step::Tell(Fact::Cpus(small(n)?)),
            ("kvm", [msr], true) => Step::KvmMsr(index(msr)?),
            ("kvm", [msr, value], false) => Step::Tell(Fact::KvmMsr(index(msr)?, number(value)?)),
            ("host", [msr, value], false) => {
                Step::Tell(Fact::HostMsr(None, index(msr)?, number(value)?))
            }
            ("host", [cpu, msr, value], false) => {
                Step::Tell(Fact::HostMsr(Some(small(cpu)?), index(msr)?, number(value)?))
            }
            ("times", [vcpu, ran, waited], false) => {
                let times = VcpuTimes { ran_ns: number(ran)?, waited_ns: number(waited)? };
                Step::Tell(Fact::Times(VcpuId(small(vcpu)?), times))
            }
            ("file", [path, text @ ..], false) => {
                Step::Tell(Fact::File(path.into(), text.join(" ") + "\n"))
            }
            ("ram", [gpa, len], false) => {
                let len = number(len)?;
                if len > MOST_RAM {
                    return Err(format!("a step gives at most {MOST_RAM} bytes of RAM"));
                }
                Step::Tell(Fact::Ram(number(gpa)?, usize::try_from(len).unwrap_or(0)))
            }
            ("mem", [gpa, len], true) => {
                let len = number(len)?.min(4096);
                Step::Memory(number(gpa)?, usize::try_from(len).unwrap_or(0))
            }
            ("mem", [gpa, bytes @ ..], false) if !bytes.is_empty() => {
                let byte = |text: &&str| {
                    u8::from_str_radix(text, 16).map_err(|_| format!("`{text}` is not a byte"))
                };
                let bytes = bytes.iter().map(byte).collect::<Result<_, _>>()?;
                Step::SetMemory(number(gpa)?, bytes)
            }
            ("r", [msr, rest @ ..], true) => access(msr, MsrOp::Read, rest)?,
            ("w", [msr, value, rest @ ..], true) => {
                access(msr, MsrOp::Write(number(value)?), rest)?
            }
            ("alarm", [], true) => Step::Alarm,
            ("wake", [], false) => Step::Wake,
            ("reset", [], false) => Step::Reset,
            ("swap", [], false) => Step::Swap(None),
            ("swap", file, false) => Step::Swap(Some(file.join(" "))),
            ("report", [], true) => Step::Report,
            _ => return Err("it is not a step; docs/traces.md lists them".to_owned()),
        };
        Ok(Some(step))
    }
}

fn access(msr: &str, op: MsrOp, reason: &[&str]) -> Result<Step, String> {
    let as_kvm_says = reason.is_empty();
    let reason = match reason {
        [] => Reason::Filter,
        ["unknown"] => Reason::Unknown,
        ["invalid"] => Reason::Invalid,
        _ => return Err("a reason is `unknown` or `invalid`".to_owned()),
    };
    let access = MsrAccess { index: index(msr)?, op, reason };
    Ok(Step::Access { access, as_kvm_says })
}

fn index(text: &str) -> Result<MsrIndex, String> {
    text.parse().map_err(|error: ParseRangeError| error.to_string())
}

fn small(text: &str) -> Result<u32, String> {
    let number = number(text)?;
    u32::try_from(number).map_err(|_| format!("`{text}` has more than 32 bits"))
}

/// A number of a trace, decimal or hexadecimal.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is not a number of at most 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Step>, String> {
        Step::parse(ScriptLine::of(line))
    }

    #[test]
    fn a_comment_is_no_step() {
        for line in ["", "   ", "# r 0x10 -> 0x1", "  # cpu 1"] {
            assert!(parse(line).unwrap().is_none(), "{line}");
        }
        for line in ["cpu 1   # the second", "cpu 1 # -> 2"] {
            assert!(matches!(parse(line).unwrap(), Some(Step::Cpu(VcpuId(1)))), "{line}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("rdmsr 0x10 -> 1", "not a step"),
            ("-> 1", "not a step"),
            ("r 0x10", "not a step"),
            ("w 0x10 1 2 -> ok", "a reason"),
            ("r 0x100000000 -> 1", "32 bits"),
            ("tsc ten", "`ten`"),
            ("swap -> ok", "not a step"),
            ("mem 0x10 xy", "`xy`"),
            ("ram 0 0xffffffffffff", "at most"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
