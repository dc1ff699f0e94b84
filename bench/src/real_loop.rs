//! A guest that only reads an MSR, on the real KVM.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use wasmsr_engine::{Engine, LoadOptions};
use wasmsr_interface::{MsrAccess, MsrHandler, Outcome};
use wasmsr_kvm::filter::KvmFilter;
use wasmsr_vmm::{Boot, RunEnd, Vm, VmConfig, VmSpec, control};

use crate::figure::{Bench, Measured};
use crate::guest;
use crate::measure::in_turn;
use crate::plugins::{ARCH_CAPABILITIES, GUEST_MEMORY, Setup, VALUE};

pub(crate) const REAL_LOOP: Bench = Bench {
    name: "real_loop",
    about: "a guest's read: answered by a plugin / with a constant in the vCPU loop",
    unit: "ns",
    run: real_loop,
};

const READS: u32 = 5_000;

/// The shortest way back into the guest.
struct Constant;

impl MsrHandler for Constant {
    fn answer(&mut self, _: MsrAccess) -> Outcome {
        Outcome::Value(VALUE)
    }
}

/// Passes accesses on, and measures how long all but the first took, including
/// the guest's part. Start and end of the VM take longer than the accesses and
/// are left out.
struct Timed<H> {
    handler: H,
    answered: u32,
    start: Instant,
    taken: Sender<Duration>,
}

impl<H: MsrHandler> MsrHandler for Timed<H> {
    fn answer(&mut self, access: MsrAccess) -> Outcome {
        let outcome = self.handler.answer(access);
        self.answered += 1;
        match self.answered {
            1 => self.start = Instant::now(),
            // The receiver is gone only if the run has failed.
            READS => drop(self.taken.send(self.start.elapsed())),
            _ => {}
        }
        outcome
    }
}

fn real_loop() -> Result<Measured> {
    if let Err(error) = wasmsr_vmm::open_kvm() {
        return Ok(Measured::Skipped(error.to_string()));
    }
    let setup = match Setup::of_one() {
        Ok(setup) => setup,
        Err(reason) => return Ok(Measured::Skipped(reason)),
    };
    let image = setup.image(&guest::reads(ARCH_CAPABILITIES, READS))?;
    let engine = Engine::load(&setup.profile()?, &LoadOptions::default())?;
    let filter = KvmFilter::pack(engine.exits())?;
    let ours = || {
        let vm = build(&image, &filter)?;
        let vcpu = engine.start(&vm.host(), 1)?.vcpus.pop().context("no vCPU")?;
        nanos_a_read(vm, vcpu)
    };
    let constant = || nanos_a_read(build(&image, &filter)?, Constant);
    in_turn(61, ours, constant).map(Measured::Pair)
}

fn build(image: &Path, filter: &KvmFilter) -> Result<Vm> {
    Ok(Vm::build(VmSpec {
        vm: &VmConfig { memory: GUEST_MEMORY, vcpus: 1 },
        boot: &Boot::Image { path: image.to_owned(), cmdline: String::new(), modules: Vec::new() },
        filter,
        cpuid: &[],
        output: Box::new(io::sink()),
    })?)
}

fn nanos_a_read(vm: Vm, handler: impl MsrHandler + 'static) -> Result<f64> {
    let (_control, events) = control();
    let (taken, times) = channel();
    let timed = Timed { handler, answered: 0, start: Instant::now(), taken };
    match (vm.run(vec![Box::new(timed)], &events), times.try_recv()) {
        (RunEnd::DebugExit { .. }, Ok(taken)) => {
            Ok(taken.as_secs_f64() * 1e9 / f64::from(READS - 1))
        }
        (end, _) => bail!("the guest did not read {READS} times and then end: {end}"),
    }
}
