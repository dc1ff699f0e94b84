//! What the host's scheduler gives the vCPUs' threads.

use std::fs;
use std::sync::atomic::{AtomicI32, Ordering};

use wasmsr_interface::{VcpuId, VcpuTimes};

/// The threads of a VM's vCPUs, by their ids.
pub(crate) struct VcpuThreads(Vec<AtomicI32>);

impl VcpuThreads {
    pub(crate) fn new(vcpus: usize) -> Self {
        VcpuThreads((0..vcpus).map(|_| AtomicI32::new(NOT_STARTED)).collect())
    }

    /// The calling thread is from now on that of `vcpu`.
    pub(crate) fn started(&self, vcpu: VcpuId) {
        if let Some(thread) = self.of(vcpu) {
            thread.store(rustix::thread::gettid().as_raw_pid(), Ordering::Relaxed);
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

/// How many CPUs the host has online, at least one.
pub(crate) fn online_cpus() -> u32 {
    fs::read_to_string("/sys/devices/system/cpu/online")
        .ok()
        .and_then(|list| count(list.trim()))
        .unwrap_or(1)
        .max(1)
}

/// The length of a list such as `0-3,6`.
fn count(list: &str) -> Option<u32> {
    list.split(',').try_fold(0_u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_thread_that_works_has_run() {
        let threads = VcpuThreads::new(2);
        assert_eq!(threads.times(VcpuId(1)), None, "it has not started");
        threads.started(VcpuId(1));
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
        threads.started(VcpuId(7));
        assert_eq!(threads.times(VcpuId(7)), None);
    }

    #[test]
    fn cpus_are_counted_from_their_list() {
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-3,6"), Some(5));
        assert_eq!(count(""), None);
        assert_eq!(count("3-0"), None);
        assert!(online_cpus() >= 1);
    }
}
