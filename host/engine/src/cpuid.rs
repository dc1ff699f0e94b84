//! Merges what the manifests of all plugins change in CPUID.

use std::sync::Arc;

use wasmsr_interface::CpuidChange;

use crate::plugin::CpuidLeaf;

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
    use wasmsr_interface::RegisterChange;

    use super::*;
    use crate::plugin::RegisterSpec;

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
