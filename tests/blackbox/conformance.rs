//! Every combination of what KVM knows of an MSR, which directions a plugin
//! claims, how, and what it answers. The model says what the guest must see.

use std::fmt::Write as _;

use libtest_mimic::Trial;

use crate::fixture::{Outcome, Plugin, Vm, apply, trial, trials};

/// One trial for each of these; the other combinations are in its script.
#[apply(trials)]
fn trials() -> Vec<Trial> {
    let kinds = [Kind::Known, Kind::Unknown, Kind::PassedThrough];
    let claims =
        [Claim::Never, Claim::AtOnce, Claim::Reserved, Claim::SwitchedOn, Claim::SwitchedOff];
    let pairs = kinds.into_iter().flat_map(|kind| claims.map(|claim| (kind, claim)));
    pairs
        .map(|(kind, claim)| {
            trial(format!("conformance::{kind:?}_{claim:?}"), move || check(kind, claim))
        })
        .collect()
}

/// What KVM makes of an MSR that no plugin claims.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// It keeps the value.
    Known,
    /// It has none.
    Unknown,
    /// It leaves the MSR to the processor.
    PassedThrough,
}

/// How the plugin claims it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Claim {
    Never,
    AtOnce,
    /// `intercept = "off"`, and then as the name says.
    Reserved,
    SwitchedOn,
    SwitchedOff,
}

/// What the plugin answers; the numbers are the ABI's.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Handled = 0,
    Fault = 1,
    Pass = 2,
    Kernel = 3,
}

/// The numbers are those of the host call `intercept`.
#[derive(Debug, Clone, Copy)]
enum Directions {
    Read = 1,
    Write = 2,
    Both = 3,
}

#[derive(Debug, Clone, Copy)]
enum Access {
    Read,
    Write(u64),
}

const ANSWERS: [Answer; 4] = [Answer::Handled, Answer::Fault, Answer::Pass, Answer::Kernel];

/// Each direction has an MSR of its own.
const DIRECTIONS: [Directions; 3] = [Directions::Read, Directions::Write, Directions::Both];

fn msrs(kind: Kind) -> [u32; 3] {
    match kind {
        // MTRRs: nothing but KVM's bookkeeping, on every processor.
        Kind::Known => [0x250, 0x258, 0x259],
        Kind::Unknown => [0xdead_0000, 0xdead_0002, 0xdead_0004],
        // The bases of FS and GS, which the guest does not use.
        Kind::PassedThrough => [0xc000_0100, 0xc000_0101, 0xc000_0102],
    }
}

/// What a guest may write to any of these: memory types for MTRRs, and
/// canonical addresses (Intel SDM volume 3, 12.11.1).
const WRITTEN: [u64; 4] = [1, 4, 5, 6];

fn check(kind: Kind, claim: Claim) -> Outcome {
    let mut transcript = String::new();
    let switch = match claim {
        Claim::Never | Claim::AtOnce | Claim::Reserved => &[][..],
        Claim::SwitchedOn => &[SWITCH_ON],
        Claim::SwitchedOff => &[SWITCH_ON, SWITCH_OFF],
    };
    let mut plugin_value = 0;
    for (direction, msr) in DIRECTIONS.into_iter().zip(msrs(kind)) {
        for switch in switch {
            let _ = writeln!(transcript, "w {:x} {msr:x} -> ok", switch + direction as u32);
            let _ = writeln!(transcript, "r {RESULT:x} -> 0");
        }
        let mut model = Model { kind, claim, direction, kvm: 0, plugin: &mut plugin_value };
        for (answer, value) in ANSWERS.into_iter().zip(WRITTEN) {
            let _ = writeln!(transcript, "w {ANSWER:x} {:x} -> ok", answer as u32);
            for access in [Access::Read, Access::Write(value), Access::Read] {
                let left = match access {
                    Access::Read => format!("r {msr:x}"),
                    Access::Write(value) => format!("w {msr:x} {value:x}"),
                };
                let _ = writeln!(transcript, "{left} -> {}", model.access(answer, access));
            }
        }
    }
    let grant = if claim.switches() { "grant = [\"intercept\"]" } else { "" };
    // Unlike a fault, so that a plugin that passes shows.
    let policy = r#"unknown = "ignore""#;
    Vm::new().policy(policy).plugin_with(&plugin(kind, claim), grant).prints(&transcript)
}

/// What the guest must see.
struct Model<'a> {
    kind: Kind,
    claim: Claim,
    direction: Directions,
    /// KVM's value of this MSR.
    kvm: u64,
    /// The plugin's one value, for all of its MSRs.
    plugin: &'a mut u64,
}

impl Model<'_> {
    fn access(&mut self, answer: Answer, access: Access) -> String {
        let exits = matches!(self.claim, Claim::AtOnce | Claim::SwitchedOn)
            && matches!(
                (self.direction, access),
                (Directions::Both, _)
                    | (Directions::Read, Access::Read)
                    | (Directions::Write, Access::Write(_))
            );
        let value = match (exits, answer, self.kind) {
            (true, Answer::Handled, _) => Some(&mut *self.plugin),
            (true, Answer::Fault, _) | (true, Answer::Kernel, Kind::Unknown) => None,
            // The policy ignores it.
            (true, Answer::Pass, _) | (false, _, Kind::Unknown) => Some(&mut 0),
            (true, Answer::Kernel, _) | (false, ..) => Some(&mut self.kvm),
        };
        match (value, access) {
            (None, _) => "fault".to_owned(),
            (Some(value), Access::Read) => format!("{value:x}"),
            (Some(value), Access::Write(written)) => {
                *value = written;
                "ok".to_owned()
            }
        }
    }
}

impl Claim {
    fn switches(self) -> bool {
        matches!(self, Claim::Reserved | Claim::SwitchedOn | Claim::SwitchedOff)
    }
}

/// A write says what the plugin answers from then on.
const ANSWER: u32 = 0x1000;
/// What the last `intercept` returned.
const RESULT: u32 = 0x1001;
/// With the directions added: a write of an MSR turns it on or off.
const SWITCH_ON: u32 = 0x1010;
const SWITCH_OFF: u32 = 0x1020;

fn plugin(kind: Kind, claim: Claim) -> Plugin {
    let mut claims = r#"{ range = "0x1000-0x102f" }"#.to_owned();
    for (direction, msr) in DIRECTIONS.into_iter().zip(msrs(kind)) {
        let access = match direction {
            Directions::Read => "r",
            Directions::Write => "w",
            Directions::Both => "rw",
        };
        let intercept = if claim.switches() { "off" } else { "on" };
        if claim != Claim::Never {
            let _ = write!(
                claims,
                r#", {{ range = {msr}, access = "{access}", intercept = "{intercept}" }}"#
            );
        }
    }
    let (needs, intercept) = match claim.switches() {
        true => ("needs.capabilities = [\"intercept\"]", IMPORTED),
        false => ("", ABSENT),
    };
    Plugin {
        name: "combines",
        manifest: format!("msr = [{claims}]\n{needs}").leak(),
        code: format!("{OUTCOME}{intercept}{CODE}").leak(),
    }
}

const OUTCOME: &str = r#"(import "wasmsr" "outcome" (func $outcome (param i32)))"#;

const IMPORTED: &str =
    r#"(import "wasmsr" "intercept" (func $intercept (param i32 i32 i32 i32) (result i32)))"#;

/// Many plugins change no intercepts, and their accesses take a shorter way.
const ABSENT: &str = "(func $intercept (param i32 i32 i32 i32) (result i32) (unreachable))";

const CODE: &str = "
    (global $answer (mut i32) (i32.const 0))
    (global $result (mut i32) (i32.const -1))
    (global $value (mut i64) (i64.const 0))
    (func $answered
        (if (global.get $answer) (then (call $outcome (global.get $answer)))))
    (reads
        (if (i32.eq (local.get $msr) (i32.const 0x1001))
            (then (return (i64.extend_i32_u (global.get $result)))))
        (call $answered)
        (global.get $value))
    (writes
        (local $low i32)
        (local.set $low (i32.wrap_i64 (local.get $value)))
        (if (i32.eq (local.get $msr) (i32.const 0x1000))
            (then (global.set $answer (local.get $low)) (return)))
        (if (i32.eq (i32.and (local.get $msr) (i32.const 0xffffffc0)) (i32.const 0x1000))
            (then
                (global.set $result (call $intercept
                    (local.get $low) (local.get $low)
                    (i32.and (local.get $msr) (i32.const 3))
                    (i32.and (local.get $msr) (i32.const 0x10))))
                (return)))
        (if (i32.eqz (global.get $answer))
            (then (global.set $value (local.get $value)) (return)))
        (call $answered))";
