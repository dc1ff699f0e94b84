//! QEMU, and what its serial ports say.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::debian::Debian;
use super::image::Image;
use super::options::Options;
use crate::workspace::Workspace;
use crate::{apt, process};

/// The program.
pub(super) const QEMU: &str = "qemu-system-x86_64";
const QEMU_PACKAGE: &str = "qemu-system-x86";

/// A periodic timer: now and then QEMU 7.2 loses the wake-up of an interrupt
/// that comes while an SVM guest runs. A one-shot timer, the kernel's default,
/// is then never set again and the idle host sleeps for ever; a periodic one
/// comes again.
const HOST_CMDLINE: &str = "console=ttyS0 panic=-1 mitigations=off nohz=off highres=off";

/// Three seconds on a machine of today.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// Runs a command in a nested host of this image: its standard output goes to
/// `on_line`, its standard error to ours. Returns its exit code.
pub(super) fn run(
    workspace: &Workspace,
    options: &Options,
    debian: &Debian,
    image: Image,
    command: &[String],
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<i32> {
    install()?;
    let files = Files::create(&workspace.root.join("target/nested"))?;
    fs::write(&files.initramfs, image.into_bytes(command)?)
        .with_context(|| format!("cannot write {}", files.initramfs.display()))?;
    eprintln!("nested: booting the software host for `{}`", command.join(" "));
    let mut qemu = start(options, &debian.kernel, &files)?;
    let code = attend(&mut qemu, options, &files, on_line).with_context(|| {
        format!("the nested host failed; its console is in {}", files.console.display())
    })?;
    files.remove();
    Ok(code)
}

/// Installs QEMU where it is not.
pub(super) fn install() -> Result<()> {
    if process::is_installed(QEMU) {
        return Ok(());
    }
    apt::install(&[QEMU_PACKAGE]).context("the nested host needs QEMU")
}

/// The files of one run.
struct Files {
    folder: PathBuf,
    initramfs: PathBuf,
    /// What the host's kernel says.
    console: PathBuf,
    /// What the host's init says: `started`, then the exit code.
    progress: PathBuf,
}

impl Files {
    /// Each run has its own, so that several can go on at a time.
    fn create(parent: &Path) -> Result<Self> {
        let folder = parent.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let files = Self {
            initramfs: folder.join("initramfs.cpio"),
            console: folder.join("console.log"),
            progress: folder.join("progress"),
            folder,
        };
        fs::write(&files.progress, "")?;
        Ok(files)
    }

    /// After a failure they stay, to be looked at.
    fn remove(self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("nested: cannot remove {}: {error}", self.folder.display());
        }
    }
}

fn start(options: &Options, kernel: &Path, files: &Files) -> Result<Child> {
    let file = |path: &Path| format!("file:{}", path.display());
    // It must not outlive a chore that is killed.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", QEMU])
        // One thread for all CPUs: with a thread each, QEMU 7.2 hangs or dies
        // after some minutes of guests coming and going.
        .args(["-accel", "tcg,thread=single", "-cpu", "max,+svm,+npt"])
        .args(["-smp", &options.cpus.to_string(), "-m", &options.memory_mib.to_string()])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(&files.initramfs)
        .args(["-append", HOST_CMDLINE])
        .args(["-serial", &file(&files.console)])
        .args(["-serial", "stdio"])
        // A pipe, because our own standard error may be a file, which QEMU
        // would truncate.
        .args(["-serial", "file:/dev/stderr"])
        .args(["-serial", &file(&files.progress)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {QEMU}"))
}

/// Passes output on until the machine ends or is out of time.
fn attend(
    qemu: &mut Child,
    options: &Options,
    files: &Files,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<i32> {
    let output = qemu.stdout.take().context("QEMU has no output")?;
    let errors = qemu.stderr.take().context("QEMU has no standard error")?;
    let ended = thread::scope(|scope| {
        scope.spawn(|| for_each_line(output, on_line));
        scope.spawn(|| for_each_line(errors, &mut |line| eprintln!("{line}")));
        wait(qemu, options, files)
    });
    ended?;
    exit_code(&fs::read_to_string(&files.progress)?)
}

fn wait(qemu: &mut Child, options: &Options, files: &Files) -> Result<()> {
    const POLL: Duration = Duration::from_millis(50);
    let start = Instant::now();
    while qemu.try_wait()?.is_none() {
        let booted = || fs::metadata(&files.progress).is_ok_and(|file| file.len() > 0);
        let (limit, what) = if start.elapsed() > BOOT_LIMIT && !booted() {
            (BOOT_LIMIT, "it did not reach its init")
        } else if start.elapsed() > options.timeout {
            (options.timeout, "the command was still running (see --timeout)")
        } else {
            thread::sleep(POLL);
            continue;
        };
        qemu.kill()?;
        qemu.wait()?;
        bail!("stopped after {} s: {what}", limit.as_secs());
    }
    Ok(())
}

fn for_each_line(stream: impl Read, on_line: &mut (dyn FnMut(&str) + Send)) {
    // A read that fails is QEMU's end, which `wait` reports.
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        on_line(&String::from_utf8_lossy(&line));
    }
}

/// Reads what init left.
fn exit_code(progress: &str) -> Result<i32> {
    let mut lines = progress.lines();
    match (lines.next(), lines.next()) {
        (Some("started"), Some(code)) => {
            code.parse().with_context(|| format!("`{code}` is not an exit code"))
        }
        (Some("started"), None) => bail!("it ended while the command ran"),
        (Some(complaint), _) => bail!("its init says: {complaint}"),
        (None, _) => bail!("it did not reach its init"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_tells_how_it_went() {
        assert_eq!(exit_code("started\n12\n").unwrap(), 12);
        for (progress, complaint) in [
            ("", "it did not reach its init"),
            ("started\n", "it ended while the command ran"),
            ("no /dev/kvm\n", "its init says: no /dev/kvm"),
        ] {
            assert_eq!(exit_code(progress).unwrap_err().to_string(), complaint);
        }
    }
}
