//! `wasmsr trace report`: a page about a recording, in one file that asks the
//! network for nothing. All that is counted is counted here; the page draws it.

mod html;
mod sample;
mod timeline;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use wasmsr_engine::msr::MsrIndex;
use wasmsr_engine::record::{Access, Boot, Hex, Line, Op};

use self::html::{data, escape, fill, source};
use self::sample::Sample;
use self::timeline::{Class, Timeline};
use super::tally::{Counts, Tally};
use super::units::{date, duration, moment, rate};
use crate::args;
use crate::console;
use crate::exit::{Code, Failure};
use crate::plain::{plain, plain_up_to};
use crate::recording::{Read, Recording};

const PAGE: &str = include_str!("report/page.html");
const STYLE: &str = include_str!("report/page.css");
const SCRIPT: &str = include_str!("report/page.js");

/// Most boots, gaps, and troubles (faults and failures) that are listed.
const MOST_LISTED: usize = 500;

/// Most plugins of a boot that are listed.
const MOST_PLUGINS: usize = 256;

/// Writes the page.
pub(crate) fn report(args: &args::TraceReport) -> Result<Code, Failure> {
    refuse_the_recording(&args.file, &args.output)?;
    let mut recording = Recording::open(&args.file)?;
    let mut found = Found::new(usize::try_from(args.rows).unwrap_or(usize::MAX));
    for line in &mut recording {
        let Read { boot, line, .. } = line?;
        if args.filter.takes(boot, &line) {
            found.add(boot, &line);
        }
    }
    let notes = found.notes(&args.filter, recording.is_cut_off());
    let page = found.page(recording.name(), &notes).map_err(Failure::host)?;
    if args.output == Path::new("-") {
        let mut out = console::output();
        let written = out.write_all(page.as_bytes()).and_then(|()| out.flush());
        console::reached(written).map_err(Failure::host)?;
    } else {
        fs::write(&args.output, page)
            .with_context(|| format!("cannot write the page {}", args.output.display()))
            .map_err(Failure::input)?;
    }
    Ok(Code::SUCCESS)
}

/// A page is written anew, a recording cannot be.
fn refuse_the_recording(file: &Path, output: &Path) -> Result<(), Failure> {
    match (fs::canonicalize(file), fs::canonicalize(output)) {
        (Ok(one), Ok(other)) if one == other => Err(Failure::input(anyhow!(
            "the page {} would take the place of the recording; give it another name",
            output.display()
        ))),
        _ => Ok(()),
    }
}

/// What the page is made of.
struct Found {
    tally: Tally,
    timeline: Timeline,
    boots: Vec<Boot>,
    gaps: Vec<(u64, u64)>,
    rows: Sample<Row>,
    troubles: Vec<(u64, Access)>,
    all_troubles: u64,
}

/// An access in the page's table.
#[derive(Serialize)]
struct Row(u64, u64, u32, MsrIndex, Option<String>, Op, Option<Hex>, Class, Option<String>, u64);

/// What the page's script gets.
#[derive(Serialize)]
struct Data<'a> {
    unix_ms: Option<u64>,
    end: u64,
    timeline: &'a Timeline,
    boots: Vec<(u64, u64)>,
    gaps: &'a [(u64, u64)],
    latency: Vec<Latency>,
    stride: u64,
    rows: &'a [Row],
}

/// How long accesses took, of a plugin or an MSR.
#[derive(Serialize)]
struct Latency {
    group: &'static str,
    label: String,
    count: u64,
    mean: u64,
    p50: u64,
    p99: u64,
    max: u64,
    /// By quarter of an octave: (4 log2 of the time, count).
    buckets: Vec<(u32, u64)>,
}

impl Found {
    fn new(rows: usize) -> Self {
        Found {
            tally: Tally::default(),
            timeline: Timeline::default(),
            boots: Vec::new(),
            gaps: Vec::new(),
            rows: Sample::new(rows),
            troubles: Vec::new(),
            all_troubles: 0,
        }
    }

    fn add(&mut self, boot: u64, line: &Line) {
        self.tally.add(line);
        match line {
            Line::Boot(boot) if self.boots.len() < MOST_LISTED => {
                let mut boot = (**boot).clone();
                // The profile's text is not shown, and may be long.
                boot.text = String::new();
                boot.plugins.truncate(MOST_PLUGINS);
                self.boots.push(boot);
            }
            Line::Dropped(dropped) if self.gaps.len() < MOST_LISTED => {
                self.gaps.push((dropped.t, dropped.lines));
            }
            Line::Access(access) => self.add_access(boot, access),
            _ => {}
        }
    }

    fn add_access(&mut self, boot: u64, access: &Access) {
        let class = Class::of(access);
        self.timeline.add(access.t, class);
        if matches!(class, Class::Fault | Class::Failed | Class::Stop) {
            self.all_troubles += 1;
            if self.troubles.len() < MOST_LISTED {
                let mut access = access.clone();
                access.calls = Vec::new();
                self.troubles.push((boot, access));
            }
        }
        self.rows.add(|| {
            let name = access.name.as_deref().map(plain);
            let plugin = access.plugin.as_deref().map(plain);
            Row(
                access.t,
                boot,
                access.vcpu,
                access.msr,
                name,
                access.op,
                access.value,
                class,
                plugin,
                access.ns,
            )
        });
    }

    /// What a reader of the page must know, as paragraphs.
    fn notes(&self, filter: &args::AccessFilter, cut_off: bool) -> Vec<String> {
        let mut notes = Vec::new();
        let chosen = filter.described();
        if !chosen.is_empty() {
            notes.push(format!("Of the accesses, only those of {} are here.", chosen.join(" ")));
        }
        if self.tally.dropped > 0 {
            notes.push(format!(
                "{} lines are missing: the recorder had no room for them. They are in no count.",
                self.tally.dropped
            ));
        }
        if cut_off {
            notes.push(
                "The recording ends in the middle of a line: whoever recorded was killed.".into(),
            );
        }
        if self.rows.stride() > 1 {
            notes.push(format!(
                "The table of accesses has one of {} accesses. All else counts every one.",
                self.rows.stride()
            ));
        }
        notes
    }

    fn page(&self, recording: &str, notes: &[String]) -> serde_json::Result<String> {
        let data = data(&Data {
            unix_ms: self.boots.first().map(|boot| boot.unix_ms),
            end: self.tally.end,
            timeline: &self.timeline,
            boots: self.boots.iter().map(|boot| (boot.t, boot.boot)).collect(),
            gaps: &self.gaps,
            latency: self.latency(),
            stride: self.rows.stride(),
            rows: self.rows.kept(),
        })?;
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'",
            source(SCRIPT),
            source(STYLE)
        );
        let notes: String = notes.iter().map(|note| format!("<p>{}</p>", escape(note))).collect();
        Ok(fill(
            PAGE,
            &[
                ("policy", &policy),
                ("style", STYLE),
                ("script", SCRIPT),
                ("data", &data),
                ("recording", &escape(recording)),
                ("about", &self.about()),
                ("notes", &notes),
                ("tiles", &self.tiles()),
                ("boots", &self.boot_tables()),
                ("msrs", &self.msr_rows()),
                ("plugins", &self.plugin_rows()),
                ("calls", &self.call_rows()),
                ("troubles", &self.trouble_rows()),
                ("troubles-of", &self.troubles_said()),
                ("version", env!("CARGO_PKG_VERSION")),
            ],
        ))
    }

    fn about(&self) -> String {
        let Some(boot) = self.boots.first() else { return String::new() };
        let profile = plain_up_to(&boot.profile.display().to_string(), 200);
        let vcpus = if boot.vcpus == 1 { "vCPU" } else { "vCPUs" };
        let kernel = boot.kernel.as_deref().map(plain);
        let kernel = kernel.map_or(String::new(), |kernel| format!(", host kernel {kernel}"));
        escape(&format!(
            "Profile {profile}, {} {vcpus}, recorded {} by wasmsr {}{kernel}",
            boot.vcpus,
            date(boot.unix_ms),
            plain(&boot.version)
        ))
    }

    fn tiles(&self) -> String {
        let Tally { total, .. } = &self.tally;
        let tiles = [
            ("Accesses", grouped(total.all()), ""),
            ("Reads", grouped(total.reads), ""),
            ("Writes", grouped(total.writes), ""),
            ("Faults", grouped(total.faults), if total.faults > 0 { "fault" } else { "" }),
            ("Failures", grouped(total.failures), if total.failures > 0 { "failed" } else { "" }),
            ("Left to KVM", grouped(total.kernel), ""),
            ("Lines missing", grouped(self.tally.dropped), ""),
            ("Over", duration(self.tally.end), ""),
            ("Rate", rate(total.all(), self.tally.end), ""),
            ("Mean time", time(total, Counts::mean), ""),
            ("99th percentile", time(total, |counts| counts.quantile(0.99)), ""),
        ];
        tiles.iter().fold(String::new(), |mut text, (name, value, class)| {
            // A String takes everything.
            let _ =
                write!(text, "<div class=\"tile {class}\"><dt>{name}</dt><dd>{value}</dd></div>");
            text
        })
    }

    /// A table of plugins for each boot that has others than the one before.
    fn boot_tables(&self) -> String {
        let mut text = String::new();
        let mut before = None;
        for boot in &self.boots {
            let same = before == Some(&boot.plugins);
            before = Some(&boot.plugins);
            let _ = write!(
                text,
                "<h3>Boot {}</h3><p>At {}, {}{}</p>",
                boot.boot,
                moment(boot.t).trim_start(),
                escape(&date(boot.unix_ms)),
                match (same, boot.plugins.is_empty()) {
                    (true, _) => ", with the same plugins.",
                    (_, true) => ", with no plugins.",
                    _ => ".",
                },
            );
            if same || boot.plugins.is_empty() {
                continue;
            }
            text += "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Plugins\">\
                     <table><thead><tr><th scope=\"col\">Plugin</th><th scope=\"col\">Version</th>\
                     <th scope=\"col\">SHA-256</th><th scope=\"col\">File</th></tr></thead><tbody>";
            for plugin in &boot.plugins {
                let path = plain_up_to(&plugin.path.display().to_string(), 200);
                let _ = write!(
                    text,
                    "<tr><th scope=\"row\">{}</th><td>{}</td><td><code>{}</code></td><td>{}</td></tr>",
                    escape(&plain(&plugin.name)),
                    escape(&plain(&plugin.version)),
                    escape(&plain(&plugin.sha256)),
                    escape(&path),
                );
            }
            text += "</tbody></table></div>";
        }
        text
    }

    fn msr_rows(&self) -> String {
        let rows = self.tally.rows();
        let most = rows.iter().map(|row| row.counts.all()).max().unwrap_or(0);
        rows.into_iter().fold(String::new(), |mut text, row| {
            let msr = row.msr.map_or("others".to_owned(), |msr| msr.to_string());
            let _ = write!(
                text,
                "<tr><th scope=\"row\" data-v=\"{}\"><code>{msr}</code></th><td>{}</td><td>{}</td>{}</tr>",
                row.msr.map_or(u64::MAX, |msr| u64::from(msr.0)),
                escape(row.name.as_deref().unwrap_or("–")),
                escape(row.plugin.as_deref().unwrap_or("(policy)")),
                cells(&row.counts, most)
            );
            text
        })
    }

    fn plugin_rows(&self) -> String {
        let most = self.tally.by_plugin().map(|(_, counts)| counts.all()).max().unwrap_or(0);
        self.tally.by_plugin().fold(String::new(), |mut text, (plugin, counts)| {
            let plugin = escape(plugin.map_or("(policy)", |plugin| plugin));
            let _ = write!(text, "<tr><th scope=\"row\">{plugin}</th>{}</tr>", cells(counts, most));
            text
        })
    }

    fn call_rows(&self) -> String {
        self.tally.calls().fold(String::new(), |mut text, (plugin, call, count)| {
            let _ = write!(
                text,
                "<tr><th scope=\"row\">{}</th><td><code>{call}</code></td><td class=\"n\" data-v=\"{count}\">{count}</td></tr>",
                escape(plugin)
            );
            text
        })
    }

    fn trouble_rows(&self) -> String {
        self.troubles.iter().fold(String::new(), |mut text, (boot, access)| {
            let name = access.name.as_deref().map_or(String::new(), |name| format!(" {}", plain(name)));
            let value = match (access.op, access.value) {
                (Op::Read, _) => "read".to_owned(),
                (Op::Write, Some(Hex(value))) => format!("write {value:#x}"),
                (Op::Write, None) => "write".to_owned(),
            };
            let (class, what) = match Class::of(access) {
                Class::Failed => ("failed", "the plugin failed"),
                Class::Stop => ("stop", "ended the run"),
                _ => ("fault", "#GP"),
            };
            let _ = write!(
                text,
                "<tr><td class=\"n\" data-v=\"{}\">{}</td><td class=\"n\">{boot}</td><td class=\"n\">{}</td>\
                 <td data-v=\"{}\"><code>{}</code>{}</td><td>{value}</td>\
                 <td><span class=\"mark {class}\">{what}</span></td><td>{}</td></tr>",
                access.t,
                moment(access.t).trim_start(),
                access.vcpu,
                access.msr.0,
                access.msr,
                escape(&name),
                escape(&access.plugin.as_deref().map_or("(policy)".to_owned(), plain)),
            );
            text
        })
    }

    fn troubles_said(&self) -> String {
        match self.all_troubles {
            0 => "None.".to_owned(),
            all if all > self.troubles.len() as u64 => {
                format!("The first {} of {all}.", self.troubles.len())
            }
            1 => "One.".to_owned(),
            all => format!("All {all}."),
        }
    }

    fn latency(&self) -> Vec<Latency> {
        let all = Latency::new("", "All accesses".to_owned(), &self.tally.total);
        let plugins = self.tally.by_plugin().map(|(plugin, counts)| {
            let name = plugin.map_or("(policy)", |plugin| plugin).to_owned();
            Latency::new("Plugins", name, counts)
        });
        let msrs = self.tally.rows().into_iter().map(|row| {
            let msr = row.msr.map_or("others".to_owned(), |msr| msr.to_string());
            let name = row.name.as_ref().map_or(String::new(), |name| format!(" {name}"));
            let plugin = row.plugin.as_deref().unwrap_or("(policy)");
            Latency::new("MSRs", format!("{msr}{name}, {plugin}"), &row.counts)
        });
        std::iter::once(all).chain(plugins).chain(msrs).collect()
    }
}

impl Latency {
    fn new(group: &'static str, label: String, counts: &Counts) -> Self {
        let mut buckets: Vec<(u32, u64)> = Vec::new();
        for (ns, count) in counts.times() {
            let quarter = quarter_octave(ns);
            match buckets.last_mut() {
                Some((last, sum)) if *last == quarter => *sum += count,
                _ => buckets.push((quarter, count)),
            }
        }
        Latency {
            group,
            label,
            count: counts.all(),
            mean: counts.mean(),
            p50: counts.quantile(0.5),
            p99: counts.quantile(0.99),
            max: counts.max,
            buckets,
        }
    }
}

/// Four times the binary logarithm, rounded down.
fn quarter_octave(ns: u64) -> u32 {
    let ns = ns.max(1);
    let octave = ns.ilog2();
    // The fourth powers of what lies between are exact in 128 bits, if the
    // number has at most 31.
    let shift = octave.saturating_sub(30);
    let (ns, low) = (u128::from(ns >> shift), octave - shift);
    let above = (1..4).take_while(|&quarter| ns.pow(4) >= 1_u128 << (4 * low + quarter));
    4 * octave + u32::try_from(above.count()).unwrap_or_default()
}

fn time(counts: &Counts, of: impl FnOnce(&Counts) -> u64) -> String {
    if counts.all() == 0 { "–".to_owned() } else { duration(of(counts)) }
}

/// A number with a comma at each thousand.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The cells that a table has for counts, with a bar for their share.
fn cells(counts: &Counts, most: u64) -> String {
    let all = counts.all();
    // In permille of the longest bar, and to be seen at all.
    let length = (u128::from(all) * 1000 / u128::from(most.max(1))).max(u128::from(all.min(8)));
    let mut text = format!(
        "<td class=\"n\" data-v=\"{all}\">{all}</td><td class=\"bar\">\
         <svg viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect width=\"{length}\" height=\"10\"/></svg></td>"
    );
    let Counts { reads, writes, faults, failures, kernel, .. } = *counts;
    let classes = ["", "", "fault", "failed", ""];
    for (count, class) in [reads, writes, faults, failures, kernel].into_iter().zip(classes) {
        let class = if count > 0 { class } else { "" };
        let _ = write!(text, "<td class=\"n {class}\" data-v=\"{count}\">{count}</td>");
    }
    for ns in [counts.mean(), counts.quantile(0.5), counts.quantile(0.99), counts.max] {
        let _ = write!(text, "<td class=\"n\" data-v=\"{ns}\">{}</td>", duration(ns));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_of_octaves() {
        let cases = [(0, 0), (1, 0), (2, 4), (3, 6), (4, 8), (1000, 39), (1024, 40), (1218, 41)];
        for (ns, expected) in cases {
            assert_eq!(quarter_octave(ns), expected, "{ns}");
        }
        assert_eq!(quarter_octave(u64::MAX), 4 * 63 + 3);
    }

    #[test]
    fn thousands_are_grouped() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn the_page_has_a_place_for_everything() {
        let page = Found::new(10).page("r.jsonl", &["a note".to_owned()]).unwrap();
        assert!(!page.contains("{{") && page.contains("a note"));
        let outside = page.replace("\"http://www.w3.org/2000/svg\"", "");
        assert!(!outside.contains("http:") && !outside.contains("https:"), "a reference outside");
    }
}
