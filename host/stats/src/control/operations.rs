//! Jobs that take long, done one after the other on a thread of their own. It ends when
//! there is nothing to do, so that a VM without jobs has none.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::controls::{Controls, Job, Progress, Refusal};
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

    fn verdict(&self, id: u64, text: String) {
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
            let told = self.clone();
            let progress = Progress::new(move |text| told.verdict(id, text));
            // An operation that panics must not be one that never ends.
            let done = catch_unwind(AssertUnwindSafe(|| controls.perform(job, progress)));
            let done = done.unwrap_or_else(|_| Err(Refusal("it panicked".to_owned())));
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::{Duration, Instant};

    use super::super::controls::Action;
    use super::super::messages::{Swapped, VmInfo};
    use super::*;

    type Done = Result<Option<Swapped>, Refusal>;

    /// A VM whose jobs wait for the test; without an answer they panic.
    struct Scripted(Mutex<Receiver<Done>>);

    impl Controls for Scripted {
        fn vm(&self) -> VmInfo {
            VmInfo::default()
        }

        fn act(&self, _: Action) -> Result<(), Refusal> {
            Ok(())
        }

        fn perform(&self, _: Job, progress: Progress) -> Done {
            progress.verdict("kept".to_owned());
            self.0.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap()
        }
    }

    fn scripted() -> (Arc<dyn Controls>, Sender<Done>, Arc<Operations>) {
        let (sender, receiver) = channel();
        (Arc::new(Scripted(Mutex::new(receiver))), sender, Arc::default())
    }

    #[track_caller]
    fn becomes(operations: &Operations, id: u64, state: OperationState) -> Operation {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let operation = operations.get(id).unwrap();
            if operation.state == state {
                return operation;
            }
            assert!(Instant::now() < deadline, "{operation:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn few_wait_and_they_are_done_one_after_the_other() {
        let (controls, go, operations) = scripted();
        let begin = || operations.begin(Job::Rollback, &controls);
        let first = begin().unwrap();
        becomes(&operations, first, OperationState::Running);
        for _ in 0..MOST_WAITING {
            begin().unwrap();
        }
        assert_eq!(begin(), None, "too many wait");
        go.send(Err(Refusal("not now".into()))).unwrap();
        let failed = becomes(&operations, first, OperationState::Failed);
        assert_eq!(failed.error.as_deref(), Some("not now"));
        (0..MOST_WAITING).for_each(|_| go.send(Ok(None)).unwrap());
        let last = becomes(&operations, first + MOST_WAITING as u64, OperationState::Done);
        assert_eq!(last.verdict.as_deref(), Some("kept"), "it was told before the result");
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let (controls, go, operations) = scripted();
        let count = MOST_KNOWN as u64 + 5;
        for number in 1..=count {
            go.send(Ok(None)).unwrap();
            assert_eq!(operations.begin(Job::Rollback, &controls), Some(number));
            becomes(&operations, number, OperationState::Done);
        }
        let is_known = |number| operations.get(number).is_some();
        assert_eq!([1, 5, 6, count].map(is_known), [false, false, true, true]);
    }

    #[test]
    fn one_that_panics_has_failed_and_the_next_is_done() {
        let (controls, go, operations) = scripted();
        drop(go);
        for _ in 0..2 {
            let id = operations.begin(Job::Rollback, &controls).unwrap();
            becomes(&operations, id, OperationState::Failed);
        }
    }
}
