//! How a run ends: a sentence that says what happened and where, an exit code
//! of its own, and the terminal as it was.

use rustix::process::Signal;

use crate::fixture::{
    Outcome, Plugin, Run, Running, Skip, Terminal, Vm, apply, cannot_run_here, guest_exit,
    is_interpreter, require_kvm, test, wasmsr,
};

#[apply(test)]
fn the_guest_exits() -> Outcome {
    for n in [0, 3, 0x7f, 0x80] {
        let script = format!("r 10 -> ? \n exit {n:x} ->");
        Vm::new().run(&script)?.printed(&script).exited(guest_exit(n)).said(&["wasmsr: ", "exit"]);
    }
    Ok(())
}

// Where a triple fault happened, KVM cannot tell on every processor.
#[apply(test)]
fn a_triple_fault() -> Outcome {
    Vm::new().run("triple ->")?.printed("triple ->").exited(4).said(&[
        "wasmsr: ",
        "triple fault",
        "vCPU 0",
        "RIP",
    ]);
    Ok(())
}

#[apply(test)]
fn a_triple_fault_on_another_vcpu() -> Outcome {
    let script = "cpu 1 -> ok \n triple ->";
    Vm::new().vcpus(2).run(script)?.printed(script).exited(4).said(&["triple fault", "vCPU 1"]);
    Ok(())
}

#[apply(test)]
fn a_halt_for_ever() -> Outcome {
    Vm::new()
        .run("halt ->")?
        .printed("halt ->")
        .exited(6)
        .said(&["wasmsr: ", "halt", "vCPU 0", "RIP 0x"]);
    Ok(())
}

#[apply(test)]
fn a_halt_for_ever_of_all_vcpus() -> Outcome {
    // The others wait for their start-up IPI, which no vCPU is left to send.
    Vm::new().vcpus(3).run("halt ->")?.exited(6).said(&["wasmsr: ", "halt"]);
    Ok(())
}

#[apply(test)]
fn a_power_off() -> Outcome {
    // ACPI's PM1a control register: sleep type 0, sleep enable.
    Vm::new().run("outw 604 2000 ->")?.printed("outw 604 2000 ->").exited(0).said(&[
        "wasmsr: ",
        "powered off",
        "vCPU 0",
    ]);
    Ok(())
}

#[apply(test)]
fn a_kvm_internal_error() -> Outcome {
    if !is_interpreter() {
        return cannot_run_here("this KVM interprets no instructions, so none can be beyond it");
    }
    Vm::new().run("cx16 ->")?.printed("cx16 ->").exited(8).said(&[
        "wasmsr: ",
        "internal error",
        "emulat",
        "vCPU 0",
        "RIP 0x",
    ]);
    Ok(())
}

/// Sends `signal` once the guest has printed the last line of `script`.
fn interrupted(vm: Vm, script: &str, signal: Signal) -> Result<Run, Skip> {
    let (_workdir, mut running): (_, Running) = vm.start(script)?;
    running.wait_for(script.lines().last().unwrap_or(script).trim());
    running.send(signal);
    Ok(running.finish())
}

#[apply(test)]
fn an_interrupt() -> Outcome {
    interrupted(Vm::new(), "r 10 -> ? \n spin ->", Signal::INT)?
        .printed("r 10 -> ? \n spin ->")
        .exited(130)
        .said(&["wasmsr: ", "SIGINT", "vCPU 0", "RIP 0x"]);
    Ok(())
}

#[apply(test)]
fn an_interrupt_of_several_vcpus() -> Outcome {
    interrupted(Vm::new().vcpus(4), "cpu 3 -> ok \n spin ->", Signal::INT)?.exited(130);
    Ok(())
}

#[apply(test)]
fn an_interrupt_of_a_halted_vcpu() -> Outcome {
    // CPU 0 waits for its turn, so the VM as a whole goes on.
    interrupted(Vm::new().vcpus(2), "cpu 1 -> ok \n halt ->", Signal::INT)?.exited(130);
    Ok(())
}

#[apply(test)]
fn an_interrupt_of_a_busy_plugin() -> Outcome {
    let slow = Plugin {
        name: "slow",
        manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
        code: "(reads (loop $for_ever (br $for_ever)) (unreachable))",
    };
    let vm = Vm::new().plugin_with(&slow, "fuel = 10000000");
    interrupted(vm, "times 10000000 r 1000 ->", Signal::INT)?.exited(130);
    Ok(())
}

#[apply(test)]
fn a_termination() -> Outcome {
    interrupted(Vm::new(), "spin ->", Signal::TERM)?
        .printed("spin ->")
        .exited(143)
        .said(&["wasmsr: ", "SIGTERM", "vCPU 0", "RIP 0x"]);
    Ok(())
}

/// Runs `script` on a terminal, does `then` once the guest has printed its
/// last line, and compares the exit code.
fn on_a_terminal(script: &str, then: impl FnOnce(&mut Terminal), code: i32) -> Outcome {
    require_kvm()?;
    let workdir = Vm::new().policy(r#"unknown = "stop""#).on_disk(script)?;
    let mut terminal = Terminal::start(wasmsr(&["run", "vm.toml"]).current_dir(workdir.path()))?;
    terminal.wait_for(script);
    then(&mut terminal);
    assert_eq!(terminal.finish(), Some(code), "exit code");
    Ok(())
}

#[apply(test)]
fn the_terminal_after_the_guest_exits() -> Outcome {
    on_a_terminal("exit 3 ->", |_| {}, guest_exit(3))
}

#[apply(test)]
fn the_terminal_after_a_triple_fault() -> Outcome {
    on_a_terminal("triple ->", |_| {}, 4)
}

#[apply(test)]
fn the_terminal_after_an_error() -> Outcome {
    on_a_terminal("r deadbeef ->", |_| {}, 10)
}

#[apply(test)]
fn the_terminal_after_ctrl_c() -> Outcome {
    on_a_terminal("spin ->", |terminal| terminal.type_in("\x03"), 130)
}

#[apply(test)]
fn the_terminal_after_a_termination() -> Outcome {
    on_a_terminal("spin ->", |terminal| terminal.send(Signal::TERM), 143)
}
