//! Tables of registers, from a specification that each of them names, held
//! against what a plugin's registers do: every bit is read, and tried alone.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Deserializer, de};
use wasmsr_engine::LoadOptions;
use wasmsr_engine::script::Rig;

/// `registers.toml` beside a plugin.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// The specification, for the registers that name none themselves.
    source: String,
    /// The `[[plugin]]` tables under which they have these fields.
    profile: String,
    /// Steps of a trace before each try.
    #[serde(default)]
    before: Vec<String>,
    /// Why the accesses exit, if not for the filter.
    #[serde(default)]
    reason: String,
    register: Vec<Register>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Register {
    msr: Number,
    name: String,
    access: Access,
    /// What is read first; left out where that depends on more.
    reset: Option<Number>,
    source: Option<String>,
    #[serde(default)]
    before: Vec<String>,
    #[serde(default)]
    fields: Vec<Field>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Access {
    /// Every write is #GP.
    R,
    /// Every read is #GP.
    W,
    Rw,
    /// Every access is #GP.
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    bits: Bits,
    name: String,
    kind: Kind,
    value: Option<Number>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// A write that flips the bit is taken, and the bit has flipped.
    Rw,
    /// A write that flips the bit is #GP and changes nothing.
    Fault,
    /// A write that flips the bit is taken, and the bit stays.
    Ignored,
    /// The field reads as `value`; nothing is written.
    Constant,
}

/// As TOML's integers or, beyond those, as text.
struct Number(u64);

/// From the lowest bit to the highest.
struct Bits {
    low: u32,
    high: u32,
}

/// Checks every register of a table, with the plugins in a folder.
pub(crate) fn check(path: &Path, built: &Path) {
    let text = fs::read_to_string(path).expect("a table can be read");
    let table: Table =
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rig = Rig::new(&table.profile, built, &LoadOptions::default());
    let mut rig = rig.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for register in &table.register {
        let source = register.source.as_deref().unwrap_or(&table.source);
        assert!(!source.is_empty(), "{}: {} names no source", path.display(), register.name);
        let mut tries = Tries { rig: &mut rig, table: &table, register, source };
        tries.check();
    }
}

/// Tries one register, each time from the beginning.
struct Tries<'a> {
    rig: &'a mut Rig,
    table: &'a Table,
    register: &'a Register,
    source: &'a str,
}

impl Tries<'_> {
    fn check(&mut self) {
        self.check_coverage();
        self.start_over();
        let readable = matches!(self.register.access, Access::R | Access::Rw);
        let reset = match readable {
            true => {
                let read = self.read();
                self.value(&read)
            }
            false => {
                let read = self.read();
                self.expect("a read", &read, "fault");
                self.register.reset.as_ref().map_or(0, |reset| reset.0)
            }
        };
        if let Some(expected) = &self.register.reset {
            self.expect("the value at the start", &hex(reset), &hex(expected.0));
        }
        if matches!(self.register.access, Access::R | Access::None) {
            for value in [reset, !reset, 0, u64::MAX] {
                self.start_over();
                let written = self.write(value);
                self.expect(&format!("a write of {value:#x}"), &written, "fault");
            }
            self.start_over();
        }
        for field in &self.register.fields {
            self.check_field(field, reset);
        }
    }

    fn check_field(&mut self, field: &Field, reset: u64) {
        let what = format!("field {} ({}:{})", field.name, field.bits.high, field.bits.low);
        if let Some(value) = &field.value {
            let held = reset >> field.bits.low & mask(&field.bits);
            self.expect(&what, &hex(held), &hex(value.0));
        }
        for bit in field.bits.low..=field.bits.high {
            let flipped = reset ^ 1 << bit;
            let what = format!("{what}, bit {bit} flipped in {reset:#x}");
            let (written, after) = match field.kind {
                Kind::Rw => ("ok", flipped),
                Kind::Fault => ("fault", reset),
                Kind::Ignored => ("ok", reset),
                Kind::Constant => continue,
            };
            self.start_over();
            let came = self.write(flipped);
            self.expect(&what, &came, written);
            if self.register.access == Access::Rw {
                let read = self.read();
                let read = self.value(&read) & 1 << bit;
                self.expect(&format!("{what}, then read"), &hex(read), &hex(after & 1 << bit));
            }
        }
    }

    /// A table says something of every bit, once.
    fn check_coverage(&self) {
        if self.register.access == Access::None || self.register.fields.is_empty() {
            assert!(
                self.register.fields.is_empty() && self.register.access != Access::Rw,
                "{}: a register that is written has fields",
                self.register.name
            );
            return;
        }
        let mut covered = 0_u64;
        for field in &self.register.fields {
            let bits = mask(&field.bits) << field.bits.low;
            assert_eq!(covered & bits, 0, "{}: {} overlaps", self.register.name, field.name);
            covered |= bits;
        }
        assert_eq!(covered, u64::MAX, "{}: bits are missing", self.register.name);
    }

    fn start_over(&mut self) {
        self.rig.start_over();
        for step in self.table.before.iter().chain(&self.register.before) {
            let came = self.rig.step(step).unwrap_or_else(|error| panic!("{step}: {error}"));
            assert_eq!(came.trim(), step.trim(), "{}: before it", self.register.name);
        }
    }

    fn read(&mut self) -> String {
        self.access(&format!("r {:#x}", self.register.msr.0))
    }

    fn write(&mut self, value: u64) -> String {
        self.access(&format!("w {:#x} {value:#x}", self.register.msr.0))
    }

    fn access(&mut self, access: &str) -> String {
        let step = format!("{access} {} ->", self.table.reason);
        let came = self.rig.step(&step).unwrap_or_else(|error| panic!("{step}: {error}"));
        came.split_once("-> ").map_or(String::new(), |(_, answer)| answer.to_owned())
    }

    fn value(&self, answer: &str) -> u64 {
        let hex = answer.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        hex.unwrap_or_else(|| panic!("{}: a read is {answer}", self.register.name))
    }

    fn expect(&self, what: &str, came: &str, expected: &str) {
        let Register { msr, name, .. } = self.register;
        let source = self.source;
        assert!(
            came == expected,
            "{:#x} {name}: {what}: {came}, but by {source} it is {expected}",
            msr.0
        );
    }
}

fn mask(bits: &Bits) -> u64 {
    u64::MAX >> (63 - (bits.high - bits.low))
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Integer(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Integer(number) => Ok(Number(number)),
            Written::Text(text) => text
                .strip_prefix("0x")
                .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                .map(Number)
                .ok_or_else(|| de::Error::custom(format!("`{text}` is no hexadecimal number"))),
        }
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (high, low) = text.split_once(':').unwrap_or((&text, &text));
        match (low.parse(), high.parse()) {
            (Ok(low), Ok(high)) if low <= high && high < 64 => Ok(Bits { low, high }),
            _ => Err(de::Error::custom(format!("`{text}` is no field; write HIGH:LOW"))),
        }
    }
}
