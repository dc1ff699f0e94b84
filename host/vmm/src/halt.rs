//! Finds guests in which nothing can happen any more. With the interrupt
//! controller in the kernel, `hlt` does not exit: a guest that halts with
//! interrupts off would stay in `KVM_RUN` for ever, silently.

use kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_UNINITIALIZED, kvm_lapic_state,
};
use kvm_ioctls::VcpuFd;

/// What the thread of one vCPU tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sign {
    /// Exits so far.
    pub(crate) exits: u64,
    /// Its RIP, if it was found asleep since the last kick.
    pub(crate) asleep: Option<u64>,
}

/// What to do after a look at all vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// Something happens.
    Alive,
    /// Nothing has exited for a while: kick the vCPUs, so that each one looks
    /// whether it sleeps.
    Kick,
    /// No vCPU can ever run again.
    Dead,
}

/// Compares the signs of all vCPUs from tick to tick.
#[derive(Debug, Default)]
pub(crate) struct HaltWatch {
    exits: Vec<u64>,
    /// Ticks in a row at which all vCPUs were asleep.
    asleep: u32,
}

impl HaltWatch {
    /// One tick. All asleep once is not enough: the vCPUs look at themselves
    /// one after the other, and one may wake another before it falls asleep.
    pub(crate) fn look(&mut self, signs: &[Sign]) -> Liveness {
        if !signs.iter().map(|sign| sign.exits).eq(self.exits.iter().copied()) {
            *self = HaltWatch { exits: signs.iter().map(|sign| sign.exits).collect(), asleep: 0 };
            return Liveness::Alive;
        }
        let all_asleep = signs.iter().all(|sign| sign.asleep.is_some());
        self.asleep = if all_asleep { self.asleep + 1 } else { 0 };
        if self.asleep > 1 { Liveness::Dead } else { Liveness::Kick }
    }
}

/// Where `vcpu` sleeps, if only another vCPU can wake it: it waits for its
/// start, or is halted with interrupts off and no NMI to come.
///
/// To be called by the vCPU's own thread.
pub(crate) fn asleep(vcpu: &VcpuFd) -> Result<Option<u64>, kvm_ioctls::Error> {
    let sleeps = match vcpu.get_mp_state()?.mp_state {
        KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED => true,
        KVM_MP_STATE_HALTED => {
            vcpu.get_regs()?.rflags & INTERRUPT_FLAG == 0 && !timer_raises_nmi(&vcpu.get_lapic()?)
        }
        _ => false,
    };
    Ok(if sleeps { Some(vcpu.get_regs()?.rip) } else { None })
}

const INTERRUPT_FLAG: u64 = 1 << 9;

/// Whether the PIT, wired to LINT0, raises an NMI on this vCPU: the classic
/// NMI watchdog, and the only source of NMIs outside the vCPUs.
fn timer_raises_nmi(lapic: &kvm_lapic_state) -> bool {
    /// Second byte of the LVT entry: the delivery mode in its low bits.
    const LINT0_MODE: usize = 0x351;
    const LINT0_MASK: usize = 0x352;
    const NMI: i8 = 4;
    let byte = |at: usize| lapic.regs.get(at).copied().unwrap_or(0);
    byte(LINT0_MODE) & 7 == NMI && byte(LINT0_MASK) & 1 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signs as (exits, asleep) for each vCPU at each tick.
    #[track_caller]
    fn check(ticks: &[(&[(u64, bool)], Liveness)]) {
        let mut watch = HaltWatch::default();
        for (tick, (signs, expected)) in ticks.iter().enumerate() {
            let signs: Vec<_> = signs
                .iter()
                .map(|&(exits, asleep)| Sign { exits, asleep: asleep.then_some(0x1000) })
                .collect();
            assert_eq!(watch.look(&signs), *expected, "tick {tick}");
        }
    }

    use Liveness::{Alive, Dead, Kick};

    #[test]
    fn a_busy_guest_is_left_alone() {
        check(&[(&[(1, false)], Alive), (&[(2, false)], Alive), (&[(9, true)], Alive)]);
    }

    #[test]
    fn a_guest_that_computes_is_kicked_but_lives() {
        check(&[(&[(1, false)], Alive), (&[(1, false)], Kick), (&[(1, false)], Kick)]);
    }

    #[test]
    fn all_asleep_twice_is_dead() {
        check(&[
            (&[(1, false), (0, false)], Alive),
            (&[(1, false), (0, false)], Kick),
            (&[(1, true), (0, true)], Kick),
            (&[(1, true), (0, true)], Dead),
        ]);
    }

    #[test]
    fn one_that_wakes_starts_the_count_again() {
        check(&[
            (&[(1, false), (0, false)], Alive),
            (&[(1, true), (0, true)], Kick),
            (&[(1, false), (0, true)], Kick),
            (&[(1, true), (0, true)], Kick),
            (&[(2, false), (0, true)], Alive),
            (&[(2, true), (0, true)], Kick),
            (&[(2, true), (0, true)], Dead),
        ]);
    }

    #[test]
    fn lint0_as_nmi_keeps_a_halted_vcpu_alive() {
        let mut lapic = kvm_lapic_state::default();
        assert!(!timer_raises_nmi(&lapic));
        lapic.regs[0x351] = 4;
        assert!(timer_raises_nmi(&lapic));
        lapic.regs[0x352] = 1;
        assert!(!timer_raises_nmi(&lapic), "masked");
    }
}
