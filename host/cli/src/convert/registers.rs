//! `wasmsr convert registers`: a table of MSRs and their values, such as a dump of a
//! processor, as lines of a profile for the plugin registers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;

use anyhow::{Context as _, bail};
use wasmsr_interface::{MsrIndex, counted};

use super::table::{Line, parse};
use super::toml_number::number;
use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;
use crate::terminal::plain::plain;

/// A dump of every MSR of a processor has some thousand lines.
const MOST_BYTES: u64 = 4 << 20;

/// Entries of one table, half of what the plugin takes: its start has fuel for these.
const MOST_ENTRIES: usize = 256;

/// Registers of one table, as many as the plugin keeps for a guest.
const MOST_REGISTERS: usize = 1024;

/// Tables of a profile. A processor has fewer MSRs than these hold.
const MOST_TABLES: usize = 16;

/// Lines that are shown of those that are no register.
const MOST_SHOWN: usize = 5;

/// MSRs that are the state of a running vCPU, of a clock, or KVM's own interface: a value
/// of another moment breaks the guest.
const STATE_OF_A_VCPU: &[(u32, u32)] = &[
    (0x10, 0x12),               // TSC; kvmclock's old MSRs
    (0x1b, 0x1b),               // APIC base
    (0x3b, 0x3b),               // TSC_ADJUST
    (0x48, 0x49),               // SPEC_CTRL, PRED_CMD
    (0x79, 0x79),               // microcode update
    (0x9e, 0x9e),               // SMBASE
    (0xc1, 0xc8),               // performance counters
    (0xe7, 0xe8),               // MPERF, APERF
    (0x10b, 0x10b),             // FLUSH_CMD
    (0x122, 0x122),             // TSX_CTRL
    (0x174, 0x176),             // SYSENTER
    (0x186, 0x18d),             // event selects
    (0x1c4, 0x1c5),             // XFD
    (0x1d9, 0x1d9),             // DEBUGCTL
    (0x277, 0x277),             // PAT
    (0x309, 0x30c),             // fixed counters
    (0x38d, 0x390),             // their control
    (0x600, 0x600),             // DS_AREA
    (0x6a0, 0x6a8),             // shadow stacks
    (0x6e0, 0x6e1),             // TSC deadline, PKRS
    (0xd90, 0xd90),             // BNDCFGS
    (0xda0, 0xda0),             // XSS
    (0x4000_0000, 0x4000_ffff), // Hyper-V
    (0x4b56_4d00, 0x4b56_4dff), // KVM
    (0xc000_0080, 0xc000_0084), // EFER, STAR, LSTAR, CSTAR, FMASK
    (0xc000_0100, 0xc000_0104), // segment bases, TSC_AUX, TSC ratio
];

/// The x2APIC, which KVM never filters, and the last index, at which no range of its
/// filter can end.
const UNFILTERED: &[(u32, u32)] = &[(0x800, 0x8ff), (0xffff_ffff, 0xffff_ffff)];

/// Prints profile lines for the values of a table, and warns on standard error about what
/// is left out.
pub(crate) fn registers(args: &args::ConvertRegisters) -> Result<Code, Failure> {
    let file = args.table.display();
    let text = read(args).with_context(|| format!("table {file}")).map_err(Failure::input)?;
    let table =
        Table::of(&text).with_context(|| format!("table {file}")).map_err(Failure::input)?;
    for warning in &table.warnings {
        tracing::warn!("{warning}");
    }
    let lines = table
        .profile_lines(args.write)
        .with_context(|| format!("table {file}"))
        .map_err(Failure::input)?;
    print(&lines).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

fn read(args: &args::ConvertRegisters) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let taken = match args.table.as_os_str() == "-" {
        true => std::io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut bytes),
        false => File::open(&args.table)?.take(MOST_BYTES + 1).read_to_end(&mut bytes),
    };
    taken?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!("it has more than {} MiB, which is no table of MSRs", MOST_BYTES >> 20);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The registers of a table, and what is to be said of the others.
#[derive(Debug, Default)]
struct Table {
    values: BTreeMap<u32, u64>,
    warnings: Vec<String>,
}

/// Registers of consecutive MSRs.
struct Run {
    first: u32,
    values: Vec<u64>,
}

impl Table {
    fn of(text: &str) -> anyhow::Result<Table> {
        let mut table = Table::default();
        let (mut unread, mut state, mut differ) = (Vec::new(), Vec::new(), Vec::new());
        let mut unfiltered = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            match parse(line) {
                Line::Empty => {}
                Line::Other => unread.push((number, line)),
                Line::Register(msr, _) if is_in(STATE_OF_A_VCPU, msr) => state.push(MsrIndex(msr)),
                Line::Register(msr, _) if is_in(UNFILTERED, msr) => unfiltered.push(MsrIndex(msr)),
                Line::Register(msr, value) => {
                    let first = *table.values.entry(msr).or_insert(value);
                    if first != value && !differ.contains(&MsrIndex(msr)) {
                        differ.push(MsrIndex(msr));
                    }
                }
            }
        }
        if table.values.is_empty() && state.is_empty() && unfiltered.is_empty() {
            bail!("no line has an MSR and its value; write \"0x10a 0x2b\", or a processor's dump");
        }
        state.dedup();
        table.warn_of("left out, as state of a running vCPU", &state);
        unfiltered.dedup();
        table.warn_of(
            "left out, as no filter of KVM's reaches it, so that no plugin is asked",
            &unfiltered,
        );
        table.warn_of("with several values, of which the first is taken", &differ);
        if let Some(shown) = unread.get(..unread.len().min(MOST_SHOWN)).filter(|s| !s.is_empty()) {
            let shown = shown.iter().map(|(number, line)| {
                let line: String = line.trim().chars().take(60).collect();
                format!("{number}: {}", plain(&line))
            });
            let shown = shown.collect::<Vec<_>>().join("; ");
            let count = counted(unread.len(), "line", "lines");
            table.warnings.push(format!("{count} without an MSR and a value, left out: {shown}"));
        }
        Ok(table)
    }

    fn warn_of(&mut self, what: &str, msrs: &[MsrIndex]) {
        if msrs.is_empty() {
            return;
        }
        let shown: Vec<String> =
            msrs.iter().take(MOST_SHOWN).map(|msr| msr.described().to_string()).collect();
        let more = match msrs.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let count = counted(msrs.len(), "MSR", "MSRs");
        self.warnings.push(format!("{count} {what}: {}{more}", shown.join(", ")));
    }

    fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (&msr, &value) in &self.values {
            match runs.last_mut() {
                Some(run) if next_of(run) == Some(msr) && run.values.len() < MOST_REGISTERS => {
                    run.values.push(value);
                }
                _ => runs.push(Run { first: msr, values: vec![value] }),
            }
        }
        runs
    }

    /// The profile's entries for the plugin registers: as many as its limits ask for.
    fn profile_lines(&self, write: args::RegisterWrite) -> anyhow::Result<String> {
        let mut tables: Vec<(usize, Vec<Run>)> = Vec::new();
        for run in self.runs() {
            let more = run.values.len();
            match tables.last_mut() {
                Some((registers, runs))
                    if *registers + more <= MOST_REGISTERS && runs.len() < MOST_ENTRIES =>
                {
                    *registers += more;
                    runs.push(run);
                }
                _ => tables.push((more, vec![run])),
            }
        }
        if tables.len() > MOST_TABLES {
            bail!(
                "its {} registers need {} tables of the plugin registers, each with at most \
                 {MOST_REGISTERS} registers and {MOST_ENTRIES} entries; at most {MOST_TABLES} \
                 are written: remove what no guest reads",
                self.values.len(),
                tables.len()
            );
        }
        if tables.is_empty() {
            return Ok("# The table has no MSR that can be a register.\n".to_owned());
        }
        let write = match write {
            args::RegisterWrite::Keep => "",
            args::RegisterWrite::Ignore => ", write = \"ignore\"",
            args::RegisterWrite::Fault => ", write = \"fault\"",
        };
        let mut text = String::new();
        for (number, (_, runs)) in (1..).zip(&tables) {
            let name = match number {
                1 => String::new(),
                _ => format!("name = \"registers-{number}\"\n"),
            };
            text += if number > 1 { "\n" } else { "" };
            text += &format!("[[plugin]]\npath = \"registers.wasm\"\n{name}");
            text += &entries(runs, write);
        }
        Ok(text)
    }
}

/// The key `config` of a table.
fn entries(runs: &[Run], write: &str) -> String {
    let mut text = "config.registers = [\n".to_owned();
    for &Run { first, ref values } in runs {
        // A `String` takes whatever is written to it.
        if let Some(name) = MsrIndex(first).name() {
            let more = if values.len() > 1 { " and the next ones" } else { "" };
            let _ = writeln!(text, "    # {name}{more}");
        }
        let last = MsrIndex(first.saturating_add(u32::try_from(values.len() - 1).unwrap_or(0)));
        let _ = match values.as_slice() {
            [value] => {
                writeln!(text, "    {{ range = {first:#x}, value = {}{write} }},", number(*value))
            }
            [value, rest @ ..] if rest.iter().all(|other| other == value) => writeln!(
                text,
                "    {{ range = \"{first:#x}-{last}\", value = {}{write} }},",
                number(*value)
            ),
            values => {
                let values: Vec<String> = values.iter().map(|value| number(*value)).collect();
                writeln!(
                    text,
                    "    {{ range = \"{first:#x}-{last}\", values = [{}]{write} }},",
                    values.join(", ")
                )
            }
        };
    }
    text + "]\n"
}

fn next_of(run: &Run) -> Option<u32> {
    run.first.checked_add(u32::try_from(run.values.len()).ok()?)
}

fn is_in(ranges: &[(u32, u32)], msr: u32) -> bool {
    ranges.iter().any(|&(first, last)| (first..=last).contains(&msr))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> String {
        Table::of(text).unwrap().profile_lines(args::RegisterWrite::Keep).unwrap()
    }

    #[test]
    fn a_table_becomes_entries() {
        assert_eq!(
            lines(
                "0x3a 0x5\n0x1ad 0x2121212121222324\n0x200 0\n0x201 0\n0x202 1\n0x203 8000000000000000"
            ),
            "[[plugin]]\n\
             path = \"registers.wasm\"\n\
             config.registers = [\n    \
                 # IA32_FEATURE_CONTROL\n    \
                 { range = 0x3a, value = 0x5 },\n    \
                 # MSR_TURBO_RATIO_LIMIT\n    \
                 { range = 0x1ad, value = 0x2121212121222324 },\n    \
                 # IA32_MTRR_PHYSBASE0 and the next ones\n    \
                 { range = \"0x200-0x203\", values = [0x0, 0x0, 0x1, \"0x8000000000000000\"] },\n\
             ]\n"
        );
        let same = lines("0x400 1\n0x401 1\n0x402 1");
        assert!(same.contains("{ range = \"0x400-0x402\", value = 0x1 }"), "{same}");
    }

    #[test]
    fn what_is_left_out_is_said() {
        let table = Table::of(
            "0x10 1\n0x802 1\n0xffffffff 2\nnonsense\n0x3a 5\n0x3a 5\n0x3a 1\n\u{1b}[31mred\n# comment\n",
        )
        .unwrap();
        assert_eq!(table.values, BTreeMap::from([(0x3a, 5)]));
        let warnings = table.warnings.join("\n");
        for part in [
            "1 MSR left out, as state of a running vCPU: 0x10 (",
            "2 MSRs left out, as no filter of KVM's reaches it",
            "0x802",
            "0xffffffff",
            "0x3a (IA32_FEATURE_CONTROL)",
            "2 lines",
            "4: nonsense",
        ] {
            assert!(warnings.contains(part), "{part}: {warnings}");
        }
        assert!(!warnings.contains('\u{1b}'), "{warnings:?}");
        assert_eq!(lines("0x10 1"), "# The table has no MSR that can be a register.\n");
    }

    #[test]
    fn what_has_no_register_is_refused() {
        for text in ["", "\n# nothing\n", "one two three\n"] {
            assert!(Table::of(text).unwrap_err().to_string().contains("0x10a 0x2b"), "{text}");
        }
    }

    #[test]
    fn what_one_table_does_not_take_goes_to_others() {
        let many = |count: u32, stride: u32| -> String {
            (0..count).map(|n| format!("{:#x} {n:x}\n", 0xd000_0000 + stride * n)).collect()
        };
        for (count, stride, tables, entries) in
            [(256, 2, 1, 256), (600, 2, 3, 600), (1024, 1, 1, 1), (3000, 1, 3, 3)]
        {
            let text = lines(&many(count, stride));
            let profile: toml::Table = text.parse().unwrap();
            let plugins = profile["plugin"].as_array().unwrap();
            assert_eq!(plugins.len(), tables, "{count}");
            let of = |plugin: &toml::Value| plugin["config"]["registers"].as_array().unwrap().len();
            assert_eq!(plugins.iter().map(of).sum::<usize>(), entries, "{count}");
            let names: Vec<_> = plugins.iter().filter_map(|p| p.get("name")?.as_str()).collect();
            assert_eq!(names, ["registers-2", "registers-3"][..tables - 1]);
        }
        let table = Table::of(&many(5000, 2)).unwrap();
        let error = table.profile_lines(args::RegisterWrite::Keep).unwrap_err().to_string();
        assert!(error.contains("5000 registers") && error.contains("at most 16"), "{error}");
    }
}
