//! What the proof from a recording finds: each rule broken in a recording made up for it.

use serde_json::{Value, json};

use crate::fixture::{
    Broken, Counter, Counts, Outcome, Proved, Recording, Workdir, apply, prove, test,
};

const OF_VCPU: u32 = 0x1000;
const OF_VM: u32 = 0x1001;

/// One bit of mark below each number.
const COUNTERS: [Counter; 2] = [
    Counter { msr: OF_VCPU, counts: Counts::EachVcpu, mark_bits: 1 },
    Counter { msr: OF_VM, counts: Counts::Vm, mark_bits: 1 },
];

/// A read of a counter.
#[derive(Clone, Copy)]
struct Read {
    vcpu: u32,
    msr: u32,
    count: u64,
    mark: u64,
    generation: u64,
}

enum Line {
    Read(Read),
    Swap(u64),
    Other(Value),
}

/// Two vCPUs that read both counters, through two swaps.
fn sound() -> Vec<Line> {
    let mut lines = Vec::new();
    let (mut of_vcpu, mut of_vm) = (0, 0);
    for generation in 1..=3 {
        if generation > 1 {
            lines.push(Line::Swap(generation));
        }
        for _ in 0..2 {
            of_vcpu += 1;
            for vcpu in 0..2 {
                let mark = generation % 2;
                of_vm += 1;
                lines.push(Line::Read(Read {
                    vcpu,
                    msr: OF_VCPU,
                    count: of_vcpu,
                    mark,
                    generation,
                }));
                lines.push(Line::Read(Read { vcpu, msr: OF_VM, count: of_vm, mark, generation }));
            }
        }
    }
    lines
}

fn recording(lines: &[Line]) -> Recording {
    let mut reads = 0;
    let all = lines.iter().fold(Recording::with(&["counter"]), |recording, line| match line {
        Line::Read(Read { vcpu, msr, count, mark, generation }) => {
            reads += 1;
            let value = format!("{:#x}", count << 1 | mark);
            let msr = format!("{msr:#x}");
            let mut keys = json!({ "vcpu": vcpu, "msr": msr, "value": value });
            if *generation > 1 {
                keys["generation"] = json!(generation);
            }
            recording.access(keys)
        }
        Line::Swap(generation) => recording.line(json!({
            "kind": "swap", "t": 0, "generation": generation, "cause": "swap", "set": "ab",
            "plugins": [], "profile": "vm.toml", "text": "",
        })),
        Line::Other(line) => recording.line(line.clone()),
    });
    all.line(json!({ "kind": "end", "t": 0, "lines": reads, "dropped": 0 }))
}

fn proof(recording: &Recording) -> Result<Proved, Broken> {
    let workdir = Workdir::new();
    workdir.put("r.jsonl", recording.text());
    // What a proof is of is a recording for all other verbs too.
    workdir.wasmsr(&["recording", "stats", "r.jsonl"]).exited(0);
    prove(&workdir.path().join("r.jsonl"), &COUNTERS)
}

/// What is found once one thing is changed, without the sentences.
#[track_caller]
fn breaks(change: impl FnOnce(&mut Vec<Line>), expected: &Broken) {
    let mut lines = sound();
    change(&mut lines);
    let mut found = proof(&recording(&lines)).expect_err("it is not as it should be");
    assert!(found.first.first().is_some_and(|it| it.starts_with("line ")), "{found}");
    found.first.clear();
    assert_eq!(&found, expected);
}

fn read(lines: &mut [Line], position: usize) -> &mut Read {
    match &mut lines[position] {
        Line::Read(read) => read,
        _ => panic!("line {position} is no read"),
    }
}

/// The position of the first read after the first swap.
const AFTER: usize = 9;

#[apply(test)]
fn a_sound_recording_is_a_proof() -> Outcome {
    let proved = proof(&recording(&sound())).unwrap_or_else(|broken| panic!("{broken}"));
    let counted = [(0, 12), (1, 12)].into();
    assert_eq!(proved, Proved { boots: 1, swaps: 2, accesses: 24, counted });
    Ok(())
}

#[apply(test)]
fn a_read_that_is_missing_is_lost() -> Outcome {
    breaks(|lines| drop(lines.remove(AFTER)), &Broken { lost: 1, ..Broken::default() });
    // The VM's count misses it as well, on whichever vCPU.
    breaks(|lines| drop(lines.remove(AFTER + 1)), &Broken { lost: 1, ..Broken::default() });
    // Nor may the first be missing.
    breaks(|lines| drop(lines.remove(0)), &Broken { lost: 1, ..Broken::default() });
    Ok(())
}

#[apply(test)]
fn a_number_that_two_reads_have_is_doubled() -> Outcome {
    breaks(
        |lines| {
            let again = *read(lines, AFTER);
            lines.insert(AFTER, Line::Read(again));
        },
        &Broken { doubled: 1, ..Broken::default() },
    );
    Ok(())
}

#[apply(test)]
fn a_count_that_begins_again_is_doubled() -> Outcome {
    breaks(
        |lines| {
            for line in &mut lines[AFTER..] {
                if let Line::Read(read) = line
                    && (read.msr, read.vcpu) == (OF_VCPU, 1)
                {
                    read.count -= 2;
                }
            }
        },
        // 1 and 2 again, then 3 and 4 for the first time.
        &Broken { doubled: 2, ..Broken::default() },
    );
    Ok(())
}

#[apply(test)]
fn the_mark_of_another_version_is_a_mixture() -> Outcome {
    breaks(|lines| read(lines, AFTER + 3).mark ^= 1, &Broken { mixed: 1, ..Broken::default() });
    Ok(())
}

#[apply(test)]
fn an_old_set_that_answers_after_a_swap_is_misplaced() -> Outcome {
    breaks(
        |lines| read(lines, AFTER + 2).generation = 1,
        &Broken { misplaced: 1, fell: 1, ..Broken::default() },
    );
    // The first read after the swap: the generation has not fallen, and is too low.
    breaks(
        |lines| read(lines, AFTER).generation = 1,
        &Broken { misplaced: 1, ..Broken::default() },
    );
    Ok(())
}

#[apply(test)]
fn a_new_set_that_answers_before_its_swap_is_misplaced() -> Outcome {
    breaks(
        |lines| lines.swap(AFTER - 1, AFTER),
        // It has the mark of the new version, too.
        &Broken { misplaced: 1, mixed: 1, ..Broken::default() },
    );
    Ok(())
}

#[apply(test)]
fn a_swap_raises_the_generation_by_one() -> Outcome {
    for (generation, fell) in [(5, 0), (1, 1)] {
        let workdir = Workdir::new();
        let lines = [Line::Swap(generation)];
        workdir.put("r.jsonl", recording(&lines).text());
        let found = prove(&workdir.path().join("r.jsonl"), &[]).expect_err("it is not one more");
        assert_eq!((found.misplaced, found.fell), (1, fell), "{found}");
    }
    Ok(())
}

#[apply(test)]
fn what_is_not_whole_proves_nothing() -> Outcome {
    let dropped = json!({ "kind": "dropped", "t": 5, "lines": 1 });
    breaks(
        |lines| lines.insert(AFTER, Line::Other(dropped)),
        &Broken { unfit: 1, ..Broken::default() },
    );
    let fault = json!({
        "kind": "access", "t": 5, "vcpu": 0, "msr": "0x1000", "op": "read", "reason": "filter",
        "outcome": "fault", "ns": 1,
    });
    // It is one line more than the end says, too.
    breaks(|lines| lines.insert(0, Line::Other(fault)), &Broken { unfit: 2, ..Broken::default() });
    let workdir = Workdir::new();
    let whole = recording(&sound()).text();
    let without_end = &whole[..whole.trim_end().rfind('\n').expect("it has lines")];
    for (text, part) in [
        (without_end, "does not end here"),
        ("", "nothing is recorded"),
        (&whole[..whole.len() - 9], "not JSON"),
    ] {
        workdir.put("r.jsonl", text);
        let found = prove(&workdir.path().join("r.jsonl"), &COUNTERS).expect_err("it is cut");
        assert!(found.to_string().contains(part), "no `{part}`: {found}");
    }
    let found = prove(&workdir.path().join("none"), &[]).expect_err("it is not there");
    assert!(found.to_string().contains("cannot be read"), "{found}");
    Ok(())
}
