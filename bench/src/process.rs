//! The whole command from outside: the time to the guest's first instruction,
//! and its memory.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::figure::{Bench, Measured};
use crate::guest;
use crate::measure::in_turn;
use crate::plugins::{GUEST_MEMORY, Setup, built};

pub(crate) const COLD: Bench = Bench {
    name: "start_cold",
    about: "to the guest's first instruction: 16 plugins, compiled and kept / no plugin",
    unit: "ms",
    run: || start(Cache::Empty),
};

pub(crate) const WARM: Bench = Bench {
    name: "start_warm",
    about: "to the guest's first instruction: 16 plugins, from the cache / no plugin",
    unit: "ms",
    run: || start(Cache::Filled),
};

pub(crate) const MEMORY: Bench = Bench {
    name: "private_memory",
    about: "private memory beside the guest's: 16 plugins / no plugin",
    unit: "MiB",
    run: memory,
};

#[derive(Clone, Copy)]
enum Cache {
    Empty,
    Filled,
}

fn start(cache: Cache) -> Result<Measured> {
    let scene = match Scene::new(&guest::prints_and_ends())? {
        Ok(scene) => scene,
        Err(reason) => return Ok(Measured::Skipped(reason)),
    };
    // The first round, which does not count, fills the cache.
    let kept = tempfile::tempdir()?;
    let ours = || match cache {
        Cache::Filled => scene.millis_to_first_instruction(&scene.many, kept.path()),
        Cache::Empty => {
            let fresh = tempfile::tempdir()?;
            scene.millis_to_first_instruction(&scene.many, fresh.path())
        }
    };
    let none = || scene.millis_to_first_instruction(&scene.none, kept.path());
    let rounds = match cache {
        Cache::Filled => 31,
        // One second each.
        Cache::Empty => 7,
    };
    in_turn(rounds, ours, none).map(Measured::Pair)
}

fn memory() -> Result<Measured> {
    let scene = match Scene::new(&guest::prints_and_stays())? {
        Ok(scene) => scene,
        Err(reason) => return Ok(Measured::Skipped(reason)),
    };
    let cache = tempfile::tempdir()?;
    let of = |profile: &Path| {
        let mut running = scene.run(profile, cache.path())?;
        running.wait_for_first_instruction()?;
        // Other threads have finished their start by then.
        thread::sleep(Duration::from_millis(50));
        private_mib(running.0.id())
    };
    in_turn(5, || of(&scene.many), || of(&scene.none)).map(Measured::Pair)
}

/// The command and two profiles for one guest.
struct Scene {
    wasmsr: PathBuf,
    many: PathBuf,
    none: PathBuf,
    _setups: [Setup; 2],
}

impl Scene {
    /// The inner error is the reason to skip.
    fn new(image: &[u8]) -> Result<Result<Self, String>> {
        if let Err(error) = wasmsr_vmm::open_kvm() {
            return Ok(Err(error.to_string()));
        }
        let (wasmsr, many, none) = match (wasmsr()?, Setup::of_sixteen(), Setup::of_none()) {
            (Ok(wasmsr), Ok(many), Ok(none)) => (wasmsr, many, none),
            (Err(reason), _, _) | (_, Err(reason), _) | (_, _, Err(reason)) => {
                return Ok(Err(reason));
            }
        };
        Ok(Ok(Scene {
            wasmsr,
            many: many.boots(image)?,
            none: none.boots(image)?,
            _setups: [many, none],
        }))
    }

    fn run(&self, profile: &Path, cache: &Path) -> Result<Running> {
        let mut command = Command::new(&self.wasmsr);
        command.arg("run").arg(profile).arg("--cache-dir").arg(cache);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Running::start(&mut command)
    }

    fn millis_to_first_instruction(&self, profile: &Path, cache: &Path) -> Result<f64> {
        let start = Instant::now();
        let mut running = self.run(profile, cache)?;
        running.wait_for_first_instruction()?;
        let taken = start.elapsed();
        running.0.wait()?;
        Ok(taken.as_secs_f64() * 1e3)
    }
}

/// The built command; the inner error is the reason to skip.
pub(crate) fn wasmsr() -> Result<Result<PathBuf, String>> {
    let path = match std::env::var_os("WASMSR_BIN") {
        Some(path) => PathBuf::from(path),
        None => built()?.join("wasmsr"),
    };
    Ok(if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} is missing; build it first", path.display()))
    })
}

/// Ends with its owner.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn();
        Ok(Running(child.with_context(|| format!("cannot run {:?}", command.get_program()))?))
    }

    /// The guest's first instructions print a byte.
    fn wait_for_first_instruction(&mut self) -> Result<()> {
        let output = self.0.stdout.as_mut().context("no standard output")?;
        output.read_exact(&mut [0]).context("the guest printed nothing")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if the process has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Memory of a process that is not shared with others, without the mapping of
/// the guest's memory (proc(5), `/proc/pid/smaps`). The kernel may have merged a
/// neighbour into that mapping; then the neighbour is not counted.
fn private_mib(process: u32) -> Result<f64> {
    let (mut private, mut guests) = (0, 0);
    let (mut is_writable, mut is_guest) = (false, false);
    for line in fs::read_to_string(format!("/proc/{process}/smaps"))?.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("Size:"), Some(kib), Some("kB")) => {
                is_guest = is_writable && kib.parse::<u64>()? >= GUEST_MEMORY >> 10;
                guests += u32::from(is_guest);
            }
            (Some("Private_Clean:" | "Private_Dirty:"), Some(kib), Some("kB")) if !is_guest => {
                private += kib.parse::<u64>()?;
            }
            // The head of a mapping: addresses, permissions, offset.
            (Some(_), Some(permissions), Some(offset)) if offset != "kB" => {
                is_writable = permissions.starts_with("rw");
            }
            _ => {}
        }
    }
    match guests {
        1 => Ok(private as f64 / 1024.0),
        _ => bail!("{guests} mappings could be the guest's memory"),
    }
}
