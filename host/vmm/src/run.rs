//! Runs a VM: one thread per vCPU, and the main loop that waits for the end.

use std::time::Instant;

use wasmsr_interface::{MsrHandler, VcpuId};

use crate::control::{Event, Events};
use crate::devices::{Devices, Press};
use crate::end::{At, RunEnd};
use crate::gate::Order;
use crate::halt::{HaltWatch, Liveness};
use crate::lifecycle::{Action, RunState};
use crate::thread::{self, VcpuThread};
use crate::vm::Vm;

impl Vm {
    /// Runs the VM to its end: one thread per vCPU, each with its handler, in the order
    /// of vCPUs. When this returns, all threads have been joined, and then every handler
    /// was told of the end and dropped.
    pub fn run(self, handlers: Vec<Box<dyn MsrHandler>>, events: &Events) -> RunEnd {
        if handlers.len() != self.vcpus.len() {
            return RunEnd::HostError(format!(
                "{} MSR handlers for {} vCPUs",
                handlers.len(),
                self.vcpus.len()
            ));
        }
        if let Err(error) = thread::prepare_kicks() {
            return RunEnd::HostError(format!("cannot set a handler for SIGRTMIN: {error}"));
        }
        self.devices.connect_console(events.input());
        let alarms = self.host.alarms();
        let sender = events.sender();
        // Without a receiver the run is over.
        alarms.connect(move || drop(sender.send(Event::Alarm)));

        let vcpus = self.vcpus.len();
        let mut state = match events.begins_paused() {
            true => {
                self.gate.give(Order::Pause);
                RunState::Pausing { threads: vcpus }
            }
            false => RunState::Running { threads: vcpus },
        };
        let mut threads = Vec::new();
        for (vcpu, handler) in self.vcpus.into_iter().zip(handlers) {
            let id = vcpu.id;
            match VcpuThread::start(vcpu, handler, events.sender()) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    let end = RunEnd::HostError(format!("no thread for {id}: {error}"));
                    let at = At { vcpu: id, rip: None };
                    state = state.step(Event::Left(at, Some(end))).0;
                }
            }
        }

        let mut watch = HaltWatch::default();
        let mut tick = Instant::now();
        let end = loop {
            let event = match state {
                RunState::Ended(end) => break end,
                _ => {
                    let due = tick + state.tick();
                    let look = match state.rings_alarms() {
                        true => alarms.next_look(due),
                        false => due,
                    };
                    match events.next(look) {
                        Event::Tick if Instant::now() < due => Event::Alarm,
                        event => event,
                    }
                }
            };
            if matches!(event, Event::Tick) {
                tick = Instant::now();
            }
            let action;
            (state, action) = state.step(event);
            match action {
                Action::Nothing => {}
                Action::FeedConsole => self.devices.feed_console(),
                Action::StopVcpus => {
                    self.gate.give(Order::Stop);
                    threads.iter().for_each(VcpuThread::kick);
                }
                Action::PauseVcpus => {
                    self.gate.give(Order::Pause);
                    if self.gate.parked() < vcpus {
                        threads.iter().for_each(VcpuThread::kick);
                    } else {
                        state = state.step(Event::AllParked).0;
                        events.note_paused(true);
                    }
                }
                Action::ResumeVcpus => {
                    events.note_paused(false);
                    watch = HaltWatch::default();
                    self.gate.give(Order::Run);
                    self.devices.feed_console();
                }
                Action::PressPowerButton => press_power_button(&self.devices),
                Action::RingAlarms => {
                    let due = threads.iter().filter(|thread| alarms.is_due(thread.vcpu()));
                    due.for_each(VcpuThread::kick);
                }
                Action::LookAround => {
                    self.devices.feed_console();
                    if let Some(at) = look_for_halts(&mut watch, &threads) {
                        state = state.step(Event::AllHalted(at)).0;
                    }
                }
            }
        };

        events.note_paused(false);
        let handlers: Vec<_> = threads.into_iter().filter_map(VcpuThread::join).collect();
        for mut handler in handlers {
            handler.end();
        }
        let (ports, mmio) = self.devices.strays();
        tracing::debug!(ports, mmio, "accesses that met no device");
        end
    }
}

/// Presses it, and says where nothing can come of it.
fn press_power_button(devices: &Devices) {
    match devices.press_power_button() {
        Press::Raised => tracing::info!("the power button is pressed"),
        Press::NotEnabled => tracing::warn!(
            "the power button is pressed, but the guest has not enabled it: without a driver for \
             ACPI's power button nothing comes of it"
        ),
        Press::StillWaits => {}
    }
}

/// Where vCPU 0 is, if no vCPU can ever run again.
fn look_for_halts(watch: &mut HaltWatch, threads: &[VcpuThread]) -> Option<At> {
    let signs: Vec<_> = threads.iter().map(VcpuThread::sign).collect();
    match watch.look(&signs) {
        Liveness::Alive => None,
        Liveness::Kick => {
            for thread in threads {
                thread.forget_sleep();
                thread.kick();
            }
            None
        }
        Liveness::Dead => {
            Some(At { vcpu: VcpuId(0), rip: signs.first().and_then(|sign| sign.asleep) })
        }
    }
}
