//! Looking MSRs up, by index and by name.

use core::cmp::Ordering;

use crate::msr::{Access, Kvm, Msr, Scope, Vendor};

include!(concat!(env!("OUT_DIR"), "/table.rs"));

/// The row of an MSR.
pub fn find(index: u32) -> Option<&'static Msr> {
    MSRS.get(INDICES.binary_search(&index).ok()?)
}

/// The name of an MSR.
pub fn name(index: u32) -> Option<&'static str> {
    name_at(INDICES.binary_search(&index).ok()?)
}

/// The MSR of a name, or of another manual's name, in any case.
pub fn index_of(name: &str) -> Option<u32> {
    let row = match BY_NAME.binary_search_by(|&at| order(name_at(usize::from(at)), name)) {
        Ok(found) => *BY_NAME.get(found)?,
        Err(_) => {
            let alias = |at| slice(ALIAS_TEXT, &ALIAS_ENDS, at);
            *ALIAS_OF.get(lowest(ALIAS_OF.len(), |at| order(alias(at), name))?)?
        }
    };
    INDICES.get(usize::from(row)).copied()
}

/// All rows, from the lowest index up.
pub fn all() -> &'static [Msr] {
    &MSRS
}

/// Every name with its index: the names of the table in the order of their MSRs, then the
/// other manuals' names in alphabetical order.
pub fn names() -> impl Iterator<Item = (&'static str, u32)> {
    let own = INDICES.iter().enumerate().filter_map(|(at, &index)| Some((name_at(at)?, index)));
    let others = ALIAS_OF.iter().enumerate().filter_map(|(at, &row)| {
        let index = INDICES.get(usize::from(row))?;
        Some((slice(ALIAS_TEXT, &ALIAS_ENDS, at)?, *index))
    });
    own.chain(others)
}

fn name_at(at: usize) -> Option<&'static str> {
    slice(NAME_TEXT, &NAME_ENDS, at)
}

/// The text at a place, of texts that stand behind each other.
fn slice(text: &'static str, ends: &[u32], at: usize) -> Option<&'static str> {
    let start = match at.checked_sub(1) {
        Some(before) => usize::try_from(*ends.get(before)?).ok()?,
        None => 0,
    };
    text.get(start..usize::try_from(*ends.get(at)?).ok()?)
}

/// How a text of the table compares with a name, in any case.
fn order(text: Option<&str>, name: &str) -> Ordering {
    let lower = |byte: u8| byte.to_ascii_lowercase();
    let text = text.unwrap_or_default();
    text.bytes().map(lower).cmp(name.bytes().map(lower))
}

/// Binary search over places.
fn lowest(count: usize, compare: impl Fn(usize) -> Ordering) -> Option<usize> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        match compare(middle) {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Some(middle),
        }
    }
    None
}
