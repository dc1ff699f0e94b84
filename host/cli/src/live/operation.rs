//! Begins an operation of a running VM, and waits for it.

use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use wasmsr_stats::control::{Operation, OperationState, Started};
use wasmsr_stats::{ControlError, Vm};

use crate::exit::Failure;
use crate::terminal::plain::plain_up_to;

/// How long one answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(7);

/// Longest text of an answer that is shown.
pub(super) const LONGEST: usize = 8192;

/// How soon an operation is looked at again, at first and at most.
const SOON: Duration = Duration::from_millis(5);
const LATER: Duration = Duration::from_millis(200);

/// Sends a request whose answer says nothing.
pub(super) fn ask(vm: &Vm, path: &str, body: &impl Serialize) -> Result<(), ControlError> {
    let body = serde_json::to_string(body).unwrap_or_default();
    vm.control::<serde_json::Value>("POST", path, Some(&body), PATIENCE).map(drop)
}

/// Begins an operation and waits until `is_over` says so of it.
pub(super) fn perform(
    vm: &Vm,
    path: &str,
    body: &impl Serialize,
    is_over: impl Fn(&Operation) -> bool,
) -> Result<Operation, Failure> {
    let body = serde_json::to_string(body).unwrap_or_default();
    let Started { operation } = vm.control("POST", path, Some(&body), PATIENCE)?;
    let mut wait = SOON;
    loop {
        let began = Instant::now();
        let now: Operation =
            vm.control("GET", &format!("operations/{operation}"), None, PATIENCE)?;
        if now.state == OperationState::Failed {
            let error = now.error.unwrap_or_default();
            return Err(Failure::input(anyhow::anyhow!("{}", plain_up_to(&error, LONGEST))));
        }
        if now.state == OperationState::Done && is_over(&now) {
            return Ok(now);
        }
        thread::sleep(wait.saturating_sub(began.elapsed()));
        wait = (wait * 2).min(LATER);
    }
}
