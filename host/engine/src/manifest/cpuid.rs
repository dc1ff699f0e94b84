//! What manifests change in CPUID, and how the changes of all plugins are merged.

use std::sync::Arc;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
use wasmsr_interface::{CpuidChange, RegisterChange};

use super::error::ManifestError;

/// `[[cpuid]]`: what the guest must see in one leaf and subleaf.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CpuidLeaf {
    /// EAX on entry
    pub leaf: u32,
    /// ECX on entry
    #[serde(default)]
    pub subleaf: u32,
    /// the change of EAX
    #[serde(default)]
    pub eax: RegisterSpec,
    /// the change of EBX
    #[serde(default)]
    pub ebx: RegisterSpec,
    /// the change of ECX
    #[serde(default)]
    pub ecx: RegisterSpec,
    /// the change of EDX
    #[serde(default)]
    pub edx: RegisterSpec,
}

/// A register of a CPUID leaf: bits set and cleared, or the whole value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RegisterSpec {
    /// numbers of the bits that must be 1, 0 to 31
    #[serde(default)]
    pub set: Vec<u8>,
    /// numbers of the bits that must be 0
    #[serde(default)]
    pub clear: Vec<u8>,
    /// the whole register, in place of `set` and `clear`
    #[serde(default)]
    pub value: Option<u32>,
}

impl RegisterSpec {
    /// The change as masks.
    ///
    /// # Errors
    /// What contradicts itself or is not a bit.
    pub(crate) fn change(&self) -> Result<RegisterChange, String> {
        if let Some(value) = self.value {
            if !(self.set.is_empty() && self.clear.is_empty()) {
                return Err("`value` is the whole register; leave out `set` and `clear`".into());
            }
            return Ok(RegisterChange { set: value, clear: !value });
        }
        let mask = |bits: &[u8]| {
            bits.iter().try_fold(0u32, |mask, &bit| {
                let bit = 1u32.checked_shl(u32::from(bit));
                bit.map(|bit| mask | bit).ok_or("bits of a CPUID register are 0 to 31")
            })
        };
        let (set, clear) = (mask(&self.set)?, mask(&self.clear)?);
        match set & clear {
            0 => Ok(RegisterChange { set, clear }),
            both => Err(format!("bit {} is both in `set` and in `clear`", both.trailing_zeros())),
        }
    }
}

impl CpuidLeaf {
    /// Refuses what contradicts itself, with the register's name.
    pub(super) fn check(&self) -> Result<(), (ManifestError, &'static str)> {
        self.registers().into_iter().try_for_each(|(register, spec)| {
            let CpuidLeaf { leaf, subleaf, .. } = *self;
            let mistake = |message| ManifestError::Cpuid { leaf, subleaf, register, message };
            spec.change().map(drop).map_err(|message| (mistake(message), register))
        })
    }

    /// The registers with their names.
    pub(crate) fn registers(&self) -> [(&'static str, &RegisterSpec); 4] {
        [("eax", &self.eax), ("ebx", &self.ebx), ("ecx", &self.ecx), ("edx", &self.edx)]
    }
}

/// Two plugins that want different values of one CPUID bit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "plugins `{first}` and `{second}` disagree on CPUID leaf {leaf:#x}, subleaf {subleaf:#x}, \
     {register} bit {bit}: one sets it, the other clears it; load only one of them"
)]
pub struct CpuidConflict {
    /// The plugin that comes first in the profile.
    pub first: Arc<str>,
    /// The one that contradicts it.
    pub second: Arc<str>,
    /// The leaf.
    pub leaf: u32,
    /// The subleaf.
    pub subleaf: u32,
    /// Which register.
    pub register: &'static str,
    /// Number of the bit.
    pub bit: u32,
}

/// Merges what the plugins' manifests ask for, in the order of the profile.
pub(crate) fn merge<'a>(
    asked: impl IntoIterator<Item = (&'a Arc<str>, &'a CpuidLeaf)>,
) -> Result<Vec<CpuidChange>, CpuidConflict> {
    let mut merged: Vec<CpuidChange> = Vec::new();
    for (plugin, leaf) in asked {
        let known = merged.iter().position(|c| (c.leaf, c.subleaf) == (leaf.leaf, leaf.subleaf));
        let known = known.unwrap_or_else(|| {
            merged.push(CpuidChange::none(leaf.leaf, leaf.subleaf));
            merged.len() - 1
        });
        let Some(change) = merged.get_mut(known) else { continue };
        let first = change.plugins.last().unwrap_or(plugin).clone();
        for ((register, spec), old) in leaf.registers().into_iter().zip(change.registers_mut()) {
            // Contradictions within one manifest were refused with it.
            let new = spec.change().unwrap_or_default();
            let contradiction = (old.set & new.clear) | (old.clear & new.set);
            if contradiction != 0 {
                return Err(CpuidConflict {
                    first,
                    second: plugin.clone(),
                    leaf: leaf.leaf,
                    subleaf: leaf.subleaf,
                    register,
                    bit: contradiction.trailing_zeros(),
                });
            }
            old.set |= new.set;
            old.clear |= new.clear;
        }
        change.plugins.push(plugin.clone());
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(leaf: u32, set: &[u8], clear: &[u8]) -> CpuidLeaf {
        let [eax, ebx, ecx] =
            [const { RegisterSpec { set: vec![], clear: vec![], value: None } }; 3];
        let edx = RegisterSpec { set: set.to_vec(), clear: clear.to_vec(), value: None };
        CpuidLeaf { leaf, subleaf: 0, eax, ebx, ecx, edx }
    }

    #[test]
    fn bits_of_one_leaf_add_up() {
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        let merged = merge([(&a, &leaf(7, &[29], &[])), (&b, &leaf(7, &[26], &[3]))]).unwrap();
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].edx, RegisterChange { set: 1 << 29 | 1 << 26, clear: 1 << 3 });
        assert_eq!(merged[0].edx.apply(0b1001), 1 << 29 | 1 << 26 | 1);
        assert_eq!(merged[0].plugins, [a, b]);
    }

    #[test]
    fn a_contradiction_names_both_plugins_and_the_bit() {
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        let error = merge([(&a, &leaf(7, &[29], &[])), (&b, &leaf(7, &[], &[29]))]).unwrap_err();
        let text = error.to_string();
        for part in ["`a`", "`b`", "leaf 0x7", "edx bit 29"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
