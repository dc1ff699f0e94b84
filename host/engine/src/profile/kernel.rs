//! `kernel = true`: a shadow that is KVM itself.

use super::{DEFAULT_FUEL, DEFAULT_MEMORY, PluginTable};

impl PluginTable {
    /// The plugin beside which KVM is asked, or all that is wrong with the table, which begins
    /// in `line`. `others` are the plugins that have a kernel shadow already.
    pub(super) fn kernel_shadow(
        self,
        line: usize,
        others: &[String],
    ) -> Result<String, Vec<String>> {
        let mut wrong = Vec::new();
        let mut refuse =
            |mistake: String| wrong.push(format!("[[plugin]] in line {line}: {mistake}"));
        let useless = [
            ("path", self.path.is_some()),
            ("name", self.name.is_some()),
            ("sha256", self.sha256.is_some()),
            ("config", self.config.text() != "{}"),
            ("grant", !self.grant.is_empty()),
            ("on-failure", self.on_failure.is_some()),
            ("fuel", self.fuel != DEFAULT_FUEL),
            ("memory", self.memory.bytes() != DEFAULT_MEMORY.0),
            ("fallback", self.fallback),
            ("kernel-from", self.kernel_from.is_some()),
        ];
        for (key, _) in useless.into_iter().filter(|(_, given)| *given) {
            refuse(format!(
                "`{key}` says nothing where `kernel = true`: KVM answers, and no plugin; take out \
                 `{key}`, or `kernel`"
            ));
        }
        let Some(of) = self.shadow_of else {
            refuse(
                "`kernel = true` needs `shadow-of`, the name of the plugin whose answers KVM's \
                 are held against"
                    .to_owned(),
            );
            return Err(wrong);
        };
        if others.contains(&of) {
            refuse(format!("`{of}` has a kernel shadow already; take one of them out"));
        }
        match wrong.is_empty() {
            true => Ok(of),
            false => Err(wrong),
        }
    }
}
