//! Ctrl-C and its relatives end the run; a second one ends the process.

use std::io;
use std::process;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use wasmsr_vmm::Control;

use crate::console;

/// Turns the signals that end a process into events of the running VM.
pub(crate) fn forward(control: &Control) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
    let control = control.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        let mut signals = signals.forever();
        if let Some(first) = signals.next() {
            control.signal(first);
        }
        // The run did not end at once: standard output may be stuck.
        if let Some(second) = signals.next() {
            console::restore();
            process::exit(128 + second);
        }
    })?;
    Ok(())
}
