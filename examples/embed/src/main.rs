//! A small VMM, with kvm-ioctls, that has plugins answer its guest's MSRs.
//! `docs/embedding.md` goes through it.
//!
//! `cargo run -p embed -- examples/embed/vm.toml`

mod guest;
mod memory;
mod threads;
mod vcpu;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use kvm_ioctls::Kvm;
use wasmsr_engine::{Engine, LoadOptions, Metrics, Profile};
use wasmsr_interface::{Host, MsrHandler, VcpuId};
use wasmsr_kvm::filter::KvmFilter;
use wasmsr_kvm::{KvmHost, KvmMsrs, change_cpuid, enable_msr_exits, set_cpuid, supported_cpuid};

use memory::Ram;
use vcpu::Vcpu;

/// The size of the VM.
const MEMORY: usize = 1 << 20;
const VCPUS: u32 = 2;

fn main() -> Result<()> {
    let profile = std::env::args().nth(1).context("usage: embed PROFILE")?;
    run(Path::new(&profile))
}

// ANCHOR: build
fn run(profile: &Path) -> Result<()> {
    // Before there is a VM: all errors about profile and plugins are found here.
    let engine = Engine::load(&Profile::read(profile)?, &LoadOptions::default())?;
    let filter = KvmFilter::pack(engine.exits())?;

    let kvm = Kvm::new().context("/dev/kvm")?;
    let vm = kvm.create_vm().context("create a VM")?;
    enable_msr_exits(&vm)?;
    filter.install(&vm)?;

    let memory = memory::make(&vm, MEMORY)?;
    guest::load(&memory)?;
    // A VMM's own changes, such as the topology, come before those of the plugins.
    let mut cpuid = supported_cpuid(&kvm)?;
    change_cpuid(&mut cpuid, engine.cpuid());
    let (mut vcpus, mut msrs) = (Vec::new(), Vec::new());
    for id in 0..VCPUS {
        let vcpu = vm.create_vcpu(id.into()).with_context(|| format!("create vCPU {id}"))?;
        set_cpuid(&vcpu, &cpuid)?;
        guest::set_registers(&vcpu, id)?;
        msrs.push(KvmMsrs::of(&vcpu)?);
        vcpus.push(vcpu);
    }

    // Plugins may ask for all of it as soon as they start.
    let host = Arc::new(KvmHost::new(&kvm, &vm, &msrs, Ram(memory))?);
    let started = engine.start(&(host.clone() as Arc<dyn Host>), VCPUS)?;
    // ANCHOR_END: build

    let stop = Arc::new(AtomicBool::new(false));
    let parts = vcpus.into_iter().zip(started.vcpus);
    let vcpus = (0..).map(VcpuId).zip(parts).map(|(id, (fd, dispatch))| {
        let (host, stop, printed) = (host.clone(), stop.clone(), Vec::new());
        Vcpu { id, fd, dispatch, host, stop, printed }
    });
    let mut ended = threads::run(vcpus.collect(), host.alarms(), &stop)?;

    // No vCPU runs any more: plugins may have something to tell.
    ended.iter_mut().for_each(|(vcpu, _)| vcpu.dispatch.end());
    for report in started.reports.take() {
        println!("{}: {}", report.plugin, report.text);
    }
    for (vcpu, result) in ended {
        result.with_context(|| vcpu.id.to_string())?;
        println!("{}: {}", vcpu.id, vcpu.printed.join(" "));
    }
    show(&started.metrics);
    Ok(())
}

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
