//! An image as its loader needs it, and the numbers in its file.

use std::ops::Range;

/// What an image asks of its loader.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image<'f> {
    pub(super) segments: Vec<ImageSegment<'f>>,
    pub(super) entry: u32,
}

/// A range of memory, the first part of which comes from the file. The rest
/// is zero.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ImageSegment<'f> {
    /// No longer than `memory`.
    pub(super) file: &'f [u8],
    pub(super) memory: Range<u64>,
}

/// Reads a little-endian number; `None` past the end.
pub(super) fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    let bytes = file.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}
