//! The partition against a model that knows the true time.

use std::vec::Vec;

use proptest::prelude::*;
use wasmsr_sdk::Persist;

use super::*;

/// The counter's true frequency is KVM's plus this many millionths.
const PPM: i64 = 150;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Time passes, timers fire.
    Passes(u64),
    ReadsMsr(u32),
    ReadsPage(u32),
    /// Writes `HV_X64_MSR_REFERENCE_TSC`.
    Puts(u32, u64),
    /// Writes `IA32_TSC_ADJUST`.
    Adjusts(u32, u64),
    Trusts(bool),
    /// Saved, and restored in a new instance.
    Swaps,
    Resets,
}

const VCPUS: u32 = 2;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let vcpu = || 0..VCPUS;
    let register = prop_oneof![
        6 => Just(PAGE.0 | 1),
        1 => Just(PAGE.0),
        1 => Just(0x1001),
        1 => Just(0x4001),
        1 => any::<u64>(),
    ];
    let adjust = prop_oneof![Just(0), 0..1_u64 << 40, (0..1_u64 << 40).prop_map(u64::wrapping_neg)];
    let passes = prop_oneof![0..500_u64, 0..100_000_u64, 0..3_000_000_000_u64];
    let step = prop_oneof![
        8 => passes.prop_map(Step::Passes),
        6 => vcpu().prop_map(Step::ReadsMsr),
        6 => vcpu().prop_map(Step::ReadsPage),
        2 => (vcpu(), register).prop_map(|(vcpu, value)| Step::Puts(vcpu, value)),
        1 => (vcpu(), adjust).prop_map(|(vcpu, adjust)| Step::Adjusts(vcpu, adjust)),
        1 => any::<bool>().prop_map(Step::Trusts),
        1 => Just(Step::Swaps),
        1 => Just(Step::Resets),
    ];
    prop::collection::vec(step, 0..60)
}

struct World {
    host: Host,
    ns: u64,
    adjusts: [u64; VCPUS as usize],
    served: u32,
    /// The vCPU whose thread the timer fires on.
    timer_on: u32,
    timer: Option<u64>,
    /// The last time that was asked for.
    asked: Option<u64>,
}

impl World {
    fn new() -> World {
        let adjusts = [0; VCPUS as usize];
        World {
            host: host(VCPUS),
            ns: 0,
            adjusts,
            served: 0,
            timer_on: 0,
            timer: None,
            asked: None,
        }
    }

    fn tsc(&self, vcpu: u32) -> u64 {
        // A guest that has run for about a day.
        let ticks =
            86_400_000_000_000 + i128::from(self.ns) * (1_000_000 + i128::from(PPM)) / 1_000_000;
        u64::try_from(ticks).unwrap().wrapping_add(self.adjusts[vcpu as usize])
    }

    /// The time that this vCPU reads from the page.
    fn paged(&self, vcpu: u32) -> Option<u64> {
        paged(&self.host, self.tsc(vcpu))
    }

    /// The host serves this vCPU.
    fn serve<R>(&mut self, vcpu: u32, call: impl FnOnce() -> R) -> R {
        self.served = vcpu;
        // No two timers have the same time, so that each new one is noticed.
        self.ns += 1;
        self.host.set_monotonic_ns(self.ns);
        self.host.set_tsc(self.tsc(vcpu));
        self.host.set_kvm_msr(IA32_TSC_ADJUST, self.adjusts[vcpu as usize]);
        let result = call();
        if self.host.timer() != self.asked {
            self.asked = self.host.timer();
            self.timer = self.asked;
            self.timer_on = vcpu;
        }
        result
    }

    /// Time passes. Returns whether a timer has fired.
    fn pass(&mut self, plugin: &mut HypervClock, ns: u64) -> bool {
        let (end, mut rung) = (self.ns + ns, false);
        while let Some(due) = self.timer.filter(|due| (self.ns + 1..=end).contains(due)) {
            self.ns = due;
            self.timer = None;
            self.serve(self.timer_on, || plugin.timer());
            rung = true;
        }
        self.ns = end;
        rung
    }
}

fn restore(plugin: &mut HypervClock, saved: &str) {
    let HypervClock::Partition(partition) = plugin else { panic!("not the VM's") };
    partition.restore(serde_json::from_str(saved).unwrap()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever guest and host do, no clock ever goes back, the page agrees
    /// with the MSR, and both are near the true time.
    #[test]
    fn time_goes_on(steps in steps()) {
        let mut world = World::new();
        let mut plugin = loaded(&world.host);
        let mut register = 0_u64;
        // vCPUs that moved their counter without the plugin's knowledge.
        let mut unseen = [false; VCPUS as usize];
        let (mut seen, mut sequences, mut turns) = (0_u64, Vec::new(), 0_u64);
        for step in steps {
            let mut now = None;
            match step {
                Step::Passes(ns) => {
                    let rung = world.pass(&mut plugin, ns);
                    unseen[world.timer_on as usize] &= !rung;
                }
                Step::ReadsMsr(vcpu) => {
                    let msr = on(vcpu, HV_X64_MSR_TIME_REF_COUNT);
                    let msr = world.serve(vcpu, || plugin.rdmsr(msr)).unwrap();
                    unseen[vcpu as usize] &= register & 1 == 0;
                    let is_shown = register == PAGE.0 | 1 && unseen == [false; VCPUS as usize];
                    if let Some(paged) = is_shown.then(|| world.paged(vcpu)).flatten() {
                        prop_assert_eq!(paged, msr);
                    }
                    now = Some(msr);
                }
                Step::ReadsPage(vcpu) if register == PAGE.0 | 1 => {
                    // The page is only right for vCPUs that the plugin knows of.
                    now = world.paged(vcpu).filter(|_| unseen == [false; VCPUS as usize]);
                }
                Step::ReadsPage(_) => {}
                Step::Puts(vcpu, value) => {
                    let msr = on(vcpu, HV_X64_MSR_REFERENCE_TSC);
                    prop_assert_eq!(world.serve(vcpu, || plugin.wrmsr(msr, value)), Ok(()));
                    register = value & !0xffe;
                    prop_assert_eq!(plugin.rdmsr(msr), Ok(register));
                    unseen[vcpu as usize] = false;
                    turns += 1;
                }
                Step::Adjusts(vcpu, adjust) => {
                    unseen[vcpu as usize] |= adjust != world.adjusts[vcpu as usize];
                    world.adjusts[vcpu as usize] = adjust;
                    turns += 1;
                }
                Step::Trusts(stable) => {
                    world.host.set_tsc_is_stable(stable);
                    turns += 1;
                }
                Step::Swaps => {
                    let vcpu = world.served;
                    let saved = world.serve(vcpu, || serde_json::to_string(&plugin.save()).unwrap());
                    plugin = loaded(&world.host);
                    world.timer = None;
                    world.serve(0, || restore(&mut plugin, &saved));
                    unseen[0] = false;
                }
                Step::Resets => {
                    let vcpu = world.served;
                    world.serve(vcpu, || plugin.reset());
                    register = 0;
                    turns += 1;
                    unseen = [0, 1].map(|vcpu| world.adjusts[vcpu] != 0);
                }
            }
            if register == PAGE.0 | 1 {
                let (sequence, ..) = page(&world.host);
                if sequence != 0 && sequences.last() != Some(&sequence) {
                    prop_assert!(!sequences.contains(&sequence), "{} again", sequence);
                    sequences.push(sequence);
                }
            }
            if let Some(now) = now {
                prop_assert!(now >= seen, "{} after {}", now, seen);
                seen = now;
                let off = (now * 100).abs_diff(world.ns);
                prop_assert!(off < 1_000_000 * (1 + turns), "{} ns off at {}", off, world.ns);
            }
        }
    }
}
