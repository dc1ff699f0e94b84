//! The engine as another VMM embeds it, with the plugins that we ship, built by
//! `cargo xtask plugins`: no KVM, no command.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../built.rs"]
mod built;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use wasmsr_engine::{Engine, LoadOptions, Profile, SavedState, VcpuDispatch};
use wasmsr_interface::{Host, MsrAccess, MsrHandler, MsrIndex, MsrOp, NoGuest, Outcome, Reason};

fn main() -> ExitCode {
    let trials = vec![
        Trial::ignorable_test("a_run_carries_on_elsewhere_after_every_access", carries_on),
        Trial::ignorable_test("a_state_that_does_not_fit_is_refused", refuses),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

const SCRATCH: u32 = 0x5644_0001;
const FUSE: u32 = 0x5644_0002;

/// A guest's accesses: vCPU, MSR, and what is written.
const RUN: &[(usize, u32, Option<u64>)] = &[
    (0, SCRATCH, Some(0x1234)),
    (1, SCRATCH, None),
    (1, FUSE, Some(7)),
    (0, FUSE, Some(8)),
    (0, FUSE, None),
    (1, SCRATCH, Some(u64::MAX)),
    (0, SCRATCH, None),
];

/// Saved before any access and restored in a new set of instances, the rest of
/// the run sees what it would have seen.
fn carries_on() -> Result<Completion, Failed> {
    built::is_current("registers")?;
    let Some(engine) = engine("") else { return Ok(not_built()) };
    let run = |save_before: usize| {
        let mut vcpus = engine.start(&host(), 2).expect("both vCPUs start").vcpus;
        let mut seen = Vec::new();
        for (step, &(vcpu, msr, value)) in RUN.iter().enumerate() {
            if step == save_before {
                // ANCHOR: save
                let bytes = engine.save(&mut vcpus).expect("saved").to_bytes().expect("bytes");
                drop(vcpus);
                let saved = SavedState::from_bytes(&bytes).expect("what was written is read");
                vcpus = engine.restore(&host(), 2, &saved).expect("restored").vcpus;
                // ANCHOR_END: save
            }
            seen.push(access(&mut vcpus[vcpu], msr, value));
        }
        seen
    };
    let undisturbed = run(usize::MAX);
    let value = Outcome::Value;
    assert_eq!(
        undisturbed,
        [
            Outcome::Done,
            value(0x1234),
            Outcome::Done,
            Outcome::Fault,
            value(7),
            Outcome::Done,
            value(u64::MAX)
        ]
    );
    for step in 0..RUN.len() {
        assert_eq!(run(step), undisturbed, "saved before access {step}");
    }
    Ok(Completion::Completed)
}

fn refuses() -> Result<Completion, Failed> {
    built::is_current("registers")?;
    let Some(engine) = engine("") else { return Ok(not_built()) };
    let mut vcpus = engine.start(&host(), 1).expect("starts").vcpus;
    let _ = access(&mut vcpus[0], FUSE, Some(7));
    let saved = engine.save(&mut vcpus).expect("saved");
    let other = crate::engine(", mask = 1").expect("the same plugins");
    let error = other.restore(&host(), 1, &saved).err().expect("refused").to_string();
    for part in ["`registers`", "version 0.1.0", "register 0x56440002"] {
        assert!(error.contains(part), "no `{part}` in: {error}");
    }
    Ok(Completion::Completed)
}

fn access(vcpu: &mut VcpuDispatch, msr: u32, value: Option<u64>) -> Outcome {
    let op = value.map_or(MsrOp::Read, MsrOp::Write);
    vcpu.answer(MsrAccess { index: MsrIndex(msr), op, reason: Reason::Filter })
}

/// The shipped plugins; `None` where they have not been built.
fn engine(fuse: &str) -> Option<Engine> {
    let plugins = built::plugins();
    let text = format!(
        "\
         [[plugin]]\npath = \"registers.wasm\"\nconfig.registers = [\n\
           {{ range = {SCRATCH}, scope = \"vm\" }},\n\
           {{ range = {FUSE}, write = \"once\", scope = \"vm\"{fuse} }},\n]\n"
    );
    let profile = Profile::parse(&plugins.join("vm.toml"), &text).expect("a profile");
    let built = profile.plugins.iter().all(|plugin| plugin.path.exists());
    built.then(|| Engine::load(&profile, &LoadOptions::default()).expect("they load"))
}

fn not_built() -> Completion {
    Completion::ignored_with(format!(
        "no plugins in {}; run `cargo xtask plugins`",
        built::plugins().display()
    ))
}

fn host() -> Arc<dyn Host> {
    Arc::new(NoGuest::default())
}
