//! What manifests change in CPUID.

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
use wasmsr_interface::RegisterChange;

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
    /// The registers with their names.
    pub(crate) fn registers(&self) -> [(&'static str, &RegisterSpec); 4] {
        [("eax", &self.eax), ("ebx", &self.ebx), ("ecx", &self.ecx), ("edx", &self.edx)]
    }
}
