//! What a ring keeps, and what it says of the rest.

use std::path::Path;
use std::sync::Mutex;

use wasmsr_interface::{MsrIndex, OutcomeKind, Reason};

use super::super::line::{AccessLine, BootLine, EndLine, FORMAT, Op, StartLine, SwapLine};
use super::super::reader::Lines;
use super::*;

fn boot(number: u64) -> Line {
    Line::Boot(Box::new(BootLine {
        format: FORMAT,
        version: "0".into(),
        t: 0,
        unix_ms: 0,
        boot: number,
        generation: 1,
        vcpus: 1,
        kernel: None,
        plugins: Vec::new(),
        profile: "p".into(),
        text: String::new(),
        state: None,
        unsaved: Vec::new(),
    }))
}

fn start() -> Line {
    Line::Start(StartLine { t: 0, calls: Vec::new(), cut: false })
}

fn access(t: u64, generation: u64, failed: bool) -> Line {
    Line::Access(AccessLine {
        t,
        vcpu: 0,
        generation,
        msr: MsrIndex(0x10),
        name: None,
        op: Op::Read,
        reason: Reason::Filter,
        rip: None,
        value: None,
        outcome: OutcomeKind::Fault,
        refused: false,
        plugin: None,
        failed,
        ns: 1,
        calls: Vec::new(),
        cut: false,
    })
}

fn swap(t: u64, generation: u64, cause: SwapCause) -> Line {
    Line::Swap(Box::new(SwapLine {
        t,
        generation,
        cause,
        set: "ab".into(),
        plugins: Vec::new(),
        kept: Vec::new(),
        profile: "p".into(),
        text: String::new(),
        calls: Vec::new(),
        cut: false,
    }))
}

fn end() -> Line {
    Line::End(EndLine { t: 9, lines: 0, dropped: 0, failed: Vec::new() })
}

/// What a ring of this size gives back of some lines.
fn kept(size: usize, lines: impl IntoIterator<Item = Line>) -> (Vec<Line>, RingCounts) {
    let ring = Ring::of(size);
    let mut sink = RingSink::new(ring.clone(), Arc::default(), |_| ());
    for line in lines {
        sink.line(&line);
        let kept = ring.kept();
        let held: usize = kept.lines.iter().map(KeptLine::size).sum();
        let head = [&kept.head.boot, &kept.head.start, &kept.head.swap];
        let head: usize = head.into_iter().flatten().map(KeptLine::size).sum();
        let last = kept.lines.back().map_or(0, KeptLine::size);
        assert_eq!(kept.used, held + head, "what it holds is what it counts");
        assert!(kept.used <= size.max(head) + last, "{} of {size}", kept.used);
    }
    let mut file = Vec::new();
    let counts = ring.write_to(&mut file).unwrap();
    let lines = Lines::new(&file[..], Path::new("r.jsonl"));
    (lines.map(|line| line.unwrap().1).collect(), counts)
}

#[test]
fn what_fits_is_all_there() {
    let all = || [boot(1), start(), access(1, 1, false), swap(2, 2, SwapCause::Swap), end()];
    let (lines, counts) = kept(1 << 20, all());
    assert_eq!(lines, all());
    assert_eq!(counts, RingCounts { accesses: 1, wakes: 0, fallen: 0 });
}

#[test]
fn the_oldest_fall_out_behind_the_start() {
    let accesses = (1..=1000).map(|t| access(t, 1, false));
    let (lines, counts) = kept(8 << 10, [boot(1), start()].into_iter().chain(accesses));
    assert_eq!(lines[..2], [boot(1), start()]);
    let Line::Dropped(dropped) = &lines[2] else { panic!("{:?}", lines[2]) };
    let later = &lines[3..];
    assert_eq!(counts.accesses, later.len() as u64);
    assert!(counts.accesses > 10);
    assert_eq!((dropped.lines, dropped.t), (1000 - counts.accesses, 1000 - counts.accesses));
    assert_eq!(counts.fallen, dropped.lines);
    assert_eq!(later.first(), Some(&access(dropped.t + 1, 1, false)));
    assert_eq!(later.last(), Some(&access(1000, 1, false)));
}

#[test]
fn the_last_swap_stays_and_gaps_are_where_lines_fell_out() {
    let mut lines = vec![boot(1), start()];
    for generation in 1..=5 {
        if generation > 1 {
            lines.push(swap(generation * 1000, generation, SwapCause::Swap));
        }
        lines.extend((1..=100).map(|n| access(generation * 1000 + n, generation, false)));
    }
    let (lines, counts) = kept(4 << 10, lines);
    let [b, s, Line::Dropped(before), Line::Swap(last), Line::Dropped(after), rest @ ..] =
        &lines[..]
    else {
        panic!("{lines:#?}")
    };
    assert_eq!((b, s, last.generation, before.lines), (&boot(1), &start(), 5, 400));
    assert_eq!(before.lines + after.lines + rest.len() as u64, 500);
    assert_eq!(counts.fallen, before.lines + after.lines);
}

#[test]
fn a_swap_that_falls_out_with_no_access_leaves_a_gap() {
    let swaps = (2..=200).map(|generation| swap(generation, generation, SwapCause::Rollback));
    let (lines, _) = kept(2 << 10, [boot(1), start()].into_iter().chain(swaps));
    let [_, _, Line::Dropped(gap), Line::Swap(first), rest @ ..] = &lines[..] else {
        panic!("{lines:#?}")
    };
    assert_eq!(gap.lines, 0);
    assert_eq!(rest.len() as u64, 200 - first.generation);
}

#[test]
fn of_earlier_boots_nothing_is_needed() {
    let of_boot = |number| {
        let accesses = (1..=100).map(|t| access(t, 1, false));
        [boot(number), start()].into_iter().chain(accesses).chain([end()])
    };
    let (lines, counts) = kept(4 << 10, (1..=9).flat_map(of_boot));
    let boots: Vec<u64> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Boot(boot) => Some(boot.boot),
            _ => None,
        })
        .collect();
    assert_eq!(boots, [9]);
    assert_eq!(counts.accesses + counts.fallen, 100);
    assert_eq!(lines.last(), Some(&end()));
}

#[test]
fn a_ring_smaller_than_a_line_keeps_the_last() {
    let (lines, counts) = kept(1, [boot(1), start(), access(1, 1, false), access(2, 1, false)]);
    assert_eq!(lines.last(), Some(&access(2, 1, false)));
    assert_eq!((lines.len(), counts.fallen), (4, 1));
}

#[test]
fn a_first_failure_and_every_return_are_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let ring = Ring::of(1 << 20);
    let mut sink =
        RingSink::new(ring, Arc::default(), move |urgent| tell.lock().unwrap().push(urgent));
    for line in [
        boot(1),
        swap(1, 2, SwapCause::Swap),
        access(1, 2, false),
        swap(2, 3, SwapCause::Return),
        access(2, 3, true),
        access(3, 3, true),
        swap(4, 4, SwapCause::Return),
    ] {
        sink.line(&line);
    }
    assert_eq!(*told.lock().unwrap(), [Urgent::Return, Urgent::Failure, Urgent::Return]);
}

#[test]
fn a_file_that_takes_long_holds_nothing_up() {
    /// Adds to the ring while it is written.
    struct Slow<'a>(&'a mut dyn FnMut());
    impl Write for Slow<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            (self.0)();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let ring = Ring::of(4 << 10);
    let mut sink = RingSink::new(ring.clone(), Arc::default(), |_| ());
    for line in [boot(1), start()].into_iter().chain((1..=50).map(|t| access(t, 1, false))) {
        sink.line(&line);
    }
    let mut more = || {
        sink.line(&access(100, 1, false));
    };
    ring.write_to(&mut Slow(&mut more)).unwrap();
}
