//! `wasmsr top`, on a terminal and in lines.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{COUNTED, COUNTER, World, command, told};
use crate::fixture::{Outcome, Running, Skip, Terminal, Vm, Workdir, apply, require_kvm, test};

/// A guest that reads for as long as a test looks.
const BUSY: &str = "key -> ? \n times 10000000 r 1000 -> ?";

fn busy() -> Result<World, Skip> {
    require_kvm()?;
    let workdir = Vm::new().plugin(&COUNTER).on_disk(BUSY)?;
    let mut running = Running::start(&mut command(&workdir, &["run", "vm.toml"]));
    running.wait_for("key ->");
    running.type_in("a");
    running.wait_for("times");
    Ok(World { workdir, running })
}

#[apply(test)]
fn top_on_a_terminal() -> Outcome {
    let world = busy()?;
    let mut top = Terminal::start(&command(&world.workdir, &["top", "-d", "0.2"]))?;
    top.shows(|screen| screen.contains("0x1000") && screen.contains("accesses/s"));
    // It goes on.
    let total = |screen: &str| {
        let row = screen.lines().find(|line| line.starts_with("0x1000"))?;
        row.split_whitespace().nth(4)?.parse::<u64>().ok()
    };
    let first = total(&top.shows(|screen| total(screen).is_some()));
    top.shows(|screen| total(screen) > first);
    top.type_in("v");
    top.shows(|screen| screen.contains("by plugin") && !screen.contains("0x1000"));
    top.type_in("v/nothing");
    top.shows(|screen| screen.contains("filter: nothing_") && !screen.contains("counter"));
    top.type_in("\x1b");
    top.shows(|screen| screen.contains("0x1000"));
    top.type_in("?");
    top.shows(|screen| screen.contains("reverse the order"));
    top.type_in("x");
    top.type_in("p");
    top.shows(|screen| screen.contains("PAUSED"));
    top.type_in("q");
    assert_eq!(top.finish(), Some(0), "exit code");
    Ok(())
}

#[apply(test)]
fn top_ends_with_its_terminal() -> Outcome {
    let world = busy()?;
    let top = command(&world.workdir, &["top", "-d", "0.2"]);
    assert_eq!(Terminal::close_at(&top, "0x1000")?, Some(129), "as for SIGHUP");
    Ok(())
}

#[apply(test)]
fn top_over_a_reboot() -> Outcome {
    require_kvm()?;
    let script = "times 64 r 1000 -> 64 \n r 2000 \n key \n outb 64 fe ->";
    let workdir = Vm::new().plugin(&COUNTER).on_disk(script)?;
    let mut running =
        Running::start(&mut command(&workdir, &["run", "vm.toml", "--max-boots", "2"]));
    running.wait_for("\nkey ->");
    let mut top = Terminal::start(&command(&workdir, &["top", "-d", "0.1"]))?;
    top.shows(|screen| screen.contains("boots 1") && screen.contains("0x2000"));
    // Down to the last row.
    top.type_in("\x1b[6~");
    top.shows(|screen| screen.contains("0x1000") != screen.contains("0x2000"));
    running.type_in("a");
    top.shows(|screen| screen.contains("boots 2") && screen.contains("0x"));
    running.type_in("a");
    top.wait_for("the VM has ended");
    running.finish().exited(14);
    Ok(())
}

#[apply(test)]
fn top_without_colours() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    for (variable, is_coloured) in [("CLICOLOR", true), ("NO_COLOR", false)] {
        let mut command = command(&world.workdir, &["top"]);
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm").env(variable, "1");
        let mut top = Terminal::start(&command)?;
        top.shows(|screen| screen.contains("0x1000"));
        assert_eq!(top.is_coloured(), is_coloured, "{variable}");
    }
    Ok(())
}

#[apply(test)]
fn top_ends_after_so_many_looks() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    for looks in ["1", "3"] {
        let top = Terminal::start(&command(&world.workdir, &["top", "-d", "0.1", "-n", looks]))?;
        top.wait_for("0x1000");
        assert_eq!(top.finish(), Some(0), "exit code");
    }
    Ok(())
}

#[apply(test)]
fn top_says_that_the_vm_has_ended() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    let mut top = Terminal::start(&command(&world.workdir, &["top", "-d", "0.2"]))?;
    top.shows(|screen| screen.contains("0x1000"));
    world.finish().exited(1);
    top.wait_for("the VM has ended");
    assert_eq!(top.finish(), Some(0), "exit code");
    Ok(())
}

#[apply(test)]
fn top_leaves_the_terminal_as_it_was() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    type End = fn(&mut Terminal);
    let ends: [(End, i32); 3] = [
        (|top| top.type_in("\x03"), 0),
        (|top| top.send(Signal::TERM), 143),
        (|top| top.send(Signal::HUP), 129),
    ];
    for (end, code) in ends {
        let mut top = Terminal::start(&command(&world.workdir, &["top"]))?;
        top.shows(|screen| screen.contains("0x1000"));
        end(&mut top);
        // The main screen again, and the cursor.
        top.wait_for("\x1b[?1049l");
        assert_eq!(top.finish(), Some(code), "exit code");
    }
    Ok(())
}

/// A signal cannot be heeded where the screen takes nothing; a second one is.
#[apply(test)]
fn top_ends_though_its_terminal_is_stuck() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    let mut top = Terminal::start(&command(&world.workdir, &["top", "-d", "0.1"]))?;
    top.shows(|screen| screen.contains("0x1000"));
    top.stop_output();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !top.has_ended() && Instant::now() < deadline {
        top.send(Signal::TERM);
        // Two that come at once are one.
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(top.finish(), Some(143), "exit code");
    Ok(())
}

#[apply(test)]
fn top_in_lines() -> Outcome {
    let world = World::start(COUNTED, &[])?;
    let run = world.asks(&["top", "--batch", "-n", "3", "-d", "0.1"]).exited(0);
    assert_eq!(run.stdout.matches("0x1000 ").count(), 3, "{run}");
    assert!(!run.stdout.contains('\x1b'), "{run}");
    Ok(())
}

#[apply(test)]
fn top_without_a_terminal() -> Outcome {
    told(&Workdir::new(), &["top"]).refused(&["needs a terminal", "--batch", "wasmsr stats"]);
    Ok(())
}
