//! How much of the host's CPU time the VM has had.

use alloc::collections::VecDeque;

use wasmsr_sdk::{VcpuId, host, time, vcpus};

use crate::energy::Picojoules;

/// How many vCPUs are asked at a time: each costs a system call of the host, for
/// which a vCPU that reads a counter waits. If there are more, each time asks
/// the next ones.
const AT_A_TIME: usize = 32;

/// Measures from one reading to the next.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    host_cpus: u32,
    last_ns: u64,
    /// How long each vCPU had run when it was last asked; the next one to ask
    /// comes first.
    vcpus: VecDeque<(VcpuId, u64)>,
    /// Run time of the vCPUs that did not fit into an interval yet. The
    /// scheduler counts in its own ticks, so more than the interval may come at
    /// once.
    left_over_ns: u64,
}

/// The time between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) elapsed_ns: u64,
    /// How long the vCPUs ran, together.
    pub(crate) ran_ns: u64,
    /// The VM's part of the CPU time of the host: `part` of `whole`.
    part_ns: u128,
    whole_ns: u128,
}

impl Meter {
    /// Starts to measure now.
    pub(crate) fn new() -> Self {
        let vcpus = (0..vcpus::count()).map(|vcpu| (VcpuId(vcpu), 0)).collect();
        let host_cpus = host::cpus().max(1);
        let mut meter = Meter { host_cpus, last_ns: 0, vcpus, left_over_ns: 0 };
        meter.restart();
        meter
    }

    /// Forgets the past, and measures from now on.
    pub(crate) fn restart(&mut self) {
        for _ in (0..self.vcpus.len()).step_by(AT_A_TIME) {
            self.read();
        }
        self.left_over_ns = 0;
    }

    /// Run time that did not fit into the intervals so far.
    pub(crate) fn left_over_ns(&self) -> u64 {
        self.left_over_ns
    }

    /// Counts run time of an earlier meter in the next intervals.
    pub(crate) fn take_over(&mut self, left_over_ns: u64) {
        self.left_over_ns = left_over_ns;
    }

    /// Nanoseconds since the last reading.
    pub(crate) fn since_last_ns(&self) -> u64 {
        time::monotonic_ns().saturating_sub(self.last_ns)
    }

    /// The time since the last reading.
    pub(crate) fn read(&mut self) -> Interval {
        let now = time::monotonic_ns();
        let elapsed_ns = now.saturating_sub(self.last_ns);
        self.last_ns = now;
        let ran_ns = self.ask_vcpus();
        let whole_ns = u128::from(elapsed_ns) * u128::from(self.host_cpus);
        let ran = u128::from(self.left_over_ns) + u128::from(ran_ns);
        let part_ns = ran.min(whole_ns);
        self.left_over_ns = u64::try_from(ran - part_ns).unwrap_or(u64::MAX);
        Interval { elapsed_ns, ran_ns, part_ns, whole_ns }
    }

    fn ask_vcpus(&mut self) -> u64 {
        let mut ran_ns = 0_u64;
        for _ in 0..self.vcpus.len().min(AT_A_TIME) {
            let Some((vcpu, last_ns)) = self.vcpus.pop_front() else { break };
            // A vCPU that has not started has run for no longer than before.
            let now_ns = vcpus::times(vcpu).map_or(last_ns, |times| times.ran_ns);
            ran_ns = ran_ns.saturating_add(now_ns.saturating_sub(last_ns));
            self.vcpus.push_back((vcpu, now_ns));
        }
        ran_ns
    }
}

impl Interval {
    /// The VM's share of the host's energy.
    pub(crate) fn share(&self, host: Picojoules) -> Picojoules {
        // An interval of no time has no share.
        let whole = self.whole_ns.max(1);
        Picojoules(match host.0.checked_mul(self.part_ns) {
            Some(product) => product / whole,
            None => host.0 / whole * self.part_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;
    use wasmsr_sdk::native::Host;
    use wasmsr_sdk::vcpus::Times;

    use super::*;

    fn ran(host: &Host, vcpu: u32, ran_ns: u64) {
        host.set_vcpu_times(VcpuId(vcpu), Times { ran_ns, waited_ns: 0 });
    }

    fn host(vcpus: u32, cpus: u32) -> Host {
        let host = Host::fresh();
        host.set_vcpus(vcpus);
        host.set_host_cpus(cpus);
        host
    }

    #[test]
    fn a_vm_gets_what_it_ran_of_what_there_was() {
        let host = host(2, 4);
        let mut meter = Meter::new();
        host.set_monotonic_ns(1000);
        ran(&host, 0, 600);
        ran(&host, 1, 400);
        let interval = meter.read();
        assert_eq!((interval.elapsed_ns, interval.ran_ns), (1000, 1000));
        assert_eq!(interval.share(Picojoules(8000)), Picojoules(2000));
    }

    #[test]
    fn no_time_is_no_share() {
        let host = host(1, 1);
        let mut meter = Meter::new();
        ran(&host, 0, 500);
        assert_eq!(meter.read().share(Picojoules(u128::MAX)), Picojoules(0));
        // It comes with the next interval.
        host.set_monotonic_ns(1000);
        assert_eq!(meter.read().share(Picojoules(8000)), Picojoules(4000));
    }

    #[test]
    fn clocks_that_go_back_are_no_time() {
        let host = host(1, 1);
        host.set_monotonic_ns(1000);
        ran(&host, 0, 1000);
        let mut meter = Meter::new();
        host.set_monotonic_ns(500);
        ran(&host, 0, 500);
        let interval = meter.read();
        assert_eq!((interval.elapsed_ns, interval.ran_ns), (0, 0));
    }

    #[test]
    fn many_vcpus_take_turns() {
        let host = host(70, 100);
        let mut meter = Meter::new();
        (0..70).for_each(|vcpu| ran(&host, vcpu, 10));
        let mut all = Vec::new();
        for reading in 1..=3 {
            host.set_monotonic_ns(reading * 1000);
            all.push(meter.read().ran_ns);
        }
        assert_eq!(all, [320, 320, 60]);
    }

    proptest! {
        /// However the scheduler counts, no share is above the whole, and run
        /// time is counted once.
        #[test]
        fn shares_are_parts(
            steps in prop::collection::vec((0..1_000_000_u64, 0..3_000_000_u64), 1..32),
            cpus in 1..8_u32,
            energy in any::<u64>(),
        ) {
            let host = host(1, cpus);
            let mut meter = Meter::new();
            let (mut now, mut ran_ns, mut parts) = (0, 0, 0);
            for (elapsed, more) in steps {
                now += elapsed;
                ran_ns += more;
                host.set_monotonic_ns(now);
                ran(&host, 0, ran_ns);
                let interval = meter.read();
                prop_assert!(interval.share(Picojoules(energy.into())).0 <= energy.into());
                // Even if the product is beyond 128 bits.
                prop_assert!(interval.share(Picojoules(u128::MAX - 1)).0 < u128::MAX);
                parts += interval.part_ns;
                prop_assert!(parts <= u128::from(now) * u128::from(cpus));
                prop_assert_eq!(parts + u128::from(meter.left_over_ns), u128::from(ran_ns));
            }
        }
    }
}
