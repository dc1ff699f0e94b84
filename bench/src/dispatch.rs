//! An access through the engine and a plugin, as the vCPU loop makes it.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use wasmsr_engine::{Engine, LoadOptions};
use wasmsr_interface::{Host, MsrAccess, MsrHandler, MsrIndex, MsrOp, NoGuest, Outcome, Reason};

use crate::figure::{Bench, Measured};
use crate::measure::{Pair, in_turn, nanos_each};
use crate::plugins::{ARCH_CAPABILITIES, Setup, VALUE};

pub(crate) const READ: Bench = Bench {
    name: "dispatch_over_native",
    about: "added to a read by engine and plugin / the native match itself",
    unit: "ns",
    run: || dispatch(MsrOp::Read),
};

pub(crate) const WRITE: Bench = Bench {
    name: "dispatch_write_over_native",
    about: "added to a write that faults / the native match itself",
    unit: "ns",
    run: || dispatch(MsrOp::Write(0)),
};

pub(crate) const SWAPPABLE: Bench = Bench {
    name: "swappable_over_fixed",
    about: "a read by plugins that can be swapped / by the same that cannot",
    unit: "ns",
    run: swappable,
};

pub(crate) const SCALING: Bench = Bench {
    name: "vcpu_scaling_2",
    about: "reads of two vCPUs on two cores / of one",
    unit: "million/s",
    run: scaling,
};

/// The handler that a VMM would write by hand.
struct Native;

impl MsrHandler for Native {
    fn answer(&mut self, access: MsrAccess) -> Outcome {
        match (access.index, access.op) {
            (ARCH_CAPABILITIES, MsrOp::Read) => Outcome::Value(VALUE),
            (MsrIndex(0x1b0), MsrOp::Read) => Outcome::Value(6),
            _ => Outcome::Fault,
        }
    }
}

fn dispatch(op: MsrOp) -> Result<Measured> {
    let setup = match Setup::of_one() {
        Ok(setup) => setup,
        Err(reason) => return Ok(Measured::Skipped(reason)),
    };
    let mut ours = handlers(&setup, 1)?.pop().context("no handler")?;
    let mut native: Box<dyn MsrHandler> = Box::new(Native);
    let accesses = vec![access(op); 10_000];
    let whole = in_turn(
        1001,
        || Ok(nanos_each(&accesses, |access| ours.answer(access))),
        || Ok(nanos_each(&accesses, |access| native.answer(access))),
    )?;
    // The cost of the trait itself is in both.
    let added = Pair {
        ours: whole.ours - whole.reference,
        reference: whole.reference,
        ratio: whole.ratio - 1.0,
    };
    Ok(Measured::Pair(added))
}

fn swappable() -> Result<Measured> {
    let setup = match Setup::of_one() {
        Ok(setup) => setup,
        Err(reason) => return Ok(Measured::Skipped(reason)),
    };
    let engine = Arc::new(Engine::load(&setup.profile()?, &LoadOptions::default())?);
    let host: Arc<dyn Host> = Arc::new(NoGuest::default());
    let live = engine.start_live(&host, 1, None)?.vcpus.pop();
    let mut ours: Box<dyn MsrHandler> = Box::new(live.context("no handler")?);
    let mut fixed = handlers(&setup, 1)?.pop().context("no handler")?;
    let accesses = vec![access(MsrOp::Read); 10_000];
    let pair = in_turn(
        1001,
        || Ok(nanos_each(&accesses, |access| ours.answer(access))),
        || Ok(nanos_each(&accesses, |access| fixed.answer(access))),
    )?;
    Ok(Measured::Pair(pair))
}

fn scaling() -> Result<Measured> {
    if thread::available_parallelism()?.get() < 2 {
        return Ok(Measured::Skipped("there is one core only".into()));
    }
    let setup = match Setup::of_one() {
        Ok(setup) => setup,
        Err(reason) => return Ok(Measured::Skipped(reason)),
    };
    let (mut one, mut two) = (handlers(&setup, 1)?, handlers(&setup, 2)?);
    in_turn(31, || Ok(throughput(&mut two)), || Ok(throughput(&mut one))).map(Measured::Pair)
}

/// Million reads per second of all handlers together, each on its own thread.
fn throughput(handlers: &mut [Box<dyn MsrHandler>]) -> f64 {
    const READS: usize = 1_000;
    const REPEAT: usize = 300;
    let accesses = vec![access(MsrOp::Read); READS];
    let barrier = Barrier::new(handlers.len());
    let count = handlers.len();
    let slowest = thread::scope(|scope| {
        let threads: Vec<_> = handlers
            .iter_mut()
            .map(|handler| {
                scope.spawn(|| {
                    barrier.wait();
                    let start = Instant::now();
                    for _ in 0..REPEAT {
                        nanos_each(&accesses, |access| handler.answer(access));
                    }
                    start.elapsed().as_secs_f64()
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).fold(0.0, f64::max)
    });
    (count * READS * REPEAT) as f64 / slowest / 1e6
}

fn access(op: MsrOp) -> MsrAccess {
    MsrAccess { index: ARCH_CAPABILITIES, op, reason: Reason::Filter }
}

fn handlers(setup: &Setup, vcpus: u32) -> Result<Vec<Box<dyn MsrHandler>>> {
    let engine = Engine::load(&setup.profile()?, &LoadOptions::default())?;
    let host: Arc<dyn Host> = Arc::new(NoGuest::default());
    let started = engine.start(&host, vcpus)?;
    Ok(started.vcpus.into_iter().map(|vcpu| Box::new(vcpu) as Box<dyn MsrHandler>).collect())
}
