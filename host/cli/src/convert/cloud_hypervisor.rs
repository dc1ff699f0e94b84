//! CPU profiles of cloud-hypervisor: adjustments of MSRs or of CPUID, each
//! `(value & mask) | replacements` (`arch/src/x86_64/cpu_profile/` of its repository).

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use wasmsr_interface::{MsrIndex, RegisterChange};

use super::cpuid::{Changes, Place, listed};
use super::firecracker::Bitmap;
use super::input;
use super::lines::{changes_text, warn};
use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;

/// Prints profile lines for a CPU profile, and warns on standard error about what is not
/// converted.
pub(crate) fn cloud_hypervisor(args: &args::CloudHypervisor) -> Result<Code, Failure> {
    let converted = input::read(&args.profile)
        .and_then(|(text, json)| convert(&text, &json))
        .with_context(|| format!("cloud-hypervisor's file {}", args.profile.display()))
        .map_err(Failure::input)?;
    warn(&converted.warnings);
    print(&changes_text(&converted.changes, &converted.msrs)).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

#[derive(Debug, Default)]
struct Converted {
    changes: Changes,
    msrs: BTreeMap<u32, Bitmap>,
    warnings: Vec<String>,
}

/// Either of the two files. Other keys are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<T> {
    adjustments: Vec<T>,
    #[serde(default)]
    required_msrs: Vec<Hex>,
    #[serde(default)]
    permitted_msrs: Vec<Hex>,
    #[serde(default, rename = "cpu_vendor")]
    _cpu_vendor: de::IgnoredAny,
    #[serde(default, rename = "hypervisor_type", alias = "hypervisor")]
    _hypervisor: de::IgnoredAny,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(
    expecting = "a list of an MSR and its change, [\"0x8b\", {\"mask\": \"0x0\", \"replacements\": \"0x0\"}]"
)]
struct MsrAdjustment(Hex, Adjustment);

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(
    expecting = "a list of a place in CPUID, with `leaf`, `sub_leaf` and `register`, and its change, with `mask` and `replacements`"
)]
struct CpuidAdjustment(Parameters, Adjustment);

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `mask` and `replacements`")]
struct Adjustment {
    replacements: Hex,
    mask: Hex,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `leaf`, `sub_leaf` and `register`")]
struct Parameters {
    leaf: Hex,
    sub_leaf: Subleaves,
    register: Register,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `start` and `end`")]
struct Subleaves {
    start: Hex,
    end: Hex,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// A number, as text in hexadecimal digits or as JSON has numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hex(u64);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a number, or a text such as \"0x10a\"")]
        enum Written {
            Number(u64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => return Ok(Hex(number)),
            Written::Text(text) => text,
        };
        let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.map(Hex).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            de::Error::custom(format_args!(
                "`{shown}` is not a number of 64 bits; write it as \"0x10a\""
            ))
        })
    }
}

impl Hex {
    fn of_32(self, what: &str) -> Result<u32, String> {
        u32::try_from(self.0).map_err(|_| format!("{what} {:#x} has more than 32 bits", self.0))
    }
}

fn convert(text: &str, json: &Value) -> anyhow::Result<Converted> {
    let adjustments = match json.get("adjustments") {
        Some(Value::Array(adjustments)) => adjustments,
        Some(_) => bail!("`adjustments` is not a list"),
        None if super::source::is_firecrackers(json) => {
            bail!("it is a file of Firecracker; use `wasmsr convert firecracker`")
        }
        None => bail!(
            "it has no `adjustments`, the list in which a CPU profile of cloud-hypervisor has its \
             changes of MSRs or of CPUID"
        ),
    };
    let first = adjustments.first().and_then(|first| first.get(0));
    match first.is_some_and(Value::is_object) {
        false => msrs(&input::typed(text, || mistakes::<MsrAdjustment>(adjustments))?),
        true => cpuid(&input::typed(text, || mistakes::<CpuidAdjustment>(adjustments))?),
    }
}

fn mistakes<'de, T: Deserialize<'de>>(adjustments: &'de [Value]) -> Vec<String> {
    let of = |(place, entry)| {
        T::deserialize(entry).err().map(|error| format!("adjustments[{place}]: {error}"))
    };
    adjustments.iter().enumerate().filter_map(of).collect()
}

/// All results, or all errors.
fn all<T>(results: impl Iterator<Item = Result<T, String>>) -> anyhow::Result<Vec<T>> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (place, result) in results.enumerate() {
        match result {
            Ok(value) => good.push(value),
            Err(error) => bad.push(format!("adjustments[{place}]: {error}")),
        }
    }
    input::in_one(&bad).map_or(Ok(good), Err)
}

fn msrs(file: &File<MsrAdjustment>) -> anyhow::Result<Converted> {
    let mut converted = Converted { warnings: lists(file), ..Converted::default() };
    let read = all(file.adjustments.iter().map(|MsrAdjustment(addr, adjustment)| {
        let Adjustment { replacements: Hex(value), mask: Hex(kept) } = *adjustment;
        Ok((addr.of_32("the MSR")?, Bitmap { value, mask: !kept | value }))
    }))?;
    for (addr, bitmap) in read {
        let msr = MsrIndex(addr).described();
        if converted.msrs.contains_key(&addr) {
            converted.warnings.push(format!("{msr} is adjusted twice; both are applied"));
        }
        if bitmap.mask == 0 {
            converted.warnings.push(format!("{msr} is left out: the profile changes no bit of it"));
            continue;
        }
        let changes = converted.msrs.entry(addr).or_default();
        *changes = changes.then(bitmap);
    }
    Ok(converted)
}

/// What the lists of MSRs are not converted to.
fn lists<T>(file: &File<T>) -> Vec<String> {
    let mut losses = Vec::new();
    let shown = |list: &[Hex]| listed(list.iter().map(|msr| format!("{:#x}", msr.0)));
    if !file.permitted_msrs.is_empty() {
        losses.push(format!(
            "`permitted_msrs` is not converted, {} in number: cloud-hypervisor denies guests the \
             others that KVM lists (KVM_GET_MSR_INDEX_LIST), but not what KVM answers without listing \
             it, such as 0xc0000080; `[[msr.override]]` and plugins deny single MSRs: {}",
            file.permitted_msrs.len(),
            shown(&file.permitted_msrs)
        ));
    }
    if !file.required_msrs.is_empty() {
        losses.push(format!(
            "`required_msrs` is not converted, {} in number: wasmsr asks KVM for the MSRs that it \
             sets: {}",
            file.required_msrs.len(),
            shown(&file.required_msrs)
        ));
    }
    losses
}

fn cpuid(file: &File<CpuidAdjustment>) -> anyhow::Result<Converted> {
    /// A range of more subleaves than this stands for all that there may be.
    const MOST_SUBLEAVES: u32 = 64;

    let mut warnings = lists(file);
    let mut changes = Changes::default();
    let (mut named, mut open) = (BTreeMap::<(u32, u32), [bool; 4]>::new(), Vec::new());
    let read = all(file.adjustments.iter().map(|CpuidAdjustment(parameters, adjustment)| {
        let leaf = parameters.leaf.of_32("the leaf")?;
        let start = parameters.sub_leaf.start.of_32("the subleaf")?;
        let end = parameters.sub_leaf.end.of_32("the subleaf")?;
        let set = adjustment.replacements.of_32("replacements")?;
        let change = RegisterChange { set, clear: !adjustment.mask.of_32("the mask")? & !set };
        match start > end {
            true => Err(format!("the subleaves {start:#x} to {end:#x} run backwards")),
            false => Ok((leaf, start..=end, parameters.register as usize, change)),
        }
    }))?;
    for (leaf, subleaves, register, change) in read {
        let (start, end) = (*subleaves.start(), *subleaves.end());
        if end - start >= MOST_SUBLEAVES {
            if change.bits() != 0 {
                open.push(Place { leaf, subleaf: start, register, bits: change.bits() });
            }
            continue;
        }
        for subleaf in subleaves {
            changes.then(leaf, subleaf, register, change);
            let named = named.entry((leaf, subleaf)).or_default();
            named.get_mut(register).into_iter().for_each(|named| *named = true);
        }
    }
    // cloud-hypervisor makes every register zero that its profile does not name.
    for ((leaf, subleaf), named) in named {
        let unnamed = named.iter().enumerate().filter(|(_, named)| !**named);
        unnamed.for_each(|(register, _)| {
            changes.then(leaf, subleaf, register, RegisterChange::whole(0))
        });
    }
    let left_out = leave_to_the_vm(&mut changes);
    if !left_out.is_empty() {
        warnings.push(format!(
            "left out of CPUID, as the VM decides it, in cloud-hypervisor too: {}",
            listed(&left_out)
        ));
    }
    if !open.is_empty() {
        warnings.push(format!(
            "not converted, as a table of `[[cpuid]]` is about one subleaf: all subleaves from {}",
            listed(&open)
        ));
    }
    warnings.push(
        "cloud-hypervisor also makes leaves zero that the file does not name; in wasmsr they stay \
         as KVM has them"
            .to_owned(),
    );
    Ok(Converted { changes, warnings, ..Converted::default() })
}

/// Takes the bits out that differ from one vCPU or VM to the next.
fn leave_to_the_vm(changes: &mut Changes) -> Vec<Place> {
    let mut left_out = Vec::new();
    for ((leaf, subleaf), registers) in &mut changes.0 {
        let bits: [u32; 4] = match leaf {
            0x1 => [0, 0xffff_0000, 0, 1 << 28],
            0x4 => [0xffff_c000, 0, 0, 0],
            0xb | 0x1f | 0x8000_001e | 0x8000_0026 => [u32::MAX; 4],
            0x8000_0008 => [0, 0, 0xf0ff, 0],
            0x8000_001d => [0x03ff_c000, 0, 0, 0],
            _ => continue,
        };
        for (register, (change, bits)) in registers.iter_mut().zip(bits).enumerate() {
            let given = change.bits() & bits;
            change.set &= !given;
            change.clear &= !given;
            if given != 0 {
                left_out.push(Place { leaf: *leaf, subleaf: *subleaf, register, bits: given });
            }
        }
    }
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(json: &str) -> Result<Converted, String> {
        let value: Value = serde_json::from_str(json).unwrap();
        convert(json, &value).map_err(|error| format!("{error:#}"))
    }

    /// As cloud-hypervisor's own profiles have it: what `mask` keeps is KVM's.
    #[test]
    fn an_msr_is_masked_and_replaced() {
        let json = r#"{"cpu_vendor": "Intel", "hypervisor_type": "Kvm", "adjustments": [
            ["0x8b", {"mask": "0xffffffff00000000", "replacements": "0x0"}],
            ["0x10a", {"mask": "0x4000000000000000", "replacements": "0x0c08e06b"}],
            ["0x480", {"mask": "0xf", "replacements": "0x1"}],
            ["0x481", {"mask": "0xffffffffffffffff", "replacements": "0x0"}]],
            "required_msrs": ["0x10"], "permitted_msrs": ["0x10", "0x11"]}"#;
        let Converted { msrs, warnings, .. } = converted(json).unwrap();
        for (addr, value) in [(0x8b, 0x1234_5678_9abc_def0_u64), (0x10a, u64::MAX), (0x480, 0xe)] {
            let Bitmap { value: set, mask } = msrs[&addr];
            assert!(set & !mask == 0, "value-template would refuse it");
            let (kept, replaced) = match addr {
                0x8b => (0xffff_ffff_0000_0000, 0),
                0x10a => (1 << 62, 0x0c08_e06b),
                _ => (0xf, 1),
            };
            assert_eq!(value & !mask | set, value & kept | replaced, "{addr:#x}");
        }
        assert!(!msrs.contains_key(&0x481));
        for part in ["`permitted_msrs`", "`required_msrs`", "0x481", "0x11"] {
            assert!(warnings.iter().any(|warning| warning.contains(part)), "{part}: {warnings:?}");
        }
    }

    #[test]
    fn cpuid_is_masked_and_replaced_but_not_what_the_vm_decides() {
        let json = r#"{"adjustments": [
            [{"leaf": "0x1", "sub_leaf": {"start": "0x0", "end": "0x0"}, "register": "EBX"},
                {"replacements": "0x0", "mask": "0xff00"}],
            [{"leaf": "0x7", "sub_leaf": {"start": 0, "end": 1}, "register": "ECX"},
                {"replacements": "0x804", "mask": "0x10"}],
            [{"leaf": "0x4", "sub_leaf": {"start": 5, "end": 4294967295}, "register": "EDX"},
                {"replacements": "0x0", "mask": "0x7"}]]}"#;
        let Converted { changes, warnings, .. } = converted(json).unwrap();
        assert_eq!(changes.0[&(1, 0)][1], RegisterChange { set: 0, clear: 0xff });
        assert_eq!(changes.0[&(1, 0)][0], RegisterChange::whole(0), "not named");
        assert_eq!(changes.0[&(7, 1)][2], RegisterChange { set: 0x804, clear: !0x814 });
        for part in ["0x1.0x0 ebx 0xffff0000", "0x4.0x5 edx", "does not name"] {
            assert!(warnings.iter().any(|warning| warning.contains(part)), "{part}: {warnings:?}");
        }
    }

    #[test]
    fn mistakes_are_named_all_at_once() {
        for (json, parts) in [
            ("{}", &["no `adjustments`"][..]),
            (r#"{"adjustments": 1}"#, &["not a list"]),
            (r#"{"adjustments": [], "msrs": []}"#, &["unknown field `msrs`", "line 1"]),
            (
                r#"{"adjustments": [["10a", {"mask": "0x0", "replacements": "0x0"}],
                    ["0x1", {"mask": "0x0"}]]}"#,
                &["adjustments[0]: `10a`", "adjustments[1]: missing field `replacements`"],
            ),
            (r#"{"adjustments": [{"msr": 1}]}"#, &["adjustments[0]", "expected a list of an MSR"]),
            (r#"{"adjustments": [["0x1", 5]]}"#, &["adjustments[0]", "an object with `mask`"]),
            (
                r#"{"adjustments": [["0x100000000", {"mask": "0x0", "replacements": "0x0"}]]}"#,
                &["adjustments[0]", "0x100000000", "32 bits"],
            ),
        ] {
            let error = converted(json).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "no `{part}` in: {error}");
            }
        }
    }
}
