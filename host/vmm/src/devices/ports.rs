//! Which device is behind which port: one table, and the routing by it.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::console::Console;
use super::fw_cfg::FwCfg;
use super::i8042::I8042;
use super::power::{self, PM1A_CONTROL, RESET_PORT};
use super::power_button::{PM1A_EVENT, PowerEvents, Press};
use super::pvpanic::{PANIC_PORT, PvPanic};
use super::request::Request;
use crate::exits::{IoDirection, PortIo};
use crate::input::InputQueue;

/// First port, number of ports, and the device behind them.
const PORTS: &[(u16, u16, Device)] = &[
    (0x60, 1, Device::KeyboardData),
    (0x64, 1, Device::KeyboardCommand),
    (0xf4, 4, Device::DebugExit),
    (0x3f8, 8, Device::Console),
    (PANIC_PORT, 1, Device::PvPanic),
    (0x510, 2, Device::FwCfg),
    (PM1A_EVENT, 4, Device::PowerEvents),
    (PM1A_CONTROL, 2, Device::PowerControl),
    (RESET_PORT, 1, Device::Reset),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    /// A 16550.
    Console,
    /// QEMU's `isa-debug-exit`.
    DebugExit,
    FwCfg,
    KeyboardCommand,
    KeyboardData,
    PowerControl,
    PowerEvents,
    PvPanic,
    Reset,
}

/// All devices of one VM, shared by its vCPUs.
pub(crate) struct Devices {
    console: Mutex<Console>,
    fw_cfg: Mutex<FwCfg>,
    i8042: Mutex<I8042>,
    power_events: Mutex<PowerEvents>,
    panic: PvPanic,
    stray_ports: AtomicU64,
    stray_mmio: AtomicU64,
}

impl Devices {
    pub(crate) fn new(console: Console, fw_cfg: FwCfg, power_events: PowerEvents) -> Self {
        Devices {
            console: Mutex::new(console),
            fw_cfg: Mutex::new(fw_cfg),
            i8042: Mutex::default(),
            power_events: Mutex::new(power_events),
            panic: PvPanic::new(),
            stray_ports: AtomicU64::new(0),
            stray_mmio: AtomicU64::new(0),
        }
    }

    /// Lets the console take input from `input`.
    pub(crate) fn connect_console(&self, input: Arc<InputQueue>) {
        lock(&self.console).connect(input);
    }

    /// Hands waiting input to the console, unless a vCPU is busy with it: while a
    /// vCPU prints and its output is not read, the caller would have to wait too. So
    /// this is to be called again after a while.
    pub(crate) fn feed_console(&self) {
        if let Ok(mut console) = self.console.try_lock() {
            console.feed();
        }
    }

    /// Presses the power button.
    pub(crate) fn press_power_button(&self) -> Press {
        lock(&self.power_events).press()
    }

    /// Performs a port access on `data`, unit by unit: a string instruction
    /// has several. As on hardware, a port without a device reads as all ones and
    /// drops writes.
    pub(crate) fn access(&self, io: PortIo, data: &mut [u8]) -> ControlFlow<Request> {
        let found = find(io.port);
        if found.is_none() {
            self.stray_ports.fetch_add(1, Ordering::Relaxed);
        }
        for unit in data.chunks_mut(io.width.max(1)) {
            match (io.direction, found) {
                (IoDirection::In, None) => unit.fill(0xff),
                (IoDirection::In, Some((device, offset))) => self.read(device, offset, unit),
                (IoDirection::Out, None) => {}
                (IoDirection::Out, Some((device, offset))) => self.write(device, offset, unit)?,
            }
        }
        ControlFlow::Continue(())
    }

    /// Counts an access to an address without memory.
    pub(crate) fn count_stray_mmio(&self) {
        self.stray_mmio.fetch_add(1, Ordering::Relaxed);
    }

    /// Accesses that met no device: to ports, and to memory.
    pub(crate) fn strays(&self) -> (u64, u64) {
        (self.stray_ports.load(Ordering::Relaxed), self.stray_mmio.load(Ordering::Relaxed))
    }

    fn read(&self, device: Device, offset: u8, unit: &mut [u8]) {
        match device {
            Device::Console => lock(&self.console).read(offset, unit),
            Device::FwCfg => lock(&self.fw_cfg).read(offset, unit),
            Device::PowerControl => put(unit, power::pm1a_control()),
            Device::PowerEvents => lock(&self.power_events).read(offset, unit),
            Device::PvPanic => put(unit, PvPanic::read()),
            Device::KeyboardCommand => put(unit, lock(&self.i8042).status().into()),
            Device::KeyboardData => put(unit, lock(&self.i8042).read().into()),
            Device::Reset => unit.fill(0),
            Device::DebugExit => unit.fill(0xff),
        }
    }

    fn write(&self, device: Device, offset: u8, unit: &[u8]) -> ControlFlow<Request> {
        let request = match device {
            Device::Console => {
                lock(&self.console).write(offset, unit);
                None
            }
            Device::FwCfg => {
                lock(&self.fw_cfg).write(offset, unit);
                None
            }
            Device::KeyboardCommand => lock(&self.i8042).command(low_byte(unit)),
            Device::KeyboardData => lock(&self.i8042).write(low_byte(unit)),
            Device::PowerControl => power::write_pm1a_control(offset, value(unit)),
            Device::PowerEvents => {
                lock(&self.power_events).write(offset, unit);
                None
            }
            Device::PvPanic => {
                self.panic.write(value(unit));
                None
            }
            Device::Reset => power::write_reset(value(unit)),
            Device::DebugExit => Some(Request::DebugExit(value(unit))),
        };
        request.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    }
}

/// The device behind `port`, and how far the port is from its first one.
fn find(port: u16) -> Option<(Device, u8)> {
    PORTS.iter().find_map(|&(first, count, device)| {
        let offset = port.checked_sub(first)?;
        (offset < count).then_some((device, u8::try_from(offset).ok()?))
    })
}

fn value(unit: &[u8]) -> u32 {
    unit.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

/// What a register of one byte takes of a wide access.
fn low_byte(unit: &[u8]) -> u8 {
    unit.first().copied().unwrap_or(0)
}

fn put(unit: &mut [u8], value: u32) {
    for (byte, from) in unit.iter_mut().zip(value.to_le_bytes()) {
        *byte = from;
    }
}

/// A thread that panicked with the lock leaves plain register values behind, which
/// are enough to end the run.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::console::tests::{Printed, console};

    fn machine() -> (Devices, Printed) {
        let (console, printed) = console();
        let power = PowerEvents::new(|_| ());
        (Devices::new(console, FwCfg::new(128 << 20, 2), power), printed)
    }

    fn out(port: u16, width: usize, data: &[u8]) -> ControlFlow<Request> {
        let io = PortIo { port, direction: IoDirection::Out, width };
        machine().0.access(io, &mut data.to_vec())
    }

    fn read(devices: &Devices, port: u16, width: usize, count: usize) -> Vec<u8> {
        let mut data = vec![0x55; width * count];
        let io = PortIo { port, direction: IoDirection::In, width };
        assert_eq!(devices.access(io, &mut data), ControlFlow::Continue(()));
        data
    }

    #[test]
    fn no_two_devices_share_a_port() {
        for (i, a) in PORTS.iter().enumerate() {
            for b in &PORTS[i + 1..] {
                assert!(a.0 + a.1 <= b.0 || b.0 + b.1 <= a.0, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn the_debug_exit_takes_every_width() {
        assert_eq!(out(0xf4, 1, &[3]), ControlFlow::Break(Request::DebugExit(3)));
        assert_eq!(out(0xf4, 2, &[3, 1]), ControlFlow::Break(Request::DebugExit(0x103)));
        assert_eq!(
            out(0xf4, 4, &[1, 2, 3, 4]),
            ControlFlow::Break(Request::DebugExit(0x0403_0201))
        );
    }

    #[test]
    fn power_and_reset() {
        let check = |port, width, data: &[u8], request| {
            assert_eq!(out(port, width, data), ControlFlow::Break(request), "port {port:#x}");
        };
        check(0x604, 2, &[0, 0x20], Request::PowerOff);
        check(0x64, 1, &[0xfe], Request::Reset);
        check(0xcf9, 1, &[0x06], Request::Reset);
        for (port, data) in [(0x604, [0]), (0x64, [0xaa]), (0x60, [0xfe]), (0xcf9, [0x02])] {
            assert_eq!(out(port, 1, &data), ControlFlow::Continue(()), "port {port:#x}");
        }
    }

    #[test]
    fn a_string_of_bytes_is_printed_whole() {
        let (devices, printed) = machine();
        let io = PortIo { port: 0x3f8, direction: IoDirection::Out, width: 1 };
        assert_eq!(devices.access(io, &mut b"hello".to_vec()), ControlFlow::Continue(()));
        assert_eq!(printed.text(), "hello");
    }

    #[test]
    fn a_wide_access_reaches_the_registers_side_by_side() {
        let (devices, _) = machine();
        // Scratch register (offset 7) alone keeps what is written to it.
        let io = PortIo { port: 0x3f8 + 6, direction: IoDirection::Out, width: 2 };
        assert_eq!(devices.access(io, &mut [0, 0x5a]), ControlFlow::Continue(()));
        assert_eq!(read(&devices, 0x3f8 + 7, 1, 1), [0x5a]);
    }

    #[test]
    fn nobody_reads_as_all_ones_and_is_counted() {
        let (devices, _) = machine();
        assert_eq!(read(&devices, 0xcf8, 4, 1), [0xff; 4]);
        assert_eq!(read(&devices, 0x71, 1, 3), [0xff; 3]);
        assert_eq!(devices.strays(), (2, 0));
    }

    #[test]
    fn the_keyboard_controller_answers_a_command() {
        let (devices, _) = machine();
        let io = PortIo { port: 0x64, direction: IoDirection::Out, width: 1 };
        assert_eq!(devices.access(io, &mut [0x20]), ControlFlow::Continue(()));
        assert_eq!(read(&devices, 0x64, 1, 1), [0x1d], "a byte waits");
        assert_eq!(read(&devices, 0x60, 1, 1), [0x65]);
        assert_eq!(read(&devices, 0x64, 1, 1), [0x1c]);
        assert_eq!(devices.strays(), (0, 0));
    }

    #[test]
    fn acpi_mode_is_on() {
        assert_eq!(read(&machine().0, 0x604, 2, 1), [1, 0]);
    }
}
