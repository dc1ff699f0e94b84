//! A token bucket: so many at once, so many a second after that.

use std::time::Instant;

/// Bounds how often something happens; counts what it refuses.
#[derive(Debug)]
pub(crate) struct RateLimit {
    burst: u32,
    per_second: u32,
    tokens: u32,
    since: Instant,
    refused: u64,
}

impl RateLimit {
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        RateLimit { burst, per_second, tokens: burst, since: Instant::now(), refused: 0 }
    }

    /// Whether it may happen now, and if so, how many were refused before it.
    pub(crate) fn allow(&mut self) -> Option<u64> {
        self.allow_at(Instant::now())
    }

    /// How many were refused since the last one that was allowed; counts anew after
    /// that.
    pub(crate) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    fn allow_at(&mut self, now: Instant) -> Option<u64> {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        if seconds > 0 {
            let earned = seconds.saturating_mul(u64::from(self.per_second));
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(self.burst);
            self.since = now;
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                Some(std::mem::take(&mut self.refused))
            }
            None => {
                self.refused += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_then_a_rate_and_the_refused_are_counted() {
        let mut limit = RateLimit::new(3, 2);
        let start = limit.since;
        let allowed = (0..10).filter(|_| limit.allow_at(start).is_some()).count();
        assert_eq!(allowed, 3);
        let later = start + Duration::from_secs(1);
        assert_eq!(limit.allow_at(later), Some(7));
        assert_eq!(limit.allow_at(later), Some(0));
        assert_eq!(limit.allow_at(later), None);
    }
}
