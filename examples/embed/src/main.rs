//! A VMM of one's own whose guest's MSRs are answered by plugins. It uses
//! kvm-ioctls and wasmsr-engine, and nothing else of wasmsr.
//! `docs/embedding.md` goes through it.
//!
//! `cargo run -p embed -- examples/embed/vm.toml`

mod filter;
mod guest;
mod host;
mod threads;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2, kvm_enable_cap,
};
use kvm_ioctls::{Cap, Kvm, MsrExitReason, VcpuExit, VcpuFd};
use wasmsr_engine::{Engine, LoadOptions, Metrics, Profile, VcpuDispatch};
use wasmsr_interface::{
    CpuidChange, Host, MsrAccess, MsrHandler, MsrIndex, MsrOp, Outcome, Reason, VcpuId,
};

use host::KvmHost;
use threads::Stop;

fn main() -> Result<()> {
    let profile = std::env::args().nth(1).context("usage: embed PROFILE")?;
    run(Path::new(&profile))
}

/// The VM's size is this VMM's own matter.
const MEMORY: u64 = 1 << 20;
const VCPUS: u32 = 2;

// ANCHOR: build
fn run(path: &Path) -> Result<()> {
    // Before there is a VM: everything that can be wrong with files is found here.
    let profile = Profile::read(path)?;
    let engine = Engine::load(&profile, &LoadOptions::default())?;

    let kvm = Kvm::new().context("/dev/kvm")?;
    let vm = Arc::new(kvm.create_vm().context("create a VM")?);
    // The exits before the filter: without them, what it denies is a #GP.
    let reasons = MsrExitReason::Inval | MsrExitReason::Unknown | MsrExitReason::Filter;
    vm.enable_cap(&kvm_enable_cap {
        cap: Cap::X86UserSpaceMsr as u32,
        args: [reasons.bits().into(), 0, 0, 0],
        ..kvm_enable_cap::default()
    })
    .context("KVM_CAP_X86_USER_SPACE_MSR, which Linux has from 5.10 on")?;
    filter::install(&vm, engine.exits())?;

    let memory = guest::memory(&vm, MEMORY)?;
    let mut vcpus = Vec::new();
    for id in 0..VCPUS {
        let vcpu = vm.create_vcpu(id.into()).with_context(|| format!("create vCPU {id}"))?;
        vcpu.set_cpuid2(&cpuid(&kvm, engine.cpuid())?).context("set CPUID")?;
        guest::set_registers(&vcpu, id)?;
        vcpus.push(vcpu);
    }

    // Now there is what plugins may ask for, and they can start.
    let host = Arc::new(KvmHost::new(vm, memory, &vcpus)?);
    let started = engine.start(&(host.clone() as Arc<dyn Host>), VCPUS)?;
    // ANCHOR_END: build

    // ANCHOR: threads
    // Each handler goes to the thread of its vCPU, and comes back when it ends.
    let mut handlers = started.vcpus;
    let turning = (0..).map(VcpuId).zip(vcpus.iter_mut().zip(&mut handlers)).collect();
    let printed = threads::run(turning, |(id, (vcpu, msrs)), stop| {
        turn(id, vcpu, msrs, &host, stop).with_context(|| id.to_string())
    });
    // No vCPU runs any more: what the plugins have to tell.
    handlers.iter_mut().for_each(MsrHandler::end);
    // ANCHOR_END: threads
    for report in started.reports.take() {
        println!("{}: {}", report.plugin, report.text);
    }
    for (vcpu, lines) in (0..).map(VcpuId).zip(printed) {
        println!("{vcpu}: {}", lines?.join(" "));
    }
    show(&started.metrics);
    Ok(())
}

// ANCHOR: loop
/// Most values that a vCPU prints: nothing that a guest does is without end here.
const MOST_PRINTED: usize = 1000;

/// Turns a vCPU until its guest halts, or all shall stop, and returns what the
/// guest has printed.
fn turn(
    id: VcpuId,
    vcpu: &mut VcpuFd,
    msrs: &mut VcpuDispatch,
    host: &KvmHost,
    stop: &Stop,
) -> Result<Vec<String>> {
    let mut printed = Vec::new();
    while !stop.is_asked() {
        ensure!(printed.len() <= MOST_PRINTED, "it prints more than {MOST_PRINTED} values");
        // A plugin that has asked for a time is called with no access pending.
        // KVM completes the last one at the next entry, which this makes end
        // there. A guest that does not exit needs a signal to its thread.
        vcpu.set_kvm_immediate_exit(host.alarm_is_due(id).into());
        match vcpu.run() {
            Ok(VcpuExit::X86Rdmsr(exit)) => {
                let access = MsrAccess {
                    index: MsrIndex(exit.index),
                    op: MsrOp::Read,
                    reason: reason(exit.reason),
                };
                match answer(id, msrs, host, access)? {
                    Some(value) => *exit.data = value,
                    None => *exit.error = 1,
                }
            }
            Ok(VcpuExit::X86Wrmsr(exit)) => {
                let access = MsrAccess {
                    index: MsrIndex(exit.index),
                    op: MsrOp::Write(exit.data),
                    reason: reason(exit.reason),
                };
                if answer(id, msrs, host, access)?.is_none() {
                    *exit.error = 1;
                }
            }
            Ok(VcpuExit::IoOut(guest::VALUE, bytes)) => printed.push(guest::shown(bytes)),
            Ok(VcpuExit::IoOut(guest::FAULT, _)) => printed.push("#GP".to_owned()),
            Ok(VcpuExit::Hlt) => break,
            Ok(exit) => bail!("an exit that this guest does not have: {exit:?}"),
            Err(error) if error.errno() == libc::EINTR => {
                if host.take_due_alarm(id) {
                    msrs.wake();
                }
            }
            Err(error) => return Err(error).context("KVM_RUN"),
        }
    }
    Ok(printed)
}

/// What KVM shall do with an access: complete it with a value, which for a
/// write means nothing, or make it a #GP.
fn answer(
    vcpu: VcpuId,
    msrs: &mut dyn MsrHandler,
    host: &KvmHost,
    access: MsrAccess,
) -> Result<Option<u64>> {
    Ok(match msrs.answer(access) {
        Outcome::Value(value) => Some(value),
        Outcome::Done => Some(0),
        Outcome::Fault => None,
        Outcome::Kernel => match access.op {
            MsrOp::Read => host.kvm_msr(vcpu, access.index),
            MsrOp::Write(value) => host.set_kvm_msr(vcpu, access.index, value).then_some(value),
        },
        // The access stays unanswered, and the other vCPUs stop too.
        Outcome::Stop(why) => bail!("{why}"),
    })
}

fn reason(reason: MsrExitReason) -> Reason {
    match reason {
        MsrExitReason::Inval => Reason::Invalid,
        MsrExitReason::Filter => Reason::Filter,
        _ => Reason::Unknown,
    }
}
// ANCHOR_END: loop

// ANCHOR: cpuid
/// What KVM supports, with what the plugins' manifests change.
fn cpuid(kvm: &Kvm, changes: &[CpuidChange]) -> Result<CpuId> {
    let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).context("ask for CPUID")?;
    let mut entries = supported.as_slice().to_vec();
    for change in changes {
        let names = |entry: &&mut kvm_cpuid_entry2| {
            let indexed = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
            entry.function == change.leaf && (!indexed || entry.index == change.subleaf)
        };
        // A VMM proper adds a leaf that is missing; those of this profile are not.
        let entry = entries.iter_mut().find(names);
        let entry = entry.with_context(|| format!("no CPUID leaf {:#x}", change.leaf))?;
        entry.eax = change.eax.apply(entry.eax);
        entry.ebx = change.ebx.apply(entry.ebx);
        entry.ecx = change.ecx.apply(entry.ecx);
        entry.edx = change.edx.apply(entry.edx);
    }
    CpuId::from_entries(&entries).context("too many CPUID leaves")
}
// ANCHOR_END: cpuid

// ANCHOR: metrics
/// The counters can be read at any time, from any thread.
fn show(metrics: &Metrics) {
    for row in metrics.msrs() {
        let index = row.index.map_or("others".to_owned(), |index| index.to_string());
        let plugin = row.plugin.as_deref().unwrap_or("(policy)");
        println!(
            "{index} {plugin}: {} reads, {} writes, {} faults",
            row.reads, row.writes, row.faults
        );
    }
}
// ANCHOR_END: metrics
