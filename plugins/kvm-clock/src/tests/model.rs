//! Any sequence of guest and host actions, with the time that each vCPU then
//! reads.

use proptest::prelude::*;
use wasmsr_sdk::{Persist, Timer};

use super::*;

const VCPUS: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The host's clock and the counter advance, at slightly different rates.
    Pass {
        ns: u64,
        late: u64,
    },
    /// A vCPU registers a structure; its counter was changed by this much
    /// before.
    Enable {
        vcpu: usize,
        slot: u64,
        adjust: u64,
    },
    Disable {
        vcpu: usize,
    },
    WallClock {
        vcpu: usize,
    },
    Timer,
    Swap,
}

fn any_step() -> impl Strategy<Value = Step> {
    let vcpu = || 0..VCPUS;
    let adjust = prop_oneof![4 => Just(0), 1 => any::<u64>()];
    prop_oneof![
        6 => (0..3_000_000_000_u64, 0..20_000_u64).prop_map(|(ns, late)| Step::Pass { ns, late }),
        3 => (vcpu(), 0..2_u64, adjust)
            .prop_map(|(vcpu, slot, adjust)| Step::Enable { vcpu, slot, adjust }),
        1 => vcpu().prop_map(|vcpu| Step::Disable { vcpu }),
        1 => vcpu().prop_map(|vcpu| Step::WallClock { vcpu }),
        4 => Just(Step::Timer),
        1 => Just(Step::Swap),
    ]
}

/// The guest's own state.
struct Guest {
    host: Host,
    plugin: KvmClock,
    /// The counter of a vCPU that was never changed.
    tsc: u64,
    ns: u64,
    /// The host's clock as last read, sometimes late.
    shown: u64,
    adjusts: [u64; VCPUS],
    addresses: [Option<u64>; VCPUS],
    timer_on: usize,
}

impl Guest {
    fn new() -> Self {
        let host = host(3);
        host.set_memory(GuestAddress(RAM), &[0; RAM_LEN]);
        let plugin = host.load_for(None, "{}").unwrap();
        let (tsc, ns) = (10_000_000_000, 10_000_000_000);
        let (adjusts, addresses) = ([0; VCPUS], [None; VCPUS]);
        Guest { host, plugin, tsc, ns, shown: ns, adjusts, addresses, timer_on: 0 }
    }

    /// The host as the thread of this vCPU sees it.
    fn serve(&self, vcpu: usize) {
        self.host.set_kvm_msr(TSC_ADJUST, self.adjusts[vcpu]);
        self.host.set_tsc(self.tsc.wrapping_add(self.adjusts[vcpu]));
        self.host.set_monotonic_ns(self.shown);
    }

    fn write(&mut self, vcpu: usize, msr: u32, value: u64) {
        self.serve(vcpu);
        self.plugin.wrmsr(on(u32::try_from(vcpu).unwrap(), msr), value).unwrap();
        if self.addresses.iter().any(Option::is_some) {
            self.timer_on = vcpu;
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Pass { ns, late } => {
                self.ns += ns;
                self.shown = self.shown.max(self.ns + late);
                self.tsc += ns * 2 + ns / 5000;
            }
            Step::Enable { vcpu, slot, adjust } => {
                let address = RAM + 0x100 * u64::try_from(vcpu).unwrap() + 0x40 * slot;
                self.adjusts[vcpu] = adjust;
                self.addresses[vcpu] = Some(address);
                self.write(vcpu, SYSTEM_TIME, address | 1);
            }
            Step::Disable { vcpu } => {
                self.serve(vcpu);
                self.addresses[vcpu] = None;
                self.plugin.wrmsr(on(u32::try_from(vcpu).unwrap(), SYSTEM_TIME), 0).unwrap();
            }
            Step::WallClock { vcpu } => self.write(vcpu, WALL_CLOCK, RAM + 0x800),
            Step::Timer => {
                self.serve(self.timer_on);
                self.plugin.timer();
            }
            Step::Swap => {
                self.serve(0);
                let saved = self.host.save(&self.plugin, "0.1.0").unwrap();
                self.plugin = self.host.load_for(None, "{}").unwrap();
                self.plugin.restore(&saved).unwrap();
                self.timer_on = 0;
            }
        }
    }

    /// The present time on each vCPU that has registered.
    fn read(&self) -> Vec<(TimeInfo, u64)> {
        let registered = self.addresses.iter().zip(self.adjusts);
        registered
            .filter_map(|(address, adjust)| {
                let info = TimeInfo::at(&self.host, (*address)?);
                Some((info, info.ns(self.tsc.wrapping_add(adjust))))
            })
            .collect()
    }
}

proptest! {
    #[test]
    fn all_vcpus_read_one_time_that_never_goes_back(
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let mut guest = Guest::new();
        guest.host.set_tsc_is_stable(true);
        let mut latest = 0;
        for step in steps {
            guest.step(step);
            let read = guest.read();
            let alike = guest
                .addresses
                .iter()
                .zip(guest.adjusts)
                .filter_map(|(address, adjust)| address.map(|_| adjust))
                .collect::<std::collections::BTreeSet<_>>()
                .len() < 2;
            for (info, now) in &read {
                prop_assert_eq!(info.version % 2, 0);
                prop_assert_eq!(*now, read[0].1, "one time for all");
                prop_assert!(*now >= latest, "{} after {}", now, latest);
                // The vCPU that differed may have left; the next refresh
                // notices.
                prop_assert!(info.flags & 1 == 0 || alike);
            }
            if let Some((_, now)) = read.first() {
                latest = *now;
                // The counter is 100 ppm off its nominal frequency; between
                // refreshes that adds up.
                prop_assert!(now.abs_diff(guest.ns) < 60_000_000, "{} at {}", now, guest.ns);
            }
        }
    }
}
