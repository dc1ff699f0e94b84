//! The page's text about boots, swaps and their plugins.

use std::fmt::Write as _;
use std::path::Path;

use wasmsr_engine::record::{BootLine, BootPlugin, SwapLine};
use wasmsr_interface::counted;

use super::html::escape;
use crate::recording::units::{date, moment};
use crate::terminal::plain::{plain, plain_up_to};

/// Most boots that are listed.
const MOST_BOOTS: usize = 500;

/// Most swaps that are listed, and most plugins of one.
const MOST_SWAPS: usize = 500;
const MOST_PLUGINS_OF_SWAP: usize = 16;

/// Most plugins that are listed: of one boot, and of all boots.
const MOST_PLUGINS: usize = 256;
const MOST_PLUGINS_OF_ALL: usize = 2048;

/// The boots that are listed.
#[derive(Default)]
pub(super) struct Boots {
    listed: Vec<ListedBoot>,
    plugins: usize,
    plugins_cut: u64,
    all: u64,
    swaps: Vec<ListedSwap>,
    all_swaps: u64,
}

/// A swap, with the text that the page has of it.
struct ListedSwap {
    t: u64,
    boot: u64,
    generation: u64,
    cause: &'static str,
    set: String,
    plugins: String,
}

/// All text in it is fit to be printed, and as short as that is.
struct ListedBoot {
    boot: u64,
    t: u64,
    unix_ms: u64,
    vcpus: u32,
    version: String,
    kernel: Option<String>,
    profile: String,
    plugins: Plugins,
}

#[derive(PartialEq)]
enum Plugins {
    AsBefore,
    These(Vec<ListedPlugin>),
}

#[derive(PartialEq)]
struct ListedPlugin {
    name: String,
    version: String,
    sha256: String,
    path: String,
}

impl Boots {
    /// Adds a boot.
    pub(super) fn add(&mut self, boot: &BootLine) {
        self.all += 1;
        if self.listed.len() >= MOST_BOOTS {
            return;
        }
        let plugins = boot.plugins.iter().take(MOST_PLUGINS).map(ListedPlugin::new).collect();
        let plugins = self.listed_plugins(plugins, boot.plugins.len());
        self.listed.push(ListedBoot {
            boot: boot.boot,
            t: boot.t,
            unix_ms: boot.unix_ms,
            vcpus: boot.vcpus,
            version: plain(&boot.version),
            kernel: boot.kernel.as_deref().map(plain),
            profile: plain_path(&boot.profile),
            plugins,
        });
    }

    /// Adds a swap in a boot.
    pub(super) fn add_swap(&mut self, boot: u64, swap: &SwapLine) {
        self.all_swaps += 1;
        if self.swaps.len() >= MOST_SWAPS {
            return;
        }
        let plugins = swap.plugins.iter().take(MOST_PLUGINS_OF_SWAP).map(|plugin| {
            let kept = if swap.kept.contains(&plugin.name) { " (goes on as it is)" } else { "" };
            format!("{} {}{kept}", plain(&plugin.name), plain(&plugin.version))
        });
        let mut plugins = plugins.collect::<Vec<_>>().join(", ");
        match swap.plugins.len().saturating_sub(MOST_PLUGINS_OF_SWAP) {
            0 => {}
            more => plugins += &format!(" and {more} more"),
        }
        self.swaps.push(ListedSwap {
            t: swap.t,
            boot,
            generation: swap.generation,
            cause: swap.cause.name(),
            set: plain(&swap.set.chars().take(12).collect::<String>()),
            plugins,
        });
    }

    /// When each boot began.
    pub(super) fn begun(&self) -> Vec<(u64, u64)> {
        self.listed.iter().map(|boot| (boot.t, boot.boot)).collect()
    }

    /// Sentences about what is not listed.
    pub(super) fn cuts(&self) -> Vec<String> {
        let mut cuts = Vec::new();
        if self.all > self.listed.len() as u64 {
            let listed = self.listed.len();
            let are = if listed == 1 { "is" } else { "are" };
            cuts.push(format!("Of {} boots the first {listed} {are} listed.", self.all));
        }
        if self.plugins_cut > 0 {
            let cut = counted(self.plugins_cut, "plugin", "plugins");
            cuts.push(format!("Boots had {cut} more than are listed."));
        }
        if self.all_swaps > self.swaps.len() as u64 {
            let listed = self.swaps.len();
            cuts.push(format!("Of {} swaps the first {listed} are listed.", self.all_swaps));
        }
        cuts
    }

    /// A sentence: what was recorded, where and when.
    pub(super) fn about(&self) -> String {
        let Some(boot) = self.listed.first() else { return String::new() };
        let kernel = boot.kernel.as_ref().map_or(String::new(), |k| format!(", host kernel {k}"));
        escape(&format!(
            "Profile {}, {}, recorded {} by wasmsr {}{kernel}",
            boot.profile,
            counted(boot.vcpus, "vCPU", "vCPUs"),
            date(boot.unix_ms),
            boot.version
        ))
    }

    /// One table of plugins per boot, except where they are those of the boot before.
    pub(super) fn tables(&self) -> String {
        let boots = self.listed.iter().fold(String::new(), |text, boot| text + &boot.table());
        boots + &self.table_of_swaps()
    }

    fn table_of_swaps(&self) -> String {
        if self.swaps.is_empty() {
            return String::new();
        }
        let rows = self.swaps.iter().fold(String::new(), |mut rows, swap| {
            let ListedSwap { t, boot, generation, cause, set, plugins } = swap;
            let (set, plugins) = (escape(set), escape(plugins));
            let _ = write!(
                rows,
                "<tr><th scope=\"row\">{generation}</th><td>{boot}</td><td>{}</td>\
                 <td>{cause}</td><td><code>{set}</code></td><td>{plugins}</td></tr>",
                moment(*t).trim_start(),
            );
            rows
        });
        format!(
            "<h3>Swaps</h3><p>Sets of plugins that took charge while the VM ran.</p>\
             <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Swaps\">\
             <table class=\"boot\" aria-label=\"Swaps\"><thead><tr>\
             <th scope=\"col\">Generation</th><th scope=\"col\">Boot</th>\
             <th scope=\"col\">At</th><th scope=\"col\">Cause</th>\
             <th scope=\"col\">Set</th><th scope=\"col\">Plugins</th></tr></thead>\
             <tbody>{rows}</tbody></table></div>"
        )
    }

    fn listed_plugins(&mut self, mut plugins: Vec<ListedPlugin>, all: usize) -> Plugins {
        let before = self.listed.iter().rev().find_map(|boot| match &boot.plugins {
            Plugins::These(plugins) => Some(plugins),
            Plugins::AsBefore => None,
        });
        if before == Some(&plugins) {
            return Plugins::AsBefore;
        }
        plugins.truncate(MOST_PLUGINS_OF_ALL - self.plugins);
        self.plugins += plugins.len();
        self.plugins_cut += (all - plugins.len()) as u64;
        Plugins::These(plugins)
    }
}

impl ListedBoot {
    fn table(&self) -> String {
        let ListedBoot { boot, t, unix_ms, .. } = *self;
        let (plugins, said) = match &self.plugins {
            Plugins::AsBefore => (&[] as &[_], ", with the same plugins."),
            Plugins::These(plugins) if plugins.is_empty() => (&[] as &[_], ", with no plugins."),
            Plugins::These(plugins) => (plugins.as_slice(), "."),
        };
        let mut text = format!(
            "<h3>Boot {boot}</h3><p>At {}, {}{said}</p>",
            moment(t).trim_start(),
            escape(&date(unix_ms)),
        );
        if plugins.is_empty() {
            return text;
        }
        let _ = write!(
            text,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Plugins of boot {boot}\">\
             <table class=\"boot\" aria-label=\"Plugins of boot {boot}\"><thead><tr><th scope=\"col\">Plugin</th>\
             <th scope=\"col\">Version</th><th scope=\"col\">SHA-256</th>\
             <th scope=\"col\">File</th></tr></thead><tbody>",
        );
        for ListedPlugin { name, version, sha256, path } in plugins {
            let [name, version, sha256, path] = [name, version, sha256, path].map(|s| escape(s));
            let _ = write!(
                text,
                "<tr><th scope=\"row\">{name}</th><td>{version}</td><td><code>{sha256}</code></td>\
                 <td>{path}</td></tr>",
            );
        }
        text + "</tbody></table></div>"
    }
}

impl ListedPlugin {
    fn new(plugin: &BootPlugin) -> Self {
        ListedPlugin {
            name: plain(&plugin.name),
            version: plain(&plugin.version),
            sha256: plain(&plugin.sha256),
            path: plain_path(&plugin.path),
        }
    }
}

fn plain_path(path: &Path) -> String {
    plain_up_to(&path.display().to_string(), 200)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use wasmsr_engine::record::SwapCause;

    use super::*;

    fn boot(number: u64, plugins: usize, text: &str) -> BootLine {
        let plugin = BootPlugin {
            name: text.to_owned(),
            version: text.to_owned(),
            sha256: number.to_string(),
            path: PathBuf::from(text),
            replaced_by: None,
        };
        BootLine {
            format: 1,
            version: text.to_owned(),
            t: 0,
            unix_ms: 0,
            boot: number,
            vcpus: 1,
            kernel: Some(text.to_owned()),
            plugins: vec![plugin; plugins],
            profile: PathBuf::from(text),
            text: String::new(),
            generation: 1,
            state: None,
            unsaved: Vec::new(),
        }
    }

    #[test]
    fn a_flood_of_boots_and_long_names_has_a_bound_and_is_said() {
        let mut boots = Boots::default();
        let long = "x".repeat(1 << 16);
        for number in 0..600 {
            boots.add(&boot(number, 300, &long));
        }
        let said = [
            "Of 600 boots the first 500 are listed.",
            "Boots had 147952 plugins more than are listed.",
        ];
        assert_eq!(boots.cuts(), said);
        assert!(boots.tables().len() < 2_000_000, "{}", boots.tables().len());
        assert!(boots.about().len() < 1_000);
    }

    #[test]
    fn swaps_are_listed_within_a_bound() {
        let mut boots = Boots::default();
        assert!(!boots.tables().contains("Swaps"));
        let long = "x".repeat(1 << 16);
        for generation in 2..=602 {
            let BootLine { plugins, profile, text, .. } = boot(1, 30, &long);
            boots.add_swap(
                1,
                &SwapLine {
                    t: 0,
                    generation,
                    cause: SwapCause::Return,
                    set: "<b>".to_owned() + &long,
                    kept: vec![long.clone()],
                    plugins,
                    profile,
                    text,
                    calls: Vec::new(),
                    cut: false,
                },
            );
        }
        assert_eq!(boots.cuts(), ["Of 601 swaps the first 500 are listed."]);
        let tables = boots.tables();
        assert!(tables.len() < 3_000_000, "{}", tables.len());
        assert!(tables.contains("<code>&lt;b") && tables.contains("goes on as it is"));
        assert!(tables.contains("and 14 more") && tables.contains("<td>return</td>"));
    }

    #[test]
    fn the_same_plugins_are_listed_once() {
        let mut boots = Boots::default();
        for number in 1..=3 {
            let mut same = boot(number, 2, "p");
            same.plugins.iter_mut().for_each(|plugin| plugin.sha256 = "ab".to_owned());
            boots.add(&same);
        }
        assert_eq!(boots.tables().matches("<table").count(), 1);
        assert_eq!(boots.tables().matches("with the same plugins").count(), 2);
        assert_eq!(boots.cuts(), [] as [&str; 0]);
    }
}
