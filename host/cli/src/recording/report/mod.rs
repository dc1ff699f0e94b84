//! `wasmsr recording report`: a page about a recording, in one file that loads nothing
//! from the network. Everything is counted here; the page's script draws it.

mod boots;
mod html;
mod latency;
mod output;
mod rows;
mod sample;
mod tables;
mod timeline;

use serde::Serialize;
use wasmsr_engine::record::{DroppedLine, Line};

use self::boots::Boots;
use self::html::{data, escape, fill, source};
use self::latency::Latency;
use self::output::Output;
use self::rows::{Row, Rows};
use self::tables::grouped;
use self::timeline::{Class, Timeline};
use super::tally::{Counts, Tally};
use super::units::{duration, rate};
use crate::args;
use crate::exit::{Code, Failure};
use crate::recording::reader::{Read, RecordingReader};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Most gaps that are drawn.
const MOST_GAPS: usize = 500;

/// Writes the page.
pub(crate) fn report(args: &args::RecordingReport) -> Result<Code, Failure> {
    let output = Output::of(&args.output, &args.file)?;
    let mut recording = RecordingReader::open(&args.file)?;
    let mut found = Found::new(args);
    for line in &mut recording {
        let Read { boot, line, .. } = line?;
        if args.filter.takes(boot, &line) {
            found.add(boot, &line);
        }
    }
    let mut notes = found.notes(&args.filter.described());
    if recording.is_cut_off() {
        notes.push(
            "The recording ends in the middle of a line: the recording process was killed.".into(),
        );
    }
    output.write(&found.page(recording.name(), &notes).map_err(Failure::host)?)?;
    Ok(Code::SUCCESS)
}

/// The contents of the page.
struct Found {
    tally: Tally,
    timeline: Option<Timeline>,
    boots: Boots,
    gaps: Vec<(u64, u64)>,
    all_gaps: u64,
    rows: Rows,
}

/// The data for the page's script.
#[derive(Serialize)]
struct Data<'a> {
    end: u64,
    timeline: &'a Timeline,
    boots: Vec<(u64, u64)>,
    gaps: &'a [(u64, u64)],
    latency: Vec<Latency>,
    /// Which part of all accesses the table has; `None` for all.
    sampled: Option<String>,
    rows: &'a [&'a Row],
}

impl Found {
    fn new(args: &args::RecordingReport) -> Self {
        Found {
            tally: Tally::of(&args.filter),
            timeline: None,
            boots: Boots::default(),
            gaps: Vec::new(),
            all_gaps: 0,
            rows: Rows::new(usize::try_from(args.rows).unwrap_or(usize::MAX)),
        }
    }

    fn add(&mut self, boot: u64, line: &Line) {
        self.tally.add(line);
        match line {
            Line::Boot(boot) => self.boots.add(boot),
            Line::Swap(swap) => self.boots.add_swap(boot, swap),
            Line::Dropped(DroppedLine { t, lines }) => {
                self.all_gaps += 1;
                if self.gaps.len() < MOST_GAPS {
                    self.gaps.push((*t, *lines));
                }
            }
            Line::Access(access) => {
                let begin = self.tally.begin();
                let timeline = self.timeline.get_or_insert_with(|| Timeline::new(begin));
                timeline.add(access.t, Class::of(access));
                self.rows.add(boot, access);
            }
            Line::Start(_) | Line::Wake(_) | Line::End(_) => {}
        }
    }

    /// Paragraphs that a reader of the page must know.
    fn notes(&self, chosen: &[String]) -> Vec<String> {
        let mut notes = Vec::new();
        if !chosen.is_empty() {
            notes.push(format!("The page has only the accesses with {}.", chosen.join(" ")));
        }
        match self.tally.dropped {
            0 => {}
            1 => notes.push(
                "1 line is missing: the recorder had no room for it. No count has it.".into(),
            ),
            lines => notes.push(format!(
                "{} lines are missing: the recorder had no room for them. No count has them.",
                grouped(lines)
            )),
        }
        if let Some(sampled) = self.sampled() {
            notes.push(format!(
                "The table of accesses has {sampled}. Everything else counts all accesses."
            ));
        }
        if self.all_gaps > self.gaps.len() as u64 {
            notes.push(format!(
                "Lines are missing at {} places; the first {MOST_GAPS} are drawn.",
                grouped(self.all_gaps)
            ));
        }
        notes.extend(self.boots.cuts());
        notes
    }

    /// Which part of all accesses the table has; `None` for all.
    fn sampled(&self) -> Option<String> {
        let stride = self.rows.stride();
        (stride > 1).then(|| {
            format!("one of {stride} accesses, and the faults and failures that are listed")
        })
    }

    fn page(&self, recording: &str, notes: &[String]) -> serde_json::Result<String> {
        let parts = self.parts(recording, notes)?;
        Ok(fill(PAGE, &parts.each_ref().map(|(name, text)| (*name, text.as_str()))))
    }

    /// The values for the template's placeholders.
    fn parts(
        &self,
        recording: &str,
        notes: &[String],
    ) -> serde_json::Result<[(&'static str, String); 15]> {
        let data = data(&Data {
            end: self.tally.end,
            timeline: self.timeline.as_ref().unwrap_or(&Timeline::new(0)),
            boots: self.boots.begun(),
            gaps: &self.gaps,
            latency: Latency::of_all(&self.tally),
            sampled: self.sampled(),
            rows: &self.rows.kept(),
        })?;
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'",
            source(SCRIPT),
            source(STYLE)
        );
        Ok([
            ("policy", policy),
            ("style", STYLE.to_owned()),
            ("script", SCRIPT.to_owned()),
            ("data", data),
            ("recording", escape(recording)),
            ("about", self.boots.about()),
            ("notes", notes.iter().map(|note| format!("<p>{}</p>", escape(note))).collect()),
            ("tiles", self.tiles()),
            ("boots", self.boots.tables()),
            ("msrs", tables::msrs(&self.tally)),
            ("plugins", tables::plugins(&self.tally)),
            ("calls", tables::calls(&self.tally)),
            ("troubles", tables::troubles(&self.rows.troubles())),
            ("troubles-of", self.troubles_said()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ])
    }

    fn tiles(&self) -> String {
        let Tally { total, .. } = &self.tally;
        let over = self.tally.duration();
        let chosen = self.timeline.as_ref().map_or(0, |timeline| timeline.sum(Class::Fault));
        let by_failures = match total.faults.saturating_sub(chosen) {
            0 => String::new(),
            count => format!("{} where the plugin failed", grouped(count)),
        };
        let trouble = |count: u64, class| if count > 0 { class } else { "" };
        let plain = |name, value| (name, value, String::new(), "");
        let faults = grouped(total.faults);
        let failures = grouped(total.failures);
        [
            plain("Accesses", grouped(total.all())),
            plain("Reads", grouped(total.reads)),
            plain("Writes", grouped(total.writes)),
            ("Faults", faults, by_failures, trouble(total.faults, "fault")),
            ("Plugin failures", failures, String::new(), trouble(total.failures, "failed")),
            plain("KVM's own answers", grouped(total.kernel)),
            plain("Lines missing", grouped(self.tally.dropped)),
            plain("Over", duration(over)),
            plain("Rate", rate(total.all(), over)),
            plain("Mean time", time(total, Counts::mean)),
            plain("Median", time(total, |counts| counts.quantile(0.5))),
            plain("99th percentile", time(total, |counts| counts.quantile(0.99))),
        ]
        .into_iter()
        .map(|(name, value, more, class)| {
            // Long numbers may break at their commas.
            let value = value.replace(',', ",<wbr>");
            let more =
                if more.is_empty() { more } else { format!("<dd class=\"more\">{more}</dd>") };
            format!("<div class=\"tile {class}\"><dt>{name}</dt><dd>{value}</dd>{more}</div>")
        })
        .collect()
    }

    fn troubles_said(&self) -> String {
        let kinds: Vec<String> = self
            .rows
            .troubles_kept()
            .filter(|(_, all, _)| *all > 0)
            .map(|(class, all, kept)| {
                let said = format!("{}: {}", class.name(), grouped(all));
                if all > kept as u64 {
                    format!("{said}, of which {kept} are listed, spread evenly")
                } else {
                    said
                }
            })
            .collect();
        match kinds.is_empty() {
            true => String::new(),
            false => format!(
                "{}. The outcome fault is #GP(0) in the guest, as a plugin or the policy decided; \
                 failed is an access at which the plugin trapped or overran a limit, whatever \
                 the guest got; stop ended the run.",
                kinds.join("; ")
            ),
        }
    }
}

fn time(counts: &Counts, of: impl FnOnce(&Counts) -> u64) -> String {
    if counts.all() == 0 { "–".to_owned() } else { duration(of(counts)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn found() -> Found {
        Found {
            tally: Tally::default(),
            timeline: None,
            boots: Boots::default(),
            gaps: Vec::new(),
            all_gaps: 0,
            rows: Rows::new(10),
        }
    }

    #[test]
    fn the_page_has_a_place_for_everything() {
        let places: BTreeSet<&str> =
            PAGE.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0)).collect();
        let parts = found().parts("r.jsonl", &[]).unwrap();
        assert_eq!(places, parts.iter().map(|(name, _)| *name).collect());
    }

    #[test]
    fn the_page_refers_to_nothing_outside() {
        let page = found().page("r.jsonl", &["a note".to_owned()]).unwrap();
        assert!(page.contains("<p>a note</p>"));
        let outside = page.replace("\"http://www.w3.org/2000/svg\"", "");
        assert!(!outside.contains("http:") && !outside.contains("https:"), "a reference outside");
    }

    #[test]
    fn every_gap_counts_though_not_all_are_drawn() {
        let mut found = found();
        for t in 0..600 {
            found.add(1, &Line::Dropped(DroppedLine { t, lines: 2 }));
        }
        let notes = found.notes(&[]);
        assert!(notes[0].starts_with("1,200 lines are missing"), "{notes:?}");
        assert_eq!(notes[1], "Lines are missing at 600 places; the first 500 are drawn.");
        assert_eq!(found.gaps.len(), MOST_GAPS);
    }
}
