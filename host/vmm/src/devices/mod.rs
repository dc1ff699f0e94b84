//! The machine's devices, behind I/O ports. What the guest needs beyond them
//! (PIC, IOAPIC, local APICs, PIT) is in the kernel.

mod console;
mod fw_cfg;
mod i8042;
mod ports;
mod power;
mod power_button;
mod pvpanic;
mod request;

pub(crate) use console::Console;
pub(crate) use fw_cfg::FwCfg;
pub(crate) use ports::Devices;
pub(crate) use power::{PM1A_CONTROL, RESET_PORT, RESET_VALUE, SLEEP_TYPE_S5};
pub(crate) use power_button::{Level, PM1A_EVENT, PowerEvents, Press, SCI};
pub(crate) use pvpanic::{PANIC_ACPI_ID, PANIC_PORT};
pub(crate) use request::Request;
