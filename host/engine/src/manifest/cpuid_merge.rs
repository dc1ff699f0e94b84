//! The CPUID changes of all plugins and of the profile, merged and held against each
//! other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use wasmsr_interface::{CpuidChange, RegisterChange};

use crate::toml_file::Place;

/// The most leaves and subleaves that can be changed: KVM takes no more
/// (`KVM_MAX_CPUID_ENTRIES`).
pub const MAX_CPUID_LEAVES: usize = 256;

/// The most contradictions that an error lists; more are not looked for.
const MAX_LISTED: usize = 16;

/// The names of the registers, in the order in which changes have them.
pub(crate) const REGISTERS: [&str; 4] = ["eax", "ebx", "ecx", "edx"];

/// Where a change of CPUID is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuidSource {
    /// A plugin's manifest.
    Plugin(Arc<str>),
    /// A `[[cpuid]]` table of the profile, and its place there.
    Profile(Place),
}

impl fmt::Display for CpuidSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CpuidSource::Plugin(name) => write!(f, "plugin `{name}`"),
            CpuidSource::Profile(place) => write!(f, "the profile's [[cpuid]] at {place}"),
        }
    }
}

/// What one table asks for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) source: CpuidSource,
    pub(crate) leaf: u32,
    pub(crate) subleaf: u32,
    pub(crate) registers: [RegisterChange; 4],
}

/// Two tables that want different values of the same CPUID bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuidConflict {
    /// What comes first: a plugin before the profile, and each in the order of the
    /// profile.
    pub first: CpuidSource,
    /// What contradicts it.
    pub second: CpuidSource,
    /// The leaf.
    pub leaf: u32,
    /// The subleaf.
    pub subleaf: u32,
    /// Which register.
    pub register: &'static str,
    /// The bits that both decide, differently.
    pub bits: u32,
}

impl fmt::Display for CpuidConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CpuidConflict { first, second, leaf, subleaf, register, bits } = self;
        let remedy = match (first, second) {
            (CpuidSource::Plugin(_), CpuidSource::Plugin(_)) => "load only one of them",
            (CpuidSource::Profile(_), CpuidSource::Profile(_)) => "keep one of them",
            _ => "take the bits out of the profile, or the plugin",
        };
        write!(
            f,
            "{first} and {second} disagree on CPUID leaf {leaf:#x}, subleaf {subleaf:#x}, \
             {register} {}: one sets what the other clears; {remedy}",
            Bits(*bits)
        )
    }
}

/// Bits of a register, for people: `bit 29`, or `bits 0-3, 29`.
pub(crate) struct Bits(pub(crate) u32);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.count_ones() == 1 { "bit " } else { "bits " })?;
        let mut rest = self.0;
        let mut separator = "";
        while rest != 0 {
            let first = rest.trailing_zeros();
            let count = (rest >> first).trailing_ones();
            match count {
                1 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{}", first + count - 1)?,
            }
            // A run of all bits shifts by 32.
            let run = 1u64.checked_shl(count).map_or(u64::MAX, |run| run - 1) << first;
            rest &= !u32::try_from(run & u64::from(u32::MAX)).unwrap_or(u32::MAX);
            separator = ", ";
        }
        Ok(())
    }
}

/// Why changes of CPUID cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuidRefused {
    /// Some contradict each other.
    Conflicts(Vec<CpuidConflict>),
    /// More leaves and subleaves than KVM takes.
    TooMany(usize),
}

impl std::error::Error for CpuidRefused {}

impl fmt::Display for CpuidRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CpuidRefused::TooMany(leaves) => write!(
                f,
                "profile and plugins change {leaves} leaves and subleaves of CPUID, but KVM takes \
                 {MAX_CPUID_LEAVES}; change fewer"
            ),
            CpuidRefused::Conflicts(conflicts) => {
                let mut separator = "";
                for conflict in conflicts {
                    write!(f, "{separator}{conflict}")?;
                    separator = "\n";
                }
                match conflicts.len() < MAX_LISTED {
                    true => Ok(()),
                    false => f.write_str("\nand perhaps more"),
                }
            }
        }
    }
}

/// Merges what the plugins' manifests and the profile ask for: one change of each leaf and
/// subleaf for all plugins, and one for the profile.
pub(crate) fn merge(
    asked: impl IntoIterator<Item = Asked>,
) -> Result<Vec<CpuidChange>, CpuidRefused> {
    let mut leaves: BTreeMap<(u32, u32), Vec<Asked>> = BTreeMap::new();
    let mut order = Vec::new();
    for asked in asked {
        let key = (asked.leaf, asked.subleaf);
        leaves.entry(key).or_insert_with(|| {
            order.push(key);
            Vec::new()
        });
        leaves.entry(key).or_default().push(asked);
    }
    if order.len() > MAX_CPUID_LEAVES {
        return Err(CpuidRefused::TooMany(order.len()));
    }
    let mut conflicts = Vec::new();
    leaves.values().for_each(|asked| add_conflicts(asked, &mut conflicts));
    if !conflicts.is_empty() {
        return Err(CpuidRefused::Conflicts(conflicts));
    }
    let of = |key: &(u32, u32)| leaves.get(key).map(Vec::as_slice).unwrap_or_default();
    let merged = order.iter().flat_map(|key| {
        let (profile, plugins): (Vec<&Asked>, Vec<&Asked>) =
            of(key).iter().partition(|asked| matches!(asked.source, CpuidSource::Profile(_)));
        [plugins, profile]
            .into_iter()
            .filter(|asked| !asked.is_empty())
            .map(|asked| one(*key, &asked))
    });
    Ok(merged.collect())
}

/// The change that all of `asked` make of a leaf.
fn one((leaf, subleaf): (u32, u32), asked: &[&Asked]) -> CpuidChange {
    let mut change = CpuidChange::none(leaf, subleaf);
    for asked in asked {
        for (old, new) in change.registers_mut().into_iter().zip(asked.registers) {
            old.set |= new.set;
            old.clear |= new.clear;
        }
        if let CpuidSource::Plugin(name) = &asked.source
            && change.plugins.last() != Some(name)
        {
            change.plugins.push(name.clone());
        }
    }
    change
}

/// Adds what disagrees in one leaf. Each bit is blamed on the first that decides it.
fn add_conflicts(asked: &[Asked], conflicts: &mut Vec<CpuidConflict>) {
    for (place, name) in REGISTERS.into_iter().enumerate() {
        let register = |asked: &Asked| asked.registers.get(place).copied().unwrap_or_default();
        let mut decided = RegisterChange::default();
        for (number, second) in asked.iter().enumerate() {
            let new = register(second);
            let mut left = decided.contradiction(new);
            for first in asked.iter().take(number) {
                if left == 0 {
                    break;
                }
                if conflicts.len() == MAX_LISTED {
                    return;
                }
                let bits = register(first).contradiction(new) & left;
                left &= !bits;
                if bits != 0 {
                    conflicts.push(CpuidConflict {
                        first: first.source.clone(),
                        second: second.source.clone(),
                        leaf: second.leaf,
                        subleaf: second.subleaf,
                        register: name,
                        bits,
                    });
                }
            }
            decided.set |= new.set & !decided.clear;
            decided.clear |= new.clear & !decided.set;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(name: &str) -> CpuidSource {
        CpuidSource::Plugin(name.into())
    }

    fn profile(line: usize) -> CpuidSource {
        CpuidSource::Profile(Place { line, column: 1 })
    }

    fn asked(source: CpuidSource, leaf: u32, set: u32, clear: u32) -> Asked {
        let [eax, ebx, ecx] = [RegisterChange::default(); 3];
        let edx = RegisterChange { set, clear };
        Asked { source, leaf, subleaf: 0, registers: [eax, ebx, ecx, edx] }
    }

    #[test]
    fn bits_of_one_leaf_add_up() {
        let merged =
            merge([asked(plugin("a"), 7, 1 << 29, 0), asked(plugin("b"), 7, 1 << 26, 1 << 3)])
                .unwrap();
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].edx, RegisterChange { set: 1 << 29 | 1 << 26, clear: 1 << 3 });
        assert_eq!(merged[0].edx.apply(0b1001), 1 << 29 | 1 << 26 | 1);
        assert_eq!(merged[0].plugins, ["a".into(), "b".into()]);
    }

    #[test]
    fn the_profiles_change_stands_beside_the_plugins() {
        let merged = merge([
            asked(plugin("a"), 7, 1, 0),
            asked(profile(3), 7, 3, 4),
            asked(profile(9), 7, 8, 4),
        ])
        .unwrap();
        assert_eq!(merged.len(), 2);
        assert_eq!((merged[0].edx.set, merged[0].plugins.len()), (1, 1));
        assert_eq!(merged[1].edx, RegisterChange { set: 11, clear: 4 });
        assert!(merged[1].plugins.is_empty());
    }

    #[test]
    fn a_contradiction_names_both_and_the_bits() {
        let error = |asked: &[Asked]| merge(asked.to_vec()).unwrap_err().to_string();
        let text = error(&[asked(plugin("a"), 7, 1 << 29, 0), asked(plugin("b"), 7, 0, 1 << 29)]);
        for part in ["plugin `a`", "plugin `b`", "leaf 0x7", "edx bit 29:", "only one"] {
            assert!(text.contains(part), "{text}");
        }
        let text = error(&[asked(plugin("a"), 7, 0xf, 0), asked(profile(12), 7, 0x10, !0x10)]);
        for part in ["plugin `a`", "[[cpuid]] at line 12", "edx bits 0-3:", "out of the profile"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn each_bit_is_blamed_on_the_first_that_decides_it() {
        let all = [
            asked(plugin("a"), 7, 1, 0),
            asked(plugin("b"), 7, 2, 0),
            asked(plugin("c"), 7, 0, 3),
            asked(profile(1), 8, 1, 0),
            asked(profile(5), 8, 0, 1),
        ];
        let CpuidRefused::Conflicts(conflicts) = merge(all).unwrap_err() else { panic!() };
        let named: Vec<_> =
            conflicts.iter().map(|c| (c.first.clone(), c.second.clone(), c.bits)).collect();
        assert_eq!(
            named,
            [
                (plugin("a"), plugin("c"), 1),
                (plugin("b"), plugin("c"), 2),
                (profile(1), profile(5), 1),
            ]
        );
    }

    /// A plugin's file has room for 100,000 tables of one leaf.
    #[test]
    fn many_contradictions_cost_no_more_than_a_few() {
        let quiet = (0..50_000).map(|_| asked(plugin("a"), 7, 2, 0));
        let first = std::iter::once(asked(plugin("b"), 7, 1, 0));
        let loud = (0..50_000).map(|_| asked(plugin("c"), 7, 0, 1));
        let error = merge(quiet.chain(first).chain(loud)).unwrap_err();
        let CpuidRefused::Conflicts(conflicts) = &error else { panic!("{error}") };
        assert_eq!(conflicts.len(), MAX_LISTED);
        assert!(error.to_string().ends_with("and perhaps more"));
    }

    #[test]
    fn what_kvm_cannot_take_is_refused() {
        let most = u32::try_from(MAX_CPUID_LEAVES).unwrap();
        merge((0..most).map(|leaf| asked(profile(1), leaf, 1, 0))).unwrap();
        let error = merge((0..=most).map(|leaf| asked(profile(1), leaf, 1, 0))).unwrap_err();
        assert_eq!(error, CpuidRefused::TooMany(257));
    }

    #[test]
    fn bits_are_shown_as_runs() {
        for (bits, text) in
            [(1 << 31, "bit 31"), (u32::MAX, "bits 0-31"), (0b1011_0001, "bits 0, 4-5, 7")]
        {
            assert_eq!(Bits(bits).to_string(), text);
        }
    }
}
