//! A sample of the accesses, spread evenly over all of them.

/// Every n-th of the values that are added, where n is the smallest power of two that
/// keeps within the limit.
pub(super) struct Sample<T> {
    kept: Vec<T>,
    limit: usize,
    stride: u64,
    seen: u64,
}

impl<T> Sample<T> {
    /// A sample of at most `limit` values.
    pub(super) fn new(limit: usize) -> Self {
        Sample { kept: Vec::new(), limit, stride: 1, seen: 0 }
    }

    /// Adds the value that `make` returns, if it belongs to the sample.
    pub(super) fn add(&mut self, make: impl FnOnce() -> T) {
        let number = self.seen;
        self.seen += 1;
        if !number.is_multiple_of(self.stride) {
            return;
        }
        if self.kept.len() >= self.limit {
            let mut place = 0_u64;
            self.kept.retain(|_| {
                place += 1;
                !place.is_multiple_of(2)
            });
            self.stride = self.stride.saturating_mul(2);
            if !number.is_multiple_of(self.stride) {
                return;
            }
        }
        self.kept.push(make());
    }

    /// The values that are kept, in order.
    pub(super) fn kept(&self) -> &[T] {
        &self.kept
    }

    /// The number of values that were added.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// One value of how many is kept.
    pub(super) fn stride(&self) -> u64 {
        self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_every_nth() {
        for limit in 1..12 {
            for count in 0..200_u64 {
                let mut sample = Sample::new(limit);
                for number in 0..count {
                    sample.add(|| number);
                }
                let expected: Vec<u64> =
                    (0..count).filter(|number| number % sample.stride() == 0).collect();
                assert_eq!(sample.kept(), expected, "limit {limit}, of {count}");
                assert!(sample.kept().len() <= limit);
            }
        }
    }
}
