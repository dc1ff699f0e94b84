//! What the host's scheduler gives the vCPUs' threads.
#![expect(unsafe_code, reason = "the id of a thread, which std does not tell")]

use std::fs;
use std::sync::atomic::{AtomicI32, Ordering};

use wasmsr_interface::{VcpuId, VcpuTimes};

/// The threads of a VM's vCPUs, by their ids.
#[derive(Debug)]
pub(crate) struct VcpuThreads(Vec<AtomicI32>);

impl VcpuThreads {
    pub(crate) fn new(vcpus: usize) -> Self {
        VcpuThreads((0..vcpus).map(|_| AtomicI32::new(NOT_STARTED)).collect())
    }

    /// The calling thread runs `vcpu` from now on.
    pub(crate) fn enter(&self, vcpu: VcpuId) {
        if let Some(thread) = self.of(vcpu) {
            // SAFETY: it only says which thread this is.
            thread.store(unsafe { libc::gettid() }, Ordering::Relaxed);
        }
    }

    /// How long the thread of `vcpu` has run and waited: the first two numbers
    /// of its `schedstat` (Documentation/scheduler/sched-stats.rst). The third,
    /// how often it ran, is 0 only where the kernel does not count.
    pub(crate) fn times(&self, vcpu: VcpuId) -> Option<VcpuTimes> {
        let thread = self.of(vcpu)?.load(Ordering::Relaxed);
        if thread == NOT_STARTED {
            return None;
        }
        parse(&fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?)
    }

    fn of(&self, vcpu: VcpuId) -> Option<&AtomicI32> {
        self.0.get(usize::try_from(vcpu.0).ok()?)
    }
}

const NOT_STARTED: i32 = 0;

fn parse(schedstat: &str) -> Option<VcpuTimes> {
    let mut numbers = schedstat.split_ascii_whitespace().map(|number| number.parse().ok());
    let (ran_ns, waited_ns) = (numbers.next()??, numbers.next()??);
    let ran: u64 = numbers.next()??;
    (ran > 0).then_some(VcpuTimes { ran_ns, waited_ns })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_thread_that_works_has_run() {
        let threads = VcpuThreads::new(2);
        assert_eq!(threads.times(VcpuId(1)), None, "it has not started");
        threads.enter(VcpuId(1));
        let before = threads.times(VcpuId(1)).unwrap().ran_ns;
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        assert!(threads.times(VcpuId(1)).unwrap().ran_ns > before);
    }

    #[test]
    fn a_kernel_that_does_not_count_is_not_taken_for_one_that_does() {
        assert_eq!(parse("12 34 5\n"), Some(VcpuTimes { ran_ns: 12, waited_ns: 34 }));
        assert_eq!(parse("0 0 0\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_vcpu_that_does_not_exist_has_no_thread() {
        let threads = VcpuThreads::new(1);
        threads.enter(VcpuId(7));
        assert_eq!(threads.times(VcpuId(7)), None);
    }
}
