//! Signals that end the process, such as Ctrl-C: the first ends the run, a second one
//! the process.

use std::io;
use std::process;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use wasmsr_vmm::Control;

use crate::terminal::console;

/// Makes these signals events of the running VM. SIGUSR1 calls `disable`, as often as it
/// comes: an operator uses it if the VM's socket does not answer.
pub(crate) fn forward(control: &Control, disable: impl Fn() + Send + 'static) -> io::Result<()> {
    let control = control.clone();
    watch(move |first| control.signal(first), console::restore)?;
    let mut signals = Signals::new([SIGUSR1])?;
    thread::Builder::new()
        .name("kill-switch".into())
        .spawn(move || signals.forever().for_each(|_| disable()))?;
    Ok(())
}

/// Calls `first` with the number of the first signal; at a second one calls `restore`
/// and ends the process.
pub(crate) fn watch(
    first: impl FnOnce(i32) + Send + 'static,
    restore: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        let mut signals = signals.forever();
        if let Some(number) = signals.next() {
            first(number);
        }
        // The process is still there: a write to standard output may block.
        if let Some(second) = signals.next() {
            restore();
            process::exit(128 + second);
        }
    })?;
    Ok(())
}
