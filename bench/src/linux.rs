//! A stock Linux, from the command to its output, beside QEMU's `microvm`,
//! QEMU's machine that starts fastest: same kernel, initial RAM disk, command
//! line, memory and one vCPU.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::figure::{Bench, Measured};
use crate::measure::in_turn;
use crate::plugins::Setup;
use crate::process::{Running, wasmsr};

pub(crate) const FIRST_BYTE: Bench = Bench {
    name: "linux_first_byte",
    about: "to the first byte of a stock Linux: wasmsr, one plugin / QEMU microvm",
    unit: "ms",
    run: || boot(BANNER_START),
};

pub(crate) const INIT: Bench = Bench {
    name: "linux_init",
    about: "to the init of a stock Linux: wasmsr, one plugin / QEMU microvm",
    unit: "ms",
    run: || boot(IN_INIT),
};

/// The first byte that a kernel prints, of `[    0.000000] Linux version`.
const BANNER_START: &str = "[";

/// Printed by the guest's init. It differs from the text in [`COMMAND_LINE`],
/// since the kernel prints that.
const IN_INIT: &str = "in init: 42";

/// `earlyprintk`: otherwise the kernel first prints half way through its boot.
/// `edd=off`: its real-mode part, which only QEMU runs, would print before it.
const COMMAND_LINE: &str = r#"console=ttyS0 earlyprintk=ttyS0 edd=off reboot=t panic=-1 script="echo in init: $((6 * 7))""#;

const MEMORY: &str = "512M";

/// A boot takes 15 seconds in a host that is itself emulated.
const ROUNDS: usize = 3;

/// The limit for a boot that is stuck.
const LIMIT: Duration = Duration::from_secs(300);

fn boot(until: &'static str) -> Result<Measured> {
    let scene = match Scene::new()? {
        Ok(scene) => scene,
        Err(reason) => return Ok(Measured::Skipped(reason)),
    };
    let ours = || millis_until(until, &mut scene.wasmsr());
    let qemu = || millis_until(until, &mut scene.qemu());
    in_turn(ROUNDS, ours, qemu).map(Measured::Pair)
}

/// Both commands and the guest that they boot.
struct Scene {
    wasmsr: PathBuf,
    qemu: OsString,
    kernel: PathBuf,
    initrd: PathBuf,
    profile: PathBuf,
    cache: TempDir,
    _setup: Setup,
}

impl Scene {
    /// The inner error is the reason to skip.
    fn new() -> Result<Result<Self, String>> {
        if let Err(error) = wasmsr_vmm::open_kvm() {
            return Ok(Err(error.to_string()));
        }
        if Path::new("/sys/module/kvm_pvm").exists() {
            return Ok(Err("kvm_pvm cannot run it; try `cargo xtask bench --nested linux`".into()));
        }
        let Some(linux) = env::var_os("WASMSR_LINUX").map(PathBuf::from) else {
            return Ok(Err("$WASMSR_LINUX names no guest; `cargo xtask bench` has one".into()));
        };
        let qemu = env::var_os("WASMSR_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into());
        if Command::new(&qemu).arg("--version").output().is_err() {
            return Ok(Err(format!("the reference, {}, is not here", qemu.display())));
        }
        let (wasmsr, setup) = match (wasmsr()?, Setup::of_one()) {
            (Ok(wasmsr), Ok(setup)) => (wasmsr, setup),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
        };
        let (kernel, initrd) = (linux.join("vmlinuz"), linux.join("initrd.gz"));
        let profile = setup.boots_as(&format!(
            "[vm]\nmemory = \"{MEMORY}iB\"\n\
             [boot]\nkernel = {kernel:?}\ninitrd = {initrd:?}\ncmdline = '{COMMAND_LINE}'\n"
        ))?;
        let cache = tempfile::tempdir()?;
        Ok(Ok(Scene { wasmsr, qemu, kernel, initrd, profile, cache, _setup: setup }))
    }

    fn wasmsr(&self) -> Command {
        let mut command = Command::new(&self.wasmsr);
        command.arg("run").arg(&self.profile).args(["--on-reboot", "exit"]);
        command.arg("--cache-dir").arg(self.cache.path());
        command
    }

    /// With the options that QEMU's manual advises for a fast start, but with a
    /// clock, for which Linux would otherwise search for a second.
    fn qemu(&self) -> Command {
        let mut command = Command::new(&self.qemu);
        command
            .args(["-M", "microvm,x-option-roms=off,isa-serial=on,rtc=on"])
            .args(["-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", MEMORY])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-serial", "stdio", "-append", COMMAND_LINE])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd);
        command
    }
}

/// How long a command takes to print `text`; the command is then ended.
fn millis_until(text: &'static str, command: &mut Command) -> Result<f64> {
    let errors = tempfile::NamedTempFile::new()?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors.reopen()?);
    let start = Instant::now();
    let mut running = Running::start(command)?;
    let output = running.0.stdout.take().context("no standard output")?;
    let (printed, moments) = channel();
    thread::spawn(move || watch(output, text, &printed));
    match moments.recv_timeout(LIMIT) {
        Ok(Ok(moment)) => Ok((moment - start).as_secs_f64() * 1e3),
        Ok(Err(console)) => bail!(
            "{:?} ended before it printed `{text}`: {} {}",
            command.get_program(),
            last_line(&console),
            last_line(&fs::read_to_string(errors.path())?),
        ),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            bail!("{:?} did not print `{text}` within {} s", command.get_program(), LIMIT.as_secs())
        }
    }
}

/// Sends the time at which `text` came, or the output without it.
fn watch(mut output: impl Read, text: &str, printed: &Sender<Result<Instant, String>>) {
    let mut console = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = output.read(&mut piece).unwrap_or(0);
        let moment = Instant::now();
        // Searching the whole console each time would take time from the guest.
        let new = console.len().saturating_sub(text.len());
        console.extend(piece.iter().take(read));
        let mut places = console.windows(text.len()).skip(new);
        let found = places.any(|window| window == text.as_bytes());
        if found || read == 0 {
            let console = || String::from_utf8_lossy(&console).into_owned();
            // The receiver is gone if the text came too late.
            let _ = printed.send(if found { Ok(moment) } else { Err(console()) });
            return;
        }
    }
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().next_back().unwrap_or("it said nothing")
}
