//! How many CPUs the physical host has.

use std::fs;

/// How many CPUs the host has online, whichever of them this process may use; at least
/// one.
pub(crate) fn online() -> u32 {
    fs::read_to_string("/sys/devices/system/cpu/online")
        .ok()
        .and_then(|list| count(list.trim()))
        .unwrap_or(1)
        .max(1)
}

/// The length of a list such as `0-3,6`.
fn count(list: &str) -> Option<u32> {
    list.split(',').try_fold(0_u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_counted_from_their_list() {
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-3,6"), Some(5));
        assert_eq!(count(""), None);
        assert_eq!(count("3-0"), None);
        assert!(online() >= 1);
    }
}
