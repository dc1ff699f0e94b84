//! A count with its noun, for people.

use std::fmt;

/// `count` and the noun that goes with it: `1 vCPU`, `2 vCPUs`.
pub fn counted<N: fmt::Display + PartialEq + From<u8>>(
    count: N,
    one: &'static str,
    many: &'static str,
) -> impl fmt::Display {
    struct Counted<N>(N, &'static str);
    impl<N: fmt::Display> fmt::Display for Counted<N> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} {}", self.0, self.1)
        }
    }
    let noun = if count == N::from(1) { one } else { many };
    Counted(count, noun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        let said = |count: u64| counted(count, "access", "accesses").to_string();
        assert_eq!(
            [0, 1, 2, 11].map(said),
            ["0 accesses", "1 access", "2 accesses", "11 accesses"]
        );
        assert_eq!(counted(1_usize, "vCPU", "vCPUs").to_string(), "1 vCPU");
    }
}
