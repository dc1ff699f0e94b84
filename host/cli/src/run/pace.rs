//! How soon the next boot follows: a guest that resets again and again is slowed down.

use std::time::Duration;

use wasmsr_vmm::{ResetBy, RunEnd};

use crate::args::OnReboot;

/// A boot that lived this long has worked.
const WORKED: Duration = Duration::from_secs(10);

/// So many resets in a row cost nothing.
const FREE: u32 = 3;

/// After these, and twice as long after each further one.
const FIRST: Duration = Duration::from_millis(100);

/// But no longer than this.
const LONGEST: Duration = Duration::from_secs(10);

/// The resets in a row of boots that did not live long.
#[derive(Debug, Default)]
pub(super) struct Pace {
    in_a_row: u32,
}

impl Pace {
    /// How long to wait after a boot that lived so long and ended so. What an operator
    /// asks for is done at once, and counts for nothing.
    pub(super) fn after(&mut self, end: &RunEnd, lived: Duration, mode: OnReboot) -> Duration {
        if matches!(end, RunEnd::Reset(ResetBy::Operator(_))) {
            return Duration::ZERO;
        }
        self.in_a_row = if lived < WORKED { self.in_a_row.saturating_add(1) } else { 1 };
        match self.in_a_row.checked_sub(FREE + 1) {
            Some(more) if mode == OnReboot::Boot => {
                FIRST.saturating_mul(2_u32.saturating_pow(more)).min(LONGEST)
            }
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmsr_interface::VcpuId;
    use wasmsr_vmm::At;

    use super::*;

    const RESET: RunEnd = RunEnd::Reset(ResetBy::Guest(At { vcpu: VcpuId(0), rip: Some(0x1000) }));
    const OPERATOR: RunEnd = RunEnd::Reset(ResetBy::Operator(None));

    /// The delays in milliseconds after boots that lived for these seconds.
    #[track_caller]
    fn check(mode: OnReboot, boots: &[(&RunEnd, u64)], delays: &[u64]) {
        let mut pace = Pace::default();
        let after = |(end, lived): &(&RunEnd, u64)| {
            pace.after(end, Duration::from_secs(*lived), mode).as_millis()
        };
        let found: Vec<_> = boots.iter().map(after).collect();
        assert_eq!(found, delays.iter().copied().map(u128::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_guest_that_resets_again_and_again_is_slowed_down() {
        let delays = [0, 0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        check(OnReboot::Boot, &[(&RESET, 0); 12], &delays);
        let mut pace = Pace { in_a_row: u32::MAX };
        assert_eq!(pace.after(&RESET, Duration::ZERO, OnReboot::Boot), LONGEST);
    }

    #[test]
    fn a_boot_that_lived_begins_anew() {
        let boots = [(&RESET, 0), (&RESET, 0), (&RESET, 9), (&RESET, 9), (&RESET, 10)];
        check(OnReboot::Boot, &boots, &[0, 0, 0, 100, 0]);
        check(OnReboot::Boot, &[(&RESET, 3600); 9], &[0; 9]);
    }

    #[test]
    fn neither_an_operator_nor_at_once_waits() {
        check(OnReboot::Boot, &[(&OPERATOR, 0); 9], &[0; 9]);
        check(OnReboot::AtOnce, &[(&RESET, 0); 9], &[0; 9]);
    }
}
