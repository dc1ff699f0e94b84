//! How often a line may be logged.

/// One kind of line, logged at most once per interval.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Turn {
    last_ns: Option<u64>,
}

impl Turn {
    /// Whether the line may be logged now. The first time it may.
    pub(crate) fn comes(&mut self, now_ns: u64, interval_s: u32) -> bool {
        let interval = u64::from(interval_s) * 1_000_000_000;
        let comes = match self.last_ns {
            None => true,
            // If the clock went back, not before it has reached the same time
            // again.
            Some(last) => now_ns.saturating_sub(last) >= interval,
        };
        if comes {
            self.last_ns = Some(now_ns);
        }
        comes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_at_once_and_then_by_interval() {
        let mut turn = Turn::default();
        let times = [7, 8, 10_000_000_006, 10_000_000_007, 10_000_000_008, 0];
        assert_eq!(times.map(|now| turn.comes(now, 10)), [true, false, false, true, false, false]);
    }
}
