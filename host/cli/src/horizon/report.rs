//! What `wasmsr horizon` says: for programs as JSON, and for people.

use serde::Serialize;

use super::claims::Claim;
use crate::terminal::plain::{plain, plain_up_to};
use crate::terminal::tables::table;

/// Most characters of a line.
const LONGEST: usize = 600;

/// All that it says.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) profile: String,
    /// The version of this host's kernel, whose KVM was asked.
    pub(super) host_kernel: String,
    /// What was held against KVM.
    pub(super) evidence: String,
    /// What the result does not say.
    pub(super) limits: Vec<String>,
    pub(super) claims: Vec<Claim>,
    pub(super) plugins: Vec<Handover>,
}

/// Whether a plugin can be handed over.
#[derive(Debug, Serialize)]
pub(super) struct Handover {
    pub(super) plugin: String,
    /// The value for `kernel-from`; `null` if something holds it back.
    pub(super) kernel_from: Option<String>,
    /// What holds it back.
    pub(super) held_back: Vec<String>,
    /// What else one should know.
    pub(super) notes: Vec<String>,
}

impl Report {
    pub(super) fn is_ready(&self) -> bool {
        self.plugins.iter().all(|plugin| plugin.kernel_from.is_some())
    }

    pub(super) fn for_people(&self) -> String {
        let mut text = format!(
            "on this host, kernel {}: KVM beside the plugins of {}\nevidence: {}\n",
            self.host_kernel,
            plain_up_to(&self.profile, LONGEST),
            plain_up_to(&self.evidence, LONGEST)
        );
        for limit in &self.limits {
            text += &format!("note: {}\n", plain_up_to(limit, LONGEST));
        }
        if self.plugins.is_empty() {
            return text + "\nno plugins\n";
        }
        if !self.claims.is_empty() {
            let head = ["PLUGIN", "MSR", "NAME", "ACCESS", "EXITS", "KVM KNOWS", "AGREES", "SINCE"];
            let mut table = table(head, &[]);
            for claim in &self.claims {
                table.add_row([
                    plain(&claim.plugin),
                    claim.range.clone(),
                    claim.title.clone(),
                    claim.access.clone(),
                    if claim.intercept { "yes" } else { "no" }.to_owned(),
                    claim.known_in_words(),
                    claim.agrees_in_words(),
                    claim.since_in_words().to_owned(),
                ]);
            }
            text += &format!("\n{}\n", table.trim_fmt());
        }
        for plugin in &self.plugins {
            text += &self.handover(plugin);
        }
        text
    }

    fn handover(&self, plugin: &Handover) -> String {
        let name = plain(&plugin.plugin);
        let mut text = match &plugin.kernel_from {
            Some(version) => format!(
                "\nplugin {name} can be handed over; write into its [[plugin]]:\n \
                 kernel-from = \"{version}\"\n"
            ),
            None => format!("\nplugin {name} cannot be handed over yet:\n"),
        };
        for reason in &plugin.held_back {
            text += &format!(" {}\n", plain_up_to(reason, LONGEST));
        }
        let told = self.claims.iter().filter(|claim| claim.plugin == plugin.plugin);
        for told in told.flat_map(|claim| &claim.told) {
            text += &format!("   {}\n", plain_up_to(told, LONGEST));
        }
        for note in &plugin.notes {
            text += &format!(" note: {}\n", plain_up_to(note, LONGEST));
        }
        text
    }
}
