//! Jobs that take long, done one after the other on a thread of their own. It ends when
//! there is nothing to do, so that a VM without jobs has none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::controls::{Controls, Job, Progress};
use super::messages::{Operation, OperationState};

/// Jobs that may wait.
const MOST_WAITING: usize = 8;

/// Operations that are remembered.
const MOST_KNOWN: usize = 64;

/// The jobs of one VM.
#[derive(Default)]
pub(crate) struct Operations(Mutex<State>);

#[derive(Default)]
struct State {
    last: u64,
    waiting: VecDeque<(u64, Job)>,
    known: BTreeMap<u64, Operation>,
    has_thread: bool,
}

impl Operations {
    /// Queues a job; `None` if too many wait, or if there can be no thread.
    pub(crate) fn begin(self: &Arc<Self>, job: Job, controls: &Arc<dyn Controls>) -> Option<u64> {
        let mut state = self.lock();
        if state.waiting.len() >= MOST_WAITING {
            return None;
        }
        if !state.has_thread {
            let (operations, controls) = (self.clone(), controls.clone());
            let work = move || operations.work(&*controls);
            thread::Builder::new().name("control".into()).spawn(work).ok()?;
            state.has_thread = true;
        }
        state.last += 1;
        let id = state.last;
        let queued = OperationState::Queued;
        let operation = Operation { id, state: queued, result: None, error: None, verdict: None };
        state.known.insert(id, operation);
        while state.known.len() > MOST_KNOWN {
            state.known.pop_first();
        }
        state.waiting.push_back((id, job));
        Some(id)
    }

    /// How far an operation is; `None` if it is not known, or no more.
    pub(crate) fn get(&self, id: u64) -> Option<Operation> {
        self.lock().known.get(&id).cloned()
    }

    pub(super) fn verdict(&self, id: u64, text: String) {
        self.change(id, |operation| operation.verdict = Some(text));
    }

    fn work(self: &Arc<Self>, controls: &dyn Controls) {
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.waiting.pop_front();
                state.has_thread = next.is_some();
                next
            };
            let Some((id, job)) = next else { return };
            self.change(id, |operation| operation.state = OperationState::Running);
            let progress = Progress { operations: self.clone(), id };
            let done = controls.perform(job, progress);
            self.change(id, |operation| match done {
                Ok(result) => {
                    operation.state = OperationState::Done;
                    operation.result = result;
                }
                Err(refusal) => {
                    operation.state = OperationState::Failed;
                    operation.error = Some(refusal.0);
                }
            });
        }
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Operation)) {
        if let Some(operation) = self.lock().known.get_mut(&id) {
            change(operation);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
