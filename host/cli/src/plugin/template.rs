//! The files of a new plugin's crate.

use std::fmt::Write as _;

use wasmsr_interface::MsrRange;

use crate::args::{Access, Scope};

/// What a new crate is made from.
pub(super) struct Template<'a> {
    pub(super) name: &'a str,
    pub(super) ranges: &'a [MsrRange],
    pub(super) access: Access,
    pub(super) scope: Scope,
    /// The path of the SDK, absolute or from the crate's folder.
    pub(super) sdk: String,
    /// The folder of built plugins, from the crate's folder.
    pub(super) plugins: String,
    /// Whether it is a member of a workspace around its folder.
    pub(super) is_member: bool,
}

/// The value that examples write.
const WRITTEN: &str = "0x2a";

/// Most ranges that the trace and the guest access.
const TRIED: usize = 4;

impl Template<'_> {
    /// All files, by their paths in the crate.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let files = [
            ("Cargo.toml", self.cargo_toml()),
            (".cargo/config.toml", CARGO_CONFIG.to_owned()),
            (".gitignore", "/target/\n".to_owned()),
            ("plugin.toml", self.manifest()),
            ("src/lib.rs", self.code()),
            ("vm.toml", self.profile()),
        ];
        let mut files: Vec<_> =
            files.into_iter().map(|(path, text)| (path.to_owned(), text)).collect();
        files.push((format!("traces/{}.trace", self.name), self.trace()));
        files
    }

    fn cargo_toml(&self) -> String {
        let Template { name, sdk, .. } = self;
        let workspace = match self.is_member {
            true => "",
            false => "\n# A workspace of its own, whatever lies around its folder.\n[workspace]\n",
        };
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             publish = false\n\n[lib]\ncrate-type = [\"cdylib\"]\n\n[dependencies]\n\
             # For configurations. Its default features would bring std, which Wasm lacks.\n\
             serde = {{ version = \"1.0\", default-features = false, features = [\"alloc\", \
             \"derive\"] }}\n\
             wasmsr-sdk = {{ path = {} }}\n{workspace}",
            toml_text(sdk)
        )
    }

    /// `plugin.toml`.
    pub(super) fn manifest(&self) -> String {
        let Template { name, .. } = self;
        let mut text = format!(
            "# What the plugin claims and needs; docs/manifest.md of wasmsr lists every key.\n\n\
             [plugin]\nname = \"{name}\"\nversion = \"0.1.0\"\nabi = 1\n\
             description = \"say here in one line what it does\"\n"
        );
        for range in self.ranges {
            let _ = write!(
                text,
                "\n[[msr]]\nrange = \"{range}\"\naccess = \"{}\"\nscope = \"{}\"\n",
                self.access_word(),
                self.scope_word()
            );
        }
        text
    }

    fn access_word(&self) -> &'static str {
        match self.access {
            Access::R => "r",
            Access::W => "w",
            Access::Rw => "rw",
        }
    }

    fn scope_word(&self) -> &'static str {
        match self.scope {
            Scope::Vcpu => "vcpu",
            Scope::Vm => "vm",
        }
    }

    /// The initial value of a range's MSRs.
    fn start(number: usize) -> String {
        format!("{:#x}", number + 1)
    }

    fn code(&self) -> String {
        let Template { name, ranges, access, scope, .. } = self;
        let count = ranges.len();
        let rows = (0..).zip(*ranges).map(|(number, range)| {
            let (first, last) = (range.first(), range.last());
            format!("({first}, {last}, {})", Self::start(number))
        });
        let rows: Vec<String> = rows.collect();
        // Formatted as rustfmt does.
        let table = match rows.join(", ") {
            line if line.len() <= 58 => line,
            _ => rows.iter().map(|row| format!("\n    {row},")).chain(["\n".into()]).collect(),
        };
        let owner = match scope {
            Scope::Vcpu => "The MSRs of one vCPU: each vCPU has an instance of its own.",
            Scope::Vm => "The MSRs of the VM: all vCPUs share one instance.",
        };
        let (reads, writes) = (*access != Access::W, *access != Access::R);
        let rdmsr = if reads { RDMSR } else { "" };
        let between = if reads && writes { "\n" } else { "" };
        let wrmsr = if writes { WRMSR } else { "" };
        let tests = match access {
            Access::R => TEST_R,
            Access::W => TEST_W,
            Access::Rw => TEST_RW,
        };
        let first = ranges.first().map(|range| range.first().to_string()).unwrap_or_default();
        let tests = tests
            .replace("FIRST", &first)
            .replace("START", &Self::start(0))
            .replace("WRITTEN", WRITTEN);
        format!(
            "//! {name}: say here what these MSRs mean to the guest.\n#![no_std]\n\n\
             extern crate alloc;\n\nuse alloc::vec::Vec;\n\n\
             use wasmsr_sdk::{{Access, Error, MsrIndex, Otherwise, Plugin, Setup, export}};\n\n\
             /// The MSRs of plugin.toml: first and last of each range, and their initial\n\
             /// value, which is yours to choose.\n\
             const MSRS: [(u32, u32, u64); {count}] = [{table}];\n\n\
             /// {owner}\nstruct Registers {{\n    \
             /// A value for each MSR, in the order of `MSRS`.\n    values: Vec<u64>,\n}}\n\n\
             {REGISTERS}\nimpl Plugin for Registers {{\n{NEW}\n{rdmsr}{between}{wrmsr}}}\n\n\
             // Makes the exports of the .wasm file, and puts plugin.toml into it.\n\
             export!(Registers);\n\n{tests}"
        )
    }

    /// Accesses to an MSR, as steps of a trace.
    fn steps(&self, msr: impl std::fmt::Display, start: &str) -> String {
        let write = format!("w {msr} {WRITTEN} -> ok\n");
        match self.access {
            Access::R => format!("r {msr} -> {start}\n"),
            Access::W => write,
            Access::Rw => format!("r {msr} -> {start}\n{write}r {msr} -> {WRITTEN}\n"),
        }
    }

    fn trace(&self) -> String {
        let file = self.name.replace('-', "_");
        let mut text = format!(
            "# Accesses of a guest with the expected answers; `wasmsr plugin test` runs them.\n\
             # docs/traces.md of wasmsr lists the steps.\n\n\
             [vm]\nvcpus = 2\n\n[[plugin]]\npath = \"{file}.wasm\"\n---\n"
        );
        for (number, range) in self.ranges.iter().take(TRIED).enumerate() {
            text += &self.steps(range.first(), &Self::start(number));
            if range.count() > 1 {
                text += &self.steps(range.last(), &Self::start(number));
            }
        }
        let Some(first) = self.ranges.first() else { return text };
        let (owner, value) = match self.scope {
            Scope::Vcpu => ("The other vCPU has values of its own.", Self::start(0)),
            Scope::Vm => ("The other vCPU sees the same values.", WRITTEN.to_owned()),
        };
        if self.access == Access::Rw {
            text += &format!("\n# {owner}\ncpu 1\nr {} -> {value}\n", first.first());
        }
        text
    }

    fn profile(&self) -> String {
        let Template { plugins, .. } = self;
        let file = self.name.replace('-', "_");
        let accesses = self.ranges.iter().take(TRIED).map(|range| {
            let msr = range.first();
            match self.access {
                Access::R => format!("{msr}"),
                Access::W => format!("{msr}={WRITTEN}"),
                Access::Rw => format!("{msr} {msr}={WRITTEN} {msr}"),
            }
        });
        let accesses = accesses.collect::<Vec<_>>().join(" ");
        format!(
            "# A VM to try the plugin in; docs/profile.md of wasmsr lists every key.\n#\n\
             #     wasmsr check vm.toml    needs no KVM\n\
             #     wasmsr run vm.toml      ends with exit code 1: the guest's way to say success\n\n\
             [vm]\nmemory = \"64MiB\"\n\n[boot]\n\
             # Built into wasmsr; it reads the MSRs named here, and writes those with a value.\n\
             guest = \"hello\"\ncmdline = \"{accesses}\"\n\n\
             [[plugin]]\npath = {}\n",
            toml_text(&format!("{plugins}/{file}.wasm"))
        )
    }
}

/// A string of TOML's: literal, where that can hold it.
fn toml_text(text: &str) -> String {
    match text.contains(|c: char| c == '\'' || c.is_control()) {
        true => toml::Value::from(text).to_string(),
        false => format!("'{text}'"),
    }
}

const CARGO_CONFIG: &str = r#"# How the plugin is built for Wasm.

# The stack is a part of the plugin's memory, and every vCPU has an instance: 64 KiB
# instead of the linker's 1 MiB.
[target.wasm32-unknown-unknown]
rustflags = ["-Clink-arg=-zstack-size=65536"]

# Small, since plugins are compiled at start; without unwinding, since a panic ends
# the instance anyway.
[profile.plugin]
inherits = "release"
opt-level = "s"
lto = "fat"
codegen-units = 1
panic = "abort"
strip = "symbols"
debug = false
"#;

const REGISTERS: &str = r#"impl Registers {
    /// The value of an MSR. An MSR that is in plugin.toml but not in `MSRS` is passed on
    /// to the next plugin, or else to the profile's policy.
    fn value(&mut self, msr: MsrIndex) -> Result<&mut u64, Otherwise> {
        let mut place = 0;
        for (first, last, _) in MSRS {
            if (first..=last).contains(&msr.0) {
                place += (msr.0 - first) as usize;
                return self.values.get_mut(place).ok_or(Otherwise::Pass);
            }
            place += (last - first) as usize + 1;
        }
        Err(Otherwise::Pass)
    }
}
"#;

const NEW: &str = r#"    /// Called once per instance, before the guest runs. Allocate here; `setup.config()`
    /// reads the profile's `config`.
    fn new(_: &Setup) -> Result<Self, Error> {
        let counts = MSRS.iter().map(|(first, last, _)| last - first + 1);
        // Allocated at once: a list that grows is copied, and takes twice the memory.
        let mut values = Vec::with_capacity(counts.sum::<u32>() as usize);
        for (first, last, start) in MSRS {
            values.extend((first..=last).map(|_| start));
        }
        Ok(Registers { values })
    }
"#;

const RDMSR: &str = r#"    /// The guest reads: return the value, or `Err(Otherwise::Fault)` for #GP(0).
    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        Ok(*self.value(access.index)?)
    }
"#;

const WRMSR: &str = r#"    /// The guest writes: return `Ok` to take the value, or `Err(Otherwise::Fault)` for
    /// #GP(0), as hardware does for reserved bits.
    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        *self.value(access.index)? = value;
        Ok(())
    }
"#;

const TEST_RW: &str = r#"#[cfg(test)]
mod tests {
    use wasmsr_sdk::native::{Host, access};

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut registers: Registers = Host::fresh().load("{}").unwrap();
        let msr = access(FIRST);
        assert_eq!(registers.rdmsr(msr), Ok(START));
        registers.wrmsr(msr, WRITTEN).unwrap();
        assert_eq!(registers.rdmsr(msr), Ok(WRITTEN));
    }

    #[test]
    fn both_ends_of_every_range_answer() {
        let mut registers: Registers = Host::fresh().load("{}").unwrap();
        for (first, last, start) in MSRS {
            assert_eq!(registers.rdmsr(access(first)), Ok(start));
            assert_eq!(registers.rdmsr(access(last)), Ok(start));
        }
    }
}
"#;

const TEST_R: &str = r#"#[cfg(test)]
mod tests {
    use wasmsr_sdk::native::{Host, access};

    use super::*;

    #[test]
    fn reads_have_the_value_of_the_table() {
        let mut registers: Registers = Host::fresh().load("{}").unwrap();
        assert_eq!(registers.rdmsr(access(FIRST)), Ok(START));
        for (first, last, start) in MSRS {
            assert_eq!(registers.rdmsr(access(first)), Ok(start));
            assert_eq!(registers.rdmsr(access(last)), Ok(start));
        }
    }
}
"#;

const TEST_W: &str = r#"#[cfg(test)]
mod tests {
    use wasmsr_sdk::native::{Host, access};

    use super::*;

    #[test]
    fn writes_are_taken() {
        let mut registers: Registers = Host::fresh().load("{}").unwrap();
        assert_eq!(registers.wrmsr(access(FIRST), WRITTEN), Ok(()));
        assert_eq!(registers.values[0], WRITTEN);
    }
}
"#;
