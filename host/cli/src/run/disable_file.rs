//! The way to disable plugins when the VM's socket does not answer: a file beside it, and
//! SIGUSR1.

use wasmsr_engine::profile::OnFailure;

use super::running::Running;

/// Does what the file says, and removes it.
pub(super) fn carry_out(running: &Running) {
    let wishes = match wasmsr_stats::take_wishes() {
        Ok(wishes) => wishes,
        Err(error) => return tracing::warn!("SIGUSR1: {error}; nothing is disabled"),
    };
    for line in wishes.lines() {
        let mut words = line.split_whitespace();
        let (Some(plugin), Some(answer), None) = (words.next(), words.next(), words.next()) else {
            tracing::warn!("SIGUSR1: a line is not `PLUGIN ANSWER`; it is passed over");
            continue;
        };
        let answer = match answer {
            "kernel" => OnFailure::Kernel,
            "fault" => OnFailure::Fault,
            "ignore" => OnFailure::Ignore,
            _ => {
                tracing::warn!("SIGUSR1: an answer is not kernel, fault or ignore");
                continue;
            }
        };
        match running.disable(plugin, Some(answer)) {
            Ok(()) => tracing::warn!("plugin {plugin} is disabled: {answer}"),
            Err(error) => tracing::warn!("SIGUSR1: {error}"),
        }
    }
}
