//! What a manifest has only with certain configurations, for a plugin whose claims and
//! CPUID depend on them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::claim::MsrClaim;
use super::cpuid::CpuidLeaf;
use super::tables::{MsrTable, Wanted, WhenTable};

/// What a manifest has only if the configuration has certain values.
#[derive(Debug, Clone)]
pub struct Conditional {
    config: BTreeMap<String, Wanted>,
    /// The claims then.
    pub msr: Vec<MsrClaim>,
    /// The CPUID changes then.
    pub cpuid: Vec<CpuidLeaf>,
}

impl Conditional {
    /// Whether the configuration has these values.
    pub(super) fn holds(&self, config: &Value) -> bool {
        self.config.iter().all(|(key, wanted)| match (wanted, config.get(key)) {
            (Wanted::Bool(wanted), Some(Value::Bool(value))) => wanted == value,
            (Wanted::Number(wanted), Some(Value::Number(value))) => value.as_i64() == Some(*wanted),
            (Wanted::Text(wanted), Some(Value::String(value))) => wanted == value,
            _ => false,
        })
    }
}

impl From<WhenTable> for Conditional {
    fn from(table: WhenTable) -> Self {
        let WhenTable { config, msr, cpuid } = table;
        let claims = msr.into_iter().filter_map(|table| {
            let MsrTable { range, access, scope, intercept, .. } = table;
            range.map(|range| MsrClaim { range, access, scope, intercept })
        });
        Conditional { config, msr: claims.collect(), cpuid }
    }
}
