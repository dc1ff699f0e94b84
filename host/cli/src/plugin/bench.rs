//! `wasmsr plugin bench`: what a plugin's answers cost, with no KVM and no guest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use bytesize::ByteSize;
use serde::Serialize;
use wasmsr_engine::msr::{Direction, MsrAccess, MsrIndex, MsrOp, MsrRange, Outcome, Reason};
use wasmsr_engine::plugin::{Capability, Grant};
use wasmsr_engine::{Engine, Host, LoadOptions, MapEntry, MsrHandler, NoGuest, Profile, VcpuMsrs};

use super::measure;
use super::subject::Subject;
use crate::args;
use crate::console::print;
use crate::exit::{Code, Failure};
use crate::progress::Progress;
use crate::tables::table;

/// Most MSRs that are measured: a plugin may claim thousands.
const MOST_MSRS: usize = 32;

/// Measures a plugin. Code 1 if it fails at an access.
pub(crate) fn bench(args: &args::Bench) -> Result<Code, Failure> {
    let subject = Subject::get(&args.subject)?;
    let (profile, from) = profile(args, &subject)?;
    if cfg!(debug_assertions) {
        tracing::warn!("this wasmsr is a debug build: the times are longer than a release's");
    }
    let report = measured(&profile, &subject, from).map_err(Failure::input)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&report).map_err(Failure::host)?,
        false => report.for_people(),
    };
    print(&text).map_err(Failure::host)?;
    let failed = report.accesses.iter().any(|access| access.answer == FAILED);
    Ok(if failed { Code::DIFFERENT } else { Code::SUCCESS })
}

/// The plugin alone, as the profile has it, and which profile that is.
fn profile(args: &args::Bench, subject: &Subject) -> Result<(Profile, Option<PathBuf>), Failure> {
    let own = subject.folder.join("vm.toml");
    let own = (args.subject.is_dir() && own.is_file()).then_some(own);
    let Some(path) = args.profile.clone().or(own) else {
        return Ok((without_profile(subject)?, None));
    };
    let mut profile = Profile::read(&path).map_err(Failure::input)?;
    let wasm = subject.wasm.canonicalize().map_err(Failure::host)?;
    profile.plugins.retain(|plugin| plugin.path.canonicalize().is_ok_and(|path| path == wasm));
    if profile.plugins.is_empty() {
        return Err(Failure::input(anyhow!(
            "profile {}: no [[plugin]] has the path of {}; add one, or name another profile with \
             --profile",
            path.display(),
            subject.wasm.display()
        )));
    }
    profile.plugins.truncate(1);
    Ok((profile, Some(path)))
}

/// The plugin with no configuration and all that it asks for.
fn without_profile(subject: &Subject) -> Result<Profile, Failure> {
    let text = "boot.guest = \"hello\"\n[[plugin]]\npath = \"plugin.wasm\"\n";
    let mut profile = Profile::parse(Path::new("vm.toml"), text).map_err(Failure::host)?;
    for plugin in &mut profile.plugins {
        plugin.path.clone_from(&subject.wasm);
        plugin.grant = subject.inspection.manifest.needs.all().map(grant).collect();
    }
    Ok(profile)
}

/// Behind it stands the host of a VM with no guest, which has zeros for
/// everything.
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

fn measured(profile: &Profile, subject: &Subject, from: Option<PathBuf>) -> anyhow::Result<Report> {
    let load = || Engine::load(profile, &LoadOptions::default());
    let engine = load()?;
    let compile_ns = measure::time(5, load)?;
    let host: Arc<dyn Host> = Arc::new(NoGuest::default());
    let start_ns = measure::time(51, || engine.start(&host, 1))?;
    let fresh = || -> anyhow::Result<VcpuMsrs> {
        engine.start(&host, 1)?.vcpus.pop().context("no vCPU was started")
    };
    let map = engine.map();
    let msrs = representatives(&map);
    let accesses = msrs.iter().take(MOST_MSRS).flat_map(|&(index, entry)| {
        let directions = [Direction::Read, Direction::Write].into_iter();
        directions
            .filter(|direction| entry.directions.contains(*direction))
            .map(move |direction| (index, direction))
    });
    let accesses: Vec<(MsrIndex, Direction)> = accesses.collect();
    let mut progress = Progress::of_steps(accesses.len());
    let accesses = accesses.into_iter().map(|(index, direction)| {
        let access = one(&fresh, index, direction);
        progress.advance(1);
        access
    });
    let accesses = accesses.collect::<anyhow::Result<Vec<Access>>>()?;
    let config = profile.plugins.first().context("the profile has no plugin")?;
    let about = &subject.inspection.manifest.plugin;
    Ok(Report {
        name: about.name.clone(),
        version: about.version.to_string(),
        path: subject.wasm.display().to_string(),
        profile: from.map(|path| path.display().to_string()),
        msrs_left_out: msrs.len().saturating_sub(MOST_MSRS),
        accesses,
        fuel_limit: config.fuel,
        memory: fresh()?.instances().iter().map(|instance| instance.memory).max().unwrap_or(0),
        memory_ceiling: config.memory,
        compile_ns,
        start_ns,
    })
}

/// Ends and middle of each claim.
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

/// How an access ends in which the plugin fails.
const FAILED: &str = "failed";

/// Accesses of a fresh plugin before its fuel is read: the first may be a
/// special one.
const ACCESSES_BEFORE_FUEL: usize = 16;

fn one(
    fresh: &dyn Fn() -> anyhow::Result<VcpuMsrs>,
    index: MsrIndex,
    direction: Direction,
) -> anyhow::Result<Access> {
    let access = |op| MsrAccess { index, op, reason: Reason::Filter };
    let op = match direction {
        Direction::Read => MsrOp::Read,
        // What is read is what a plugin may be expected to take.
        Direction::Write => match fresh()?.answer(access(MsrOp::Read)) {
            Outcome::Handled(value) => MsrOp::Write(value),
            _ => MsrOp::Write(0),
        },
    };
    let mut vcpu = fresh()?;
    let mut outcome = vcpu.answer(access(op));
    for _ in 1..ACCESSES_BEFORE_FUEL {
        outcome = vcpu.answer(access(op));
    }
    let fuel = vcpu.fuel_used(index, direction);
    let time = fuel.map(|_| fresh().map(|mut vcpu| measure::access(&mut vcpu, access(op))));
    let time = time.transpose()?;
    Ok(Access {
        msr: index.to_string(),
        name: index.name(),
        op: direction.to_string(),
        answer: match (&outcome, fuel) {
            (_, None) => FAILED,
            (Outcome::Handled(_), _) => "handled",
            (Outcome::Fault, _) => "fault",
            (Outcome::Kernel, _) => "kernel",
            (Outcome::Stop(_), _) => "stop",
        },
        ns: time.map(|time| time.ours),
        native_ns: time.map(|time| time.native),
        ratio: time.map(|time| time.ratio),
        fuel,
    })
}

#[derive(Serialize)]
struct Report {
    name: String,
    version: String,
    path: String,
    profile: Option<String>,
    accesses: Vec<Access>,
    msrs_left_out: usize,
    fuel_limit: u64,
    /// Of the largest instance, in bytes.
    memory: u64,
    memory_ceiling: u64,
    compile_ns: f64,
    start_ns: f64,
}

#[derive(Serialize)]
struct Access {
    msr: String,
    name: Option<&'static str>,
    op: String,
    answer: &'static str,
    ns: Option<f64>,
    native_ns: Option<f64>,
    ratio: Option<f64>,
    fuel: Option<u64>,
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
                access.op.clone(),
                access.answer.to_owned(),
                shown(access.ns, " ns"),
                shown(access.native_ns, " ns"),
                shown(access.ratio, ""),
                access.fuel.map_or("-".to_owned(), |fuel| fuel.to_string()),
            ]);
        }
        let left_out = match self.msrs_left_out {
            0 => String::new(),
            more => format!("and {more} more MSRs that were not measured\n"),
        };
        let iec = |bytes: u64| ByteSize(bytes).display().iec().to_string();
        const PAGE: u64 = 64 << 10;
        format!(
            "plugin   {} {}\nfile     {}\nprofile  {}\n\n{}\n{left_out}\n\
             fuel     of {} an access\n\
             memory   {} an instance ({} pages), at most {} ({} pages)\n\
             compile  {:.1} ms, without the cache\n\
             start    {:.1} µs, to instantiate and init for one vCPU",
            self.name,
            self.version,
            self.path,
            self.profile.as_deref().unwrap_or("none: no configuration, every grant it asks for"),
            rows.trim_fmt(),
            self.fuel_limit,
            iec(self.memory),
            self.memory / PAGE,
            iec(self.memory_ceiling),
            self.memory_ceiling / PAGE,
            self.compile_ns / 1e6,
            self.start_ns / 1e3,
        )
    }
}
