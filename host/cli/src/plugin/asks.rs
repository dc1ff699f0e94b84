//! What a plugin asks for in its manifest.

use serde::Serialize;
use wasmsr_engine::manifest::{Manifest, RegisterSpec, UnhandledReason};

use crate::terminal::plain::plain;
use crate::terminal::tables::{range_name, table};

/// The MSRs that a plugin claims, and the capabilities and CPUID changes it asks for.
#[derive(Serialize)]
pub(super) struct Asks {
    msrs: Vec<Msrs>,
    unhandled: Vec<&'static str>,
    capabilities: Vec<String>,
    optional_capabilities: Vec<String>,
    cpuid: Vec<Cpuid>,
}

/// A claim.
#[derive(Serialize)]
struct Msrs {
    /// The MSRs, or the key of the configuration that lists them.
    #[serde(flatten)]
    which: Which,
    access: String,
    scope: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    Range(String),
    Config(String),
}

#[derive(Serialize)]
struct Cpuid {
    leaf: u32,
    subleaf: u32,
    register: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    set: Vec<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clear: Vec<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<u32>,
}

impl Asks {
    pub(super) fn of(manifest: &Manifest) -> Self {
        // Of conditions, everything that may be.
        let claims = manifest.msr.iter().chain(manifest.when.iter().flat_map(|when| &when.msr));
        let ranges = claims.map(|claim| Msrs {
            which: Which::Range(claim.range.to_string()),
            access: claim.access.to_string(),
            scope: claim.scope.to_string(),
        });
        let listed = manifest.listed.iter().map(|claim| Msrs {
            which: Which::Config(claim.key.clone()),
            access: claim.access.to_string(),
            scope: claim.scope.to_string(),
        });
        let unhandled = manifest.unhandled.reasons.iter().map(|reason| match reason {
            UnhandledReason::Unknown => "unknown",
            UnhandledReason::Invalid => "invalid",
        });
        let leaves = manifest.cpuid.iter().chain(manifest.when.iter().flat_map(|when| &when.cpuid));
        let cpuid = leaves.flat_map(|leaf| {
            let registers =
                [("eax", &leaf.eax), ("ebx", &leaf.ebx), ("ecx", &leaf.ecx), ("edx", &leaf.edx)];
            let changed =
                registers.into_iter().filter(|(_, register)| **register != RegisterSpec::default());
            changed.map(|(register, spec)| Cpuid {
                leaf: leaf.leaf,
                subleaf: leaf.subleaf,
                register,
                set: spec.set.clone(),
                clear: spec.clear.clone(),
                value: spec.value,
            })
        });
        let needs = &manifest.needs;
        Asks {
            msrs: ranges.chain(listed).collect(),
            unhandled: unhandled.collect(),
            capabilities: needs.capabilities.iter().map(ToString::to_string).collect(),
            optional_capabilities: needs.optional.iter().map(ToString::to_string).collect(),
            cpuid: cpuid.collect(),
        }
    }

    /// As tables and lines.
    pub(super) fn for_people(&self) -> String {
        let mut text = String::new();
        if !self.msrs.is_empty() {
            let mut msrs = table(["MSR", "NAME", "ACCESS", "SCOPE"], &[]);
            for Msrs { which, access, scope } in &self.msrs {
                let (which, name) = match which {
                    Which::Range(range) => (range.clone(), range.parse().map(range_name).ok()),
                    Which::Config(key) => (format!("config.{} of the profile", plain(key)), None),
                };
                msrs.add_row([which, name.unwrap_or("-".into()), access.clone(), scope.clone()]);
            }
            text += &format!("\n{}\n", msrs.trim_fmt());
        }
        text.push('\n');
        let mut line = |title: &str, items: &[String]| {
            if !items.is_empty() {
                let items: Vec<String> = items.iter().map(|item| plain(item)).collect();
                text += &format!("{title:<12}{}\n", items.join(", "));
            }
        };
        let unhandled: Vec<String> = self.unhandled.iter().map(ToString::to_string).collect();
        line("unhandled", &unhandled);
        line("needs", &self.capabilities);
        line("can use", &self.optional_capabilities);
        let cpuid: Vec<String> = self.cpuid.iter().map(Cpuid::for_people).collect();
        line("CPUID", &cpuid);
        text
    }
}

impl Cpuid {
    fn for_people(&self) -> String {
        let Cpuid { leaf, subleaf, register, set, clear, value } = self;
        let mut text = format!("{leaf:#x}.{subleaf} {register}");
        let bits = |bits: &[u8]| bits.iter().map(u8::to_string).collect::<Vec<_>>().join(" ");
        if let Some(value) = value {
            text += &format!(" = {value:#x}");
        }
        if !set.is_empty() {
            text += &format!(" sets {}", bits(set));
        }
        if !clear.is_empty() {
            text += &format!(" clears {}", bits(clear));
        }
        text
    }
}
