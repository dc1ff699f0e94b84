//! `[[cpuid]]` of a profile: what the guest must see in CPUID.

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
use toml::{Spanned, Table, Value};
#[cfg(test)]
use wasmsr_book::reference::kind;
use wasmsr_interface::RegisterChange;

use crate::manifest::{AskedCpuid, Bits, CpuidRefused, CpuidSource, REGISTERS, merge_cpuid};
use crate::toml_file::{self, Place};

/// A `[[cpuid]]` table of the profile, read and validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileCpuid {
    /// EAX on entry.
    pub leaf: u32,
    /// ECX on entry.
    pub subleaf: u32,
    /// The changes of EAX, EBX, ECX and EDX.
    pub registers: [RegisterChange; 4],
    /// Where the profile has the table.
    pub place: Place,
}

impl ProfileCpuid {
    pub(crate) fn asked(&self) -> AskedCpuid {
        AskedCpuid {
            source: CpuidSource::Profile(self.place),
            leaf: self.leaf,
            subleaf: self.subleaf,
            registers: self.registers,
        }
    }
}

// The doc comments of these tables are the profile reference.

#[derive(Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct CpuidTable {
    /// EAX on entry
    #[cfg_attr(test, schemars(with = "kind::Number"))]
    leaf: Spanned<Value>,
    /// ECX on entry
    #[cfg_attr(
        test,
        schemars(with = "Option<kind::Number>", extend("x-default" = "`0`"))
    )]
    subleaf: Option<Spanned<Value>>,
    /// the change of EAX
    #[cfg_attr(test, schemars(with = "Option<kind::CpuidRegister>"))]
    eax: Option<Spanned<Value>>,
    /// the change of EBX
    #[cfg_attr(test, schemars(with = "Option<kind::CpuidRegister>"))]
    ebx: Option<Spanned<Value>>,
    /// the change of ECX
    #[cfg_attr(test, schemars(with = "Option<kind::CpuidRegister>"))]
    ecx: Option<Spanned<Value>>,
    /// the change of EDX
    #[cfg_attr(test, schemars(with = "Option<kind::CpuidRegister>"))]
    edx: Option<Spanned<Value>>,
}

/// Validates the tables of the profile with this text, and holds them against each
/// other. An error has every mistake, each in a line.
pub(super) fn read(
    tables: &[Spanned<CpuidTable>],
    text: &str,
) -> Result<Vec<ProfileCpuid>, String> {
    let mut mistakes = Mistakes { text, found: Vec::new() };
    let read: Vec<_> = tables.iter().filter_map(|table| one(table, &mut mistakes)).collect();
    let merged = merge_cpuid(read.iter().map(ProfileCpuid::asked));
    match (mistakes.found.is_empty(), merged) {
        (true, Ok(_)) => Ok(read),
        (_, Err(refused @ CpuidRefused::TooMany(_))) => Err(refused.to_string()),
        (_, merged) => {
            mistakes.found.extend(merged.err().map(|refused| refused.to_string()));
            Err(mistakes.found.join("\n"))
        }
    }
}

/// What is wrong, each with its place.
struct Mistakes<'a> {
    text: &'a str,
    found: Vec<String>,
}

impl Mistakes<'_> {
    /// The value, or a mistake in the part at `offset`.
    fn take<T>(&mut self, offset: usize, what: &str, value: Result<T, String>) -> Option<T> {
        let at = |problem| {
            format!("{}: [[cpuid]] {what}: {problem}", toml_file::place(self.text, offset))
        };
        value.map_err(|problem| self.found.push(at(problem))).ok()
    }
}

fn one(spanned: &Spanned<CpuidTable>, mistakes: &mut Mistakes<'_>) -> Option<ProfileCpuid> {
    let table = spanned.get_ref();
    let leaf = mistakes.take(table.leaf.span().start, "leaf", number(table.leaf.get_ref()));
    let subleaf = match &table.subleaf {
        None => Some(0),
        Some(subleaf) => mistakes.take(subleaf.span().start, "subleaf", number(subleaf.get_ref())),
    };
    let start = spanned.span().start;
    let name = leaf.map_or_else(|| "table".to_owned(), |leaf| format!("leaf {leaf:#x}"));
    let given = [&table.eax, &table.ebx, &table.ecx, &table.edx];
    if given.iter().all(|register| register.is_none()) {
        let nothing = "it changes no register; add `eax`, `ebx`, `ecx` or `edx`".to_owned();
        mistakes.take(start, &name, Err::<(), _>(nothing));
    }
    let mut registers = [RegisterChange::default(); 4];
    for ((change, given), register) in registers.iter_mut().zip(given).zip(REGISTERS) {
        let Some(given) = given else { continue };
        let what = format!("{name}, {register}");
        let read = mistakes.take(given.span().start, &what, register_change(given.get_ref()));
        *change = read.unwrap_or_default();
    }
    let place = toml_file::place(mistakes.text, start);
    Some(ProfileCpuid { leaf: leaf?, subleaf: subleaf?, registers, place })
}

/// A whole register, a text with a character for each bit, or a table of bits.
fn register_change(value: &Value) -> Result<RegisterChange, String> {
    match value {
        Value::Table(table) => bits(table),
        Value::String(text) if text.starts_with("0b") && text.contains('x') => pattern(text),
        value => number(value).map(RegisterChange::whole).map_err(|problem| match value {
            Value::Integer(_) | Value::String(_) => problem,
            _ => format!("{problem}, or bits such as {{ set = \"0x4\", clear = \"0x1\" }}"),
        }),
    }
}

/// `set` and `clear`, or `value`.
fn bits(table: &Table) -> Result<RegisterChange, String> {
    const KEYS: [&str; 3] = ["set", "clear", "value"];
    if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("unknown key `{unknown}`, expected `set`, `clear` or `value`"));
    }
    let key = |key: &str, read: fn(&Value) -> Result<u32, String>| {
        let value = table.get(key).map(read).transpose();
        value.map_err(|problem| format!("{key}: {problem}"))
    };
    let (set, clear, whole) = (key("set", mask)?, key("clear", mask)?, key("value", number)?);
    match (set, clear, whole) {
        (None, None, Some(value)) => Ok(RegisterChange::whole(value)),
        (_, _, Some(_)) => {
            Err("`value` is the whole register; leave out `set` and `clear`".to_owned())
        }
        (None, None, None) => Err("it has no bits; add `set`, `clear` or `value`".to_owned()),
        (set, clear, None) => {
            let (set, clear) = (set.unwrap_or_default(), clear.unwrap_or_default());
            match set & clear {
                0 => Ok(RegisterChange { set, clear }),
                both => Err(format!("{} in `set` and in `clear`; keep one", Bits(both))),
            }
        }
    }
}

/// A mask, or a list of the numbers of its bits.
fn mask(value: &Value) -> Result<u32, String> {
    let Value::Array(list) = value else {
        return number(value).map_err(|problem| match value {
            Value::Integer(_) | Value::String(_) => problem,
            _ => format!("{problem}, or a list of bits such as [2, 29]"),
        });
    };
    list.iter().try_fold(0, |mask, bit| {
        let bit = number(bit)?;
        let bit = 1_u32.checked_shl(bit).ok_or_else(|| {
            format!("there is no bit {bit}: the bits of a CPUID register are 0 to 31")
        })?;
        Ok(mask | bit)
    })
}

/// `1`, `0` or `x` for each bit, bit 31 first, as Firecracker's CPU templates have it.
fn pattern(text: &str) -> Result<RegisterChange, String> {
    let digits: Vec<char> = text.chars().skip(2).filter(|digit| *digit != '_').collect();
    if let Some(other) = digits.iter().find(|digit| !matches!(digit, '0' | '1' | 'x')) {
        return Err(format!("`{text}` has `{other}`, expected `0`, `1` or `x` for each bit"));
    }
    if digits.len() != 32 {
        return Err(format!(
            "`{text}` has {} bits; a text with `x` has one character for each of the 32",
            digits.len()
        ));
    }
    Ok(digits.iter().fold(RegisterChange::default(), |RegisterChange { set, clear }, digit| {
        let (one, zero) = (u32::from(*digit == '1'), u32::from(*digit == '0'));
        RegisterChange { set: set << 1 | one, clear: clear << 1 | zero }
    }))
}

/// A number of 32 bits: an integer of TOML's, or a text in hexadecimal, binary or
/// decimal digits.
fn number(value: &Value) -> Result<u32, String> {
    let wanted = "a number of 32 bits, such as 0x80000001 or \"0x80000001\"";
    let found = match value {
        Value::Integer(number) => match u32::try_from(*number) {
            Ok(number) => return Ok(number),
            Err(_) => return Err(format!("{number} is not {wanted}")),
        },
        Value::String(text) => match digits(text) {
            Some(number) => return Ok(number),
            None => {
                let shown: String = text.chars().take(80).collect();
                return Err(format!("`{shown}` is not {wanted}"));
            }
        },
        Value::Float(_) => "a number with a point",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    };
    Err(format!("found {found}, expected {wanted}"))
}

fn digits(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match (lower.strip_prefix("0x"), lower.strip_prefix("0b")) {
        (Some(digits), _) => (digits, 16),
        (_, Some(digits)) => (digits, 2),
        _ => (lower.as_str(), 10),
    };
    let digits: String = digits.chars().filter(|digit| *digit != '_').collect();
    // `from_str_radix` accepts a sign, a register has none.
    digits.chars().all(|digit| digit.is_digit(radix)).then_some(())?;
    u32::from_str_radix(&digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::profile::Profile;

    use super::*;

    fn parse(text: &str) -> Result<Vec<ProfileCpuid>, String> {
        let profile = Profile::parse(Path::new("vm.toml"), text);
        profile.map(|profile| profile.cpuid).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn edx(value: &str) -> RegisterChange {
        let read = parse(&format!("[[cpuid]]\nleaf = 7\nedx = {value}\n"));
        read.unwrap_or_else(|error| panic!("{value}: {error}"))[0].registers[3]
    }

    #[test]
    fn a_register_is_whole_or_bits() {
        for (value, set, clear) in [
            ("0x1234", 0x1234, !0x1234),
            ("\"0x1234\"", 0x1234, !0x1234),
            ("\"0b101\"", 5, !5),
            ("\"0x8000_0000\"", 1 << 31, !(1 << 31)),
            ("4294967295", u32::MAX, 0),
            ("\"17\"", 17, !17),
            ("0", 0, u32::MAX),
            ("{ set = \"0x4\", clear = \"0x1\" }", 4, 1),
            ("{ set = 4 }", 4, 0),
            ("{ clear = 0b11 }", 0, 3),
            ("{ set = [29, 0], clear = [31] }", 1 << 29 | 1, 1 << 31),
            ("{ value = \"7\" }", 7, !7),
            ("\"0bxxxx_0000xxxxxxxx1111xxxxxxxxxx01\"", 0xf001, 0x0f00_0002),
        ] {
            assert_eq!(edx(value), RegisterChange { set, clear }, "{value}");
        }
    }

    #[test]
    fn leaves_are_numbers_or_texts() {
        let text = "[[cpuid]]\nleaf = \"0x80000008\"\nebx = 0\n\
                    [[cpuid]]\nleaf = 0xd\nsubleaf = \"0b1\"\neax = 1\n";
        let read = parse(text).unwrap();
        assert_eq!((read[0].leaf, read[0].subleaf, read[0].place.line), (0x8000_0008, 0, 1));
        assert_eq!((read[1].leaf, read[1].subleaf, read[1].place.line), (13, 1, 4));
    }

    #[test]
    fn mistakes_have_their_place() {
        for (lines, parts) in [
            ("leaf = -1\neax = 1", &["line 2", "leaf: -1 is not a number of 32 bits"][..]),
            ("leaf = \"seven\"\neax = 1", &["line 2, column 8", "`seven`"]),
            ("leaf = 7\nsubleaf = 0x100000000\neax = 1", &["line 3", "subleaf: 4294967296"]),
            ("leaf = 7", &["line 1", "leaf 0x7", "no register"]),
            ("leaf = 7\neax = true", &["line 3", "leaf 0x7, eax", "true or false", "set ="]),
            ("leaf = 7\neax = {}", &["eax", "no bits"]),
            ("leaf = 7\neax = { sett = 1 }", &["unknown key `sett`", "`set`"]),
            ("leaf = 7\neax = { set = 3, clear = 6 }", &["bit 1 in `set` and in `clear`"]),
            ("leaf = 7\neax = { set = 1, value = 1 }", &["`value` is the whole register"]),
            ("leaf = 7\neax.set = [32]", &["set: there is no bit 32", "0 to 31"]),
            ("leaf = 7\neax.set = [-1]", &["-1"]),
            ("leaf = 7\neax = \"0b1x\"", &["2 bits", "32"]),
            ("leaf = 7\neax = \"+1\"", &["`+1`"]),
            ("leaf = 7\neax = \"\"", &["``"]),
            ("leaf = 7\neax = [1]", &["found a list", "such as"]),
            ("leaf = 7\neax.set = {}", &["set: found a table", "a list of bits"]),
            ("leaf = 2026-11-30\neax = 1", &["leaf: found a date"]),
            ("leaf = 7\neax = nan", &["a number with a point"]),
        ] {
            let error = parse(&format!("[[cpuid]]\n{lines}\n")).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "no `{part}` in: {error}");
            }
        }
        let missing = Profile::parse(Path::new("vm.toml"), "[[cpuid]]\neax = 1\n").unwrap_err();
        let source = std::error::Error::source(&missing).unwrap().to_string();
        assert!(source.contains("line 1") && source.contains("`leaf`"), "{source}");
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let error = parse(
            "[[cpuid]]\nleaf = 1\neax = 1.5\nebx = \"no\"\n\
             [[cpuid]]\nleaf = 7\neax = { set = 1 }\n\
             [[cpuid]]\nleaf = 7\neax = 0\n",
        )
        .unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 3, "{error}");
        assert!(lines[0].contains("line 3") && lines[1].contains("line 4"), "{error}");
        for part in ["line 5, ", "line 8, ", "leaf 0x7", "eax bit 0", "keep one"] {
            assert!(lines[2].contains(part), "no `{part}` in: {error}");
        }
    }

    #[test]
    fn tables_of_one_leaf_add_up() {
        let two = "[[cpuid]]\nleaf = 7\neax.set = 1\n[[cpuid]]\nleaf = 7\neax.set = 3\nebx = 0\n";
        assert_eq!(parse(two).unwrap().len(), 2);
    }

    #[test]
    fn more_leaves_than_kvm_takes_are_refused() {
        let table = |leaf: u32| format!("[[cpuid]]\nleaf = {leaf}\neax = 0\n");
        let text: String = (0..257).map(table).collect();
        let error = parse(&text).unwrap_err();
        assert!(error.contains("257") && error.contains("256"), "{error}");
    }
}
