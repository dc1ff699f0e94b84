//! Which shipped plugin answers an MSR.

/// A plugin that is shipped with wasmsr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shipped {
    /// Its name, which is its folder's too.
    pub name: &'static str,
    /// Its file in `target/plugins/`.
    pub file: &'static str,
    /// What it does, for a sentence that begins with its name.
    pub does: &'static str,
    /// The lines of its `[[plugin]]` below `path`, TOML; one with `{msr}` is for each MSR.
    pub lines: &'static [&'static str],
    /// The MSRs, both ends included.
    pub msrs: &'static [(u32, u32)],
}

include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// The plugins that answer an MSR, the one to try first first.
pub fn shipped_for(index: u32) -> impl Iterator<Item = &'static Shipped> {
    SHIPPED.iter().filter(move |plugin| {
        plugin.msrs.iter().any(|&(first, last)| (first..=last).contains(&index))
    })
}

/// All shipped plugins that answer MSRs of their own.
pub fn shipped() -> &'static [Shipped] {
    SHIPPED
}
