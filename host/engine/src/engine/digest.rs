//! A digest of a set: two sets with the same digest answer alike.

use std::fmt::Write;

use sha2::Digest;
use wasmsr_interface::{Allowed, Unclaimed};

use super::Engine;
use crate::plugin::Plugin;
use crate::profile::Sha256;

impl Engine {
    /// SHA-256 over all that decides how the set answers: the plugins' files, order,
    /// configurations, grants and limits, the policy, and what changes in CPUID. Where files
    /// lie, and how the profile is written, does not matter.
    pub fn digest(&self) -> Sha256 {
        let mut text = String::from("wasmsr set 1\n");
        for plugin in &self.plugins {
            add(&mut text, "plugin", plugin);
        }
        for plan in &self.shadows {
            add(&mut text, &format!("shadow of {}", plan.of), &plan.plugin);
        }
        for of in &self.kernel_shadows {
            let _ = writeln!(text, "kernel shadow of {of}");
        }
        let policy = &self.policy;
        // Writing to a text does not fail.
        let _ = writeln!(text, "policy {} {}", policy.unknown, policy.invalid);
        if let Unclaimed::Exit(allowed) = policy.unclaimed() {
            let _ = writeln!(text, "deny");
            for Allowed { range, directions } in allowed {
                let _ = writeln!(text, "allow {range} {directions}");
            }
        }
        for exception in &policy.overrides {
            let (range, read, write) = (exception.range, exception.read, exception.write);
            let _ = writeln!(text, "override {range} {read:?} {write:?}");
        }
        for change in &self.cpuid {
            let _ = writeln!(text, "cpuid {change:?}");
        }
        Sha256(sha2::Sha256::digest(text.as_bytes()).into())
    }
}

fn add(text: &mut String, role: &str, plugin: &Plugin) {
    let config = &plugin.config;
    let grants: Vec<String> = config.grant.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        text,
        "{role} {} {} {} fuel {} memory {} fallback {} grant {} config {}",
        plugin.name,
        plugin.sha256,
        config.on_failure,
        config.fuel,
        config.memory,
        config.fallback,
        grants.join(","),
        config.config,
    );
}
