//! How long a plugin that keeps failing is not asked.

/// Failures in a row that cost nothing but a fresh instance.
const FREE_FAILURES: u32 = 3;

/// Most accesses for which a failing plugin is not asked after a failure.
const LONGEST: u32 = 64;

/// Counts failures in a row, and the accesses for which the plugin is not asked
/// after them: 2, 4, 8, up to 64 from the fourth failure on.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures_in_a_row: u32,
    /// Accesses for which the plugin is still not asked.
    left: u32,
}

impl Backoff {
    /// The plugin has answered.
    #[inline]
    pub(super) fn succeeded(&mut self) {
        self.failures_in_a_row = 0;
    }

    /// The plugin has failed. Says for how many accesses it is not asked.
    pub(super) fn failed(&mut self) -> u32 {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.left = match self.failures_in_a_row.saturating_sub(FREE_FAILURES) {
            0 => 0,
            beyond => 1u32.checked_shl(beyond).unwrap_or(LONGEST).min(LONGEST),
        };
        self.left
    }

    /// Whether this access is one for which the plugin is not asked.
    pub(super) fn skips(&mut self) -> bool {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_the_fourth_failure_on_it_doubles_up_to_its_limit() {
        let mut backoff = Backoff::default();
        let skipped: Vec<u32> = (0..11).map(|_| backoff.failed()).collect();
        assert_eq!(skipped, [0, 0, 0, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!((0..100).filter(|_| backoff.skips()).count(), 64);
        assert_eq!(backoff.failed(), 64, "only an answer ends it");
        backoff.succeeded();
        assert_eq!(backoff.failed(), 0);
    }
}
