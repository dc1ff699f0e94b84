//! Whose state it is: a vCPU's or the VM's.

use crate::fixture::{Outcome, Plugin, Vm, apply, test};

/// Counts reads.
const COUNT: &str = "
    (global $reads (mut i64) (i64.const 0))
    (reads
        (global.set $reads (i64.add (global.get $reads) (i64.const 1)))
        (global.get $reads))";

const EACH_ITS_OWN: &str = "
    r 1000 -> 1
    r 1000 -> 2
    cpu 1  -> ok
    r 1000 -> 1
    cpu 0  -> ok
    r 1000 -> 3
    cpu 1  -> ok
    r 1000 -> 2
    ";

#[apply(test)]
fn a_vcpu_has_its_own() -> Outcome {
    let plugin = Plugin {
        name: "own",
        manifest: r#"msr = [{ range = "0x1000", access = "r", scope = "vcpu" }]"#,
        code: COUNT,
    };
    Vm::new().vcpus(2).plugin(&plugin).prints(EACH_ITS_OWN)
}

#[apply(test)]
fn vcpu_is_the_default() -> Outcome {
    let plugin = Plugin {
        name: "own",
        manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
        code: COUNT,
    };
    Vm::new().vcpus(2).plugin(&plugin).prints(EACH_ITS_OWN)
}

#[apply(test)]
fn a_vm_has_one() -> Outcome {
    let plugin = Plugin {
        name: "shared",
        manifest: r#"msr = [{ range = "0x1000", access = "r", scope = "vm" }]"#,
        code: COUNT,
    };
    Vm::new().vcpus(2).plugin(&plugin).prints(
        "
        r 1000 -> 1
        r 1000 -> 2
        cpu 1  -> ok
        r 1000 -> 3
        cpu 0  -> ok
        r 1000 -> 4
        ",
    )
}

#[apply(test)]
fn one_plugin_may_have_both() -> Outcome {
    let plugin = Plugin {
        name: "both",
        manifest: r#"msr = [
            { range = "0x1000", access = "r", scope = "vcpu" },
            { range = "0x1001", access = "r", scope = "vm" },
        ]"#,
        code: COUNT,
    };
    Vm::new().vcpus(2).plugin(&plugin).prints(
        "
        r 1000 -> 1
        r 1001 -> 1
        cpu 1  -> ok
        r 1000 -> 1
        r 1001 -> 2
        ",
    )
}

#[apply(test)]
fn a_plugin_is_told_the_vcpu() -> Outcome {
    let plugin = Plugin {
        name: "who",
        manifest: r#"msr = [
            { range = "0x1000", access = "r", scope = "vcpu" },
            { range = "0x1001", access = "r", scope = "vm" },
        ]"#,
        code: "(reads (i64.extend_i32_u (local.get $vcpu)))",
    };
    Vm::new().vcpus(3).plugin(&plugin).prints(
        "
        r 1000 -> 0
        r 1001 -> 0
        cpu 1  -> ok
        r 1000 -> 1
        r 1001 -> 1
        cpu 2  -> ok
        r 1000 -> 2
        r 1001 -> 2
        ",
    )
}
