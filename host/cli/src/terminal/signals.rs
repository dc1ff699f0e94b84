//! Ctrl-C and its relatives end the run; a second one ends the process.

use std::io;
use std::process;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use wasmsr_vmm::Control;

use crate::terminal::console;

/// Turns the signals that end a process into events of the running VM.
pub(crate) fn forward(control: &Control) -> io::Result<()> {
    let control = control.clone();
    watch(move |first| control.signal(first), console::restore)
}

/// Says the first of these signals to whoever is to end; at a second one puts
/// the terminal back and ends the process.
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
        // It did not end at once: standard output may be stuck.
        if let Some(second) = signals.next() {
            restore();
            process::exit(128 + second);
        }
    })?;
    Ok(())
}
