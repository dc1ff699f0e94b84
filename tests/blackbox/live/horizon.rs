//! What `wasmsr horizon` makes of a running VM's kernel shadow.

use super::{World, json};
use crate::fixture::{Outcome, Vm, apply, test};

#[apply(test)]
fn a_running_vms_kernel_shadow_is_evidence() -> Outcome {
    let registers = "config.registers = [\
                     { range = 0x277, value = \"0x0007040600070406\" }, { range = 0x1000 }]";
    let vm = Vm::new()
        .shipped("registers", registers)
        .tables("[[plugin]]\nshadow-of = \"registers\"\nkernel = true");
    let script = "times 64 r 277 -> 7040600070406 \n w 277 6 -> ok \n r 1000 -> 0 \n key";
    let world = World::of(vm, script, &[])?;
    let run = world.asks(&["horizon", &world.pid()]).exited(1);
    assert!(run.stdout.contains("evidence: kernel shadows of process"), "{run}");
    assert!(run.stdout.contains("yes: 101 accesses (VM)"), "{run}");
    // What the VM has not seen is from a probe.
    assert!(run.stdout.contains("no: 2 of 2 differ (VM, probe)"), "{run}");
    assert!(run.stdout.contains("0x1000, read on vCPU 0: 0x0; KVM: fault"), "{run}");
    let report = json(&world.asks(&["horizon", "--json"]).exited(1));
    assert_eq!(report["claims"][0]["sources"][0], "vm", "{report:#}");
    let stats = json(&world.asks(&["stats", "--json"]).exited(0));
    assert_eq!(stats["shadows"][0]["plugin"], "kernel", "{stats:#}");
    assert_eq!(stats["shadows"][0]["msrs"][0]["reads"], 100, "{stats:#}");
    let lines = world.asks(&["top", "--batch", "-n", "1"]).exited(0);
    assert!(lines.stdout.contains("kernel "), "{lines}");
    world.finish();
    Ok(())
}

#[apply(test)]
fn without_a_vm_there_is_no_horizon() -> Outcome {
    let workdir = crate::fixture::Workdir::new();
    super::told(&workdir, &["horizon"]).exited(2).said(&["no VM of this user runs"]);
    Ok(())
}
