//! A whole log: which MSRs it names, how often, and what it says of them.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use wasmsr_interface::{Direction, MsrIndex};

use super::log_line::{LONGEST_LINE, LogAccess, Speaker, access};

/// Most MSRs that are told apart: a guest that walks over all of them is probing.
pub(crate) const MOST_MSRS: usize = 1024;

/// Most bytes of a log that are read.
pub(crate) const LARGEST: u64 = 256 << 20;

/// What a log or a recording says of an MSR.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    /// The last value written, where it is known.
    pub(crate) last_written: Option<u64>,
    /// What said it last.
    pub(crate) speaker: Option<Speaker>,
}

/// The MSRs of a log or a recording.
#[derive(Debug, Default)]
pub(crate) struct Accesses {
    pub(crate) msrs: BTreeMap<MsrIndex, Seen>,
    /// Accesses to MSRs beyond the most.
    pub(crate) left_out: u64,
    /// The rest of a log that is larger than what is read of one was not read.
    pub(crate) is_cut: bool,
}

impl Accesses {
    /// Reads a log; lines that name no access are passed over.
    pub(crate) fn of_log(log: impl BufRead) -> io::Result<Self> {
        Self::of_log_up_to(LARGEST, log)
    }

    fn of_log_up_to(most: u64, log: impl BufRead) -> io::Result<Self> {
        let mut accesses = Accesses::default();
        let mut log = log.take(most);
        let mut line = Vec::new();
        while next_line(&mut log, &mut line)? {
            if log.limit() == 0 && !log.get_mut().fill_buf()?.is_empty() {
                // Of this line there may be more, and so another number in it.
                accesses.is_cut = true;
                break;
            }
            if let Some(access) = access(&String::from_utf8_lossy(&line)) {
                let LogAccess { index, direction, value, speaker } = access;
                accesses.add(index, direction, value, Some(speaker));
            }
        }
        Ok(accesses)
    }

    /// Counts an access.
    pub(crate) fn add(
        &mut self,
        index: MsrIndex,
        direction: Direction,
        value: Option<u64>,
        speaker: Option<Speaker>,
    ) {
        if self.msrs.len() >= MOST_MSRS && !self.msrs.contains_key(&index) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let seen = self.msrs.entry(index).or_default();
        match direction {
            Direction::Read => seen.reads = seen.reads.saturating_add(1),
            Direction::Write => {
                seen.writes = seen.writes.saturating_add(1);
                seen.last_written = value.or(seen.last_written);
            }
        }
        seen.speaker = speaker.or(seen.speaker);
    }
}

/// The beginning of the next line; the rest of a long one is read and dropped.
fn next_line(log: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let chunk = log.fill_buf()?;
        if chunk.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let piece = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
        let room = LONGEST_LINE.saturating_sub(line.len());
        line.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        let used = piece.len() + usize::from(end.is_some());
        log.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_counted_by_msr() {
        let log = "noise\nkvm: vcpu0 unhandled rdmsr: 0x1c9\nkvm: vcpu0 unhandled rdmsr: 0x1c9\r\n\
                   kvm: vcpu1 unhandled wrmsr: 0x1c9 data 0x5\n\u{fffd}\0 unhandled rdmsr: 0x10";
        let accesses = Accesses::of_log(log.as_bytes()).unwrap();
        let seen: Vec<_> = accesses.msrs.iter().map(|(m, s)| (m.0, s.reads, s.writes)).collect();
        assert_eq!(seen, [(0x10, 1, 0), (0x1c9, 2, 1)]);
        assert_eq!(accesses.msrs[&MsrIndex(0x1c9)].last_written, Some(5));
    }

    #[test]
    fn a_log_that_is_too_large_is_cut_and_says_so() {
        let log = "unhandled rdmsr: 0x1c9\nunhandled rdmsr: 0x1ad\n";
        let of = |most: usize| Accesses::of_log_up_to(most as u64, log.as_bytes()).unwrap();
        let whole = of(log.len());
        assert_eq!((whole.is_cut, whole.msrs.len()), (false, 2));
        for most in log.len() - 5..log.len() {
            let cut = of(most);
            assert!(cut.is_cut && cut.msrs.keys().eq([&MsrIndex(0x1c9)]), "{most}: {cut:?}");
        }
    }

    /// A guest may write its host's log.
    #[test]
    fn a_hostile_log_is_bounded() {
        let mut log = "unhandled rdmsr: 0x1 ".repeat(1 << 16);
        log.push('\n');
        for msr in 0..5000 {
            log += &format!("unhandled rdmsr: {msr:#x}\n");
        }
        let accesses = Accesses::of_log(log.as_bytes()).unwrap();
        assert_eq!(accesses.msrs.len(), MOST_MSRS);
        assert_eq!(accesses.left_out, 5000 - MOST_MSRS as u64);
    }
}
