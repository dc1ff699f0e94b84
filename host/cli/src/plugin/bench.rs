//! `wasmsr plugin bench`: what a plugin's accesses cost, measured without KVM and
//! without a guest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use bytesize::ByteSize;
use serde::Serialize;
use wasmsr_engine::manifest::{Capability, Grant};
use wasmsr_engine::profile::PluginConfig;
use wasmsr_engine::{Engine, LoadOptions, MapEntry, Profile};
use wasmsr_interface::{Direction, MsrIndex, MsrRange, NoGuest, Reason, counted};

use super::cost::{Bench, Cost, Deed};
use super::measure;
use super::subject::Subject;
use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;
use crate::terminal::plain::{plain, pretty_json};
use crate::terminal::progress::Progress;
use crate::terminal::tables::table;
use crate::terminal::words::FAILED;

/// Most MSRs that are measured: a plugin may claim thousands.
const MOST_MSRS: usize = 32;

/// Measures a plugin. Code 1 if it fails at an access.
pub(crate) fn bench(args: &args::Bench) -> Result<Code, Failure> {
    let subject = Subject::get(&args.subject)?;
    let (profile, from) = profile(args, &subject)?;
    if cfg!(debug_assertions) {
        tracing::warn!("this wasmsr is a debug build: the times are longer than a release's");
    }
    let report = measured(&profile, &subject, from.as_deref()).map_err(Failure::input)?;
    let text = match args.json {
        true => pretty_json(&report).map_err(Failure::host)?,
        false => report.for_people(),
    };
    print(&text).map_err(Failure::host)?;
    let failed = report.accesses.iter().any(|access| access.answer == FAILED);
    Ok(if failed { Code::DIFFERENT } else { Code::SUCCESS })
}

/// A profile with this plugin alone, and the file that it comes from.
fn profile(args: &args::Bench, subject: &Subject) -> Result<(Profile, Option<PathBuf>), Failure> {
    let own = subject.folder.join("vm.toml");
    let own = (args.subject.is_dir() && own.is_file()).then_some(own);
    let Some(path) = args.profile.clone().or(own) else {
        return Ok((without_profile(subject)?, None));
    };
    let mut profile = Profile::read(&path).map_err(Failure::input)?;
    let wasm = subject.wasm.canonicalize().map_err(Failure::host)?;
    let is_it = |plugin: &PluginConfig| plugin.path.canonicalize().is_ok_and(|path| path == wasm);
    let is_in_charge = |plugin: &PluginConfig| is_it(plugin) && plugin.shadow_of.is_none();
    let place = profile.plugins.iter().position(is_in_charge);
    let Some(place) = place.or_else(|| profile.plugins.iter().position(is_it)) else {
        return Err(Failure::input(anyhow!(
            "profile {}: no [[plugin]] has the path of {}; add one, or name another profile with \
             --profile",
            path.display(),
            subject.wasm.display()
        )));
    };
    let mut plugin = profile.plugins.swap_remove(place);
    // Measured alone, a shadow has no plugin to be compared with.
    plugin.shadow_of = None;
    profile.plugins = vec![plugin];
    profile.kernel_shadows.clear();
    Ok((profile, Some(path)))
}

/// A profile with the plugin, no configuration and every grant that it asks for.
fn without_profile(subject: &Subject) -> Result<Profile, Failure> {
    let text = "[[plugin]]\npath = \"plugin.wasm\"\n";
    let mut profile = Profile::parse(Path::new("vm.toml"), text).map_err(Failure::host)?;
    for plugin in &mut profile.plugins {
        plugin.path.clone_from(&subject.wasm);
        plugin.grant = subject.inspection.manifest.needs.all().map(grant).collect();
    }
    Ok(profile)
}

/// The grant for a capability. It is safe: the host behind it belongs to a VM without a
/// guest, and answers everything with zeros.
fn grant(asked: &Capability) -> Grant {
    match asked {
        Capability::GuestMemory => Grant::GuestMemory,
        Capability::KvmMsr => Grant::KvmMsr,
        Capability::HostMsr(Some(range)) => Grant::HostMsr(*range),
        Capability::HostMsr(None) => {
            let all = MsrRange::new(MsrIndex(0), MsrIndex(u32::MAX));
            Grant::HostMsr(all.unwrap_or(MsrIndex(0).into()))
        }
        Capability::HostFile(name) => {
            Grant::HostFile { name: name.clone(), path: "/dev/null".into() }
        }
        Capability::Intercept => Grant::Intercept,
        Capability::Timer => Grant::Timer,
    }
}

fn measured(profile: &Profile, subject: &Subject, from: Option<&Path>) -> anyhow::Result<Report> {
    let load = || Engine::load(profile, &LoadOptions::default());
    let engine = load()?;
    let bench = Bench { engine: &engine, host: Arc::new(NoGuest::default()) };
    let memory = bench.memory_at_start();
    let memory = match from {
        Some(_) => memory?,
        None => memory.context(
            "the plugin does not start without a configuration; name the profile that has one \
             with --profile",
        )?,
    };
    let compile_ns = measure::time(5, load)?;
    let start_ns = bench.start_time()?;
    let map = engine.map();
    let msrs = representatives(&map);
    let shown: BTreeSet<MsrIndex> = msrs.iter().take(MOST_MSRS).map(|(index, _)| *index).collect();
    let claimed = msrs.into_iter().take(MOST_MSRS).flat_map(|(index, entry)| {
        let directions = [Direction::Read, Direction::Write].into_iter();
        let claimed = directions.filter(|direction| entry.directions.contains(*direction));
        claimed.map(move |direction| Deed { index, direction, reason: Reason::Filter })
    });
    let deeds: Vec<Deed> = claimed.chain(unhandled(&map, subject)).collect();
    ensure!(
        !deeds.is_empty(),
        "the plugin claims no MSR with this configuration; name a profile that lists some with \
         --profile"
    );
    let mut progress = Progress::of_steps(deeds.len());
    let mut accesses = Vec::new();
    let mut memory_after = memory;
    for deed in deeds {
        let cost = bench.cost(deed)?;
        progress.advance(1);
        memory_after = memory_after.max(cost.memory);
        accesses.push(Access::new(deed, &cost));
    }
    let config = profile.plugins.first().context("the profile has no plugin")?;
    let about = &subject.inspection.manifest.plugin;
    Ok(Report {
        name: about.name.clone(),
        version: about.version.to_string(),
        path: subject.wasm.display().to_string(),
        profile: from.map(|path| path.display().to_string()),
        msrs_left_out: claimed_msrs(&map).saturating_sub(shown.len() as u64),
        accesses,
        fuel_limit: config.fuel,
        memory,
        memory_after,
        memory_ceiling: config.memory,
        compile_ns,
        start_ns,
    })
}

/// The first, the middle and the last MSR of each claim.
fn representatives(map: &[MapEntry]) -> Vec<(MsrIndex, &MapEntry)> {
    let mut msrs = Vec::new();
    for entry in map {
        let (first, last) = (entry.range.first().0, entry.range.last().0);
        let mut some = vec![first, first + (last - first) / 2, last];
        some.dedup();
        msrs.extend(some.into_iter().map(|index| (MsrIndex(index), entry)));
    }
    msrs
}

/// The number of MSRs that the plugin claims.
fn claimed_msrs(map: &[MapEntry]) -> u64 {
    let mut ranges: Vec<MsrRange> = map.iter().map(|entry| entry.range).collect();
    ranges.sort_unstable();
    let (mut count, mut next) = (0, 0);
    for range in ranges {
        let end = u64::from(range.last().0) + 1;
        count += end.saturating_sub(next.max(u64::from(range.first().0)));
        next = next.max(end);
    }
    count
}

/// Accesses to an MSR that the plugin does not claim, one per reason and direction for
/// which it handles unclaimed MSRs.
fn unhandled(map: &[MapEntry], subject: &Subject) -> Vec<Deed> {
    let after = map.iter().filter_map(|entry| entry.range.last().0.checked_add(1));
    let mut candidates = [0xdead, 0].into_iter().chain(after).map(MsrIndex);
    let free = candidates.find(|&index| !map.iter().any(|entry| entry.range.contains(index)));
    let Some(index) = free else { return Vec::new() };
    let reasons = &subject.inspection.manifest.unhandled.reasons;
    let reasons = reasons.iter().map(|&reason| Reason::from(reason));
    let both = reasons.flat_map(|reason| {
        let directions = [Direction::Read, Direction::Write].into_iter();
        directions.map(move |direction| Deed { index, direction, reason })
    });
    both.collect()
}

#[derive(Serialize)]
struct Report {
    name: String,
    version: String,
    path: String,
    profile: Option<String>,
    accesses: Vec<Access>,
    msrs_left_out: u64,
    fuel_limit: u64,
    /// Bytes of the largest instance before the first access.
    memory: u64,
    /// After all accesses.
    memory_after: u64,
    memory_ceiling: u64,
    compile_ns: f64,
    start_ns: f64,
}

#[derive(Serialize)]
struct Access {
    msr: String,
    name: Option<&'static str>,
    op: String,
    /// Why the access leaves the kernel.
    reason: String,
    answer: &'static str,
    failures: u64,
    ns: Option<f64>,
    native_ns: Option<f64>,
    ratio: Option<f64>,
    fuel: Option<u64>,
}

impl Access {
    fn new(deed: Deed, cost: &Cost) -> Self {
        let time = &cost.time;
        Access {
            msr: deed.index.to_string(),
            name: deed.index.name(),
            op: deed.direction.to_string(),
            reason: deed.reason.to_string(),
            answer: cost.answer,
            failures: cost.failures,
            ns: time.map(|time| time.ours),
            native_ns: time.map(|time| time.native),
            ratio: time.map(|time| time.ratio),
            fuel: cost.fuel,
        }
    }
}

impl Report {
    fn for_people(&self) -> String {
        let head = ["MSR", "NAME", "ACCESS", "ANSWER", "TIME", "NATIVE", "RATIO", "FUEL"];
        let mut rows = table(head, &[4, 5, 6, 7]);
        let shown = |number: Option<f64>, unit: &str| {
            number.map_or("-".to_owned(), |number| format!("{number:.1}{unit}"))
        };
        for access in &self.accesses {
            rows.add_row([
                access.msr.clone(),
                access.name.unwrap_or("-").to_owned(),
                match access.reason == Reason::Filter.to_string() {
                    true => access.op.clone(),
                    false => format!("{}, {}", access.op, access.reason),
                },
                access.answer.to_owned(),
                shown(access.ns, " ns"),
                shown(access.native_ns, " ns"),
                shown(access.ratio, ""),
                access.fuel.map_or("-".to_owned(), |fuel| fuel.to_string()),
            ]);
        }
        let left_out = match self.msrs_left_out {
            0 => String::new(),
            more => format!(
                "and {} not measured\n",
                counted(more, "more MSR that was", "more MSRs that were")
            ),
        };
        let iec = |bytes: u64| ByteSize(bytes).display().iec().to_string();
        const PAGE: u64 = 64 << 10;
        format!(
            "plugin   {} {}\nfile     {}\nprofile  {}\n\n{}\n{left_out}\n\
             fuel     at most {} per access\n\
             memory   {} per instance ({} pages), {} after the accesses, at most {} ({} pages)\n\
             compile  {:.1} ms, without the cache\n\
             start    {:.1} µs, to instantiate and init for one vCPU",
            self.name,
            plain(&self.version),
            self.path,
            self.profile.as_deref().unwrap_or("none: no configuration, every grant it asks for"),
            rows.trim_fmt(),
            self.fuel_limit,
            iec(self.memory),
            self.memory / PAGE,
            iec(self.memory_after),
            iec(self.memory_ceiling),
            self.memory_ceiling / PAGE,
            self.compile_ns / 1e6,
            self.start_ns / 1e3,
        )
    }
}
