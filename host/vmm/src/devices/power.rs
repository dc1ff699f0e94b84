//! Power off and reset, by ACPI's fixed hardware and the reset register of PC
//! chipsets. The keyboard controller resets too.

use super::request::Request;

/// ACPI PM1a control register (ACPI 6.5, 4.8.3.2.1), where QEMU has it too.
pub(crate) const PM1A_CONTROL: u16 = 0x604;

/// The value of `SLP_TYP` in the `\_S5` object; QEMU's.
pub(crate) const SLEEP_TYPE_S5: u8 = 0;

/// The reset control register of PC chipsets, and ACPI's `RESET_REG`.
pub(crate) const RESET_PORT: u16 = 0xcf9;

/// What to write there, ACPI's `RESET_VALUE`.
pub(crate) const RESET_VALUE: u8 = RESET_CPU | HARD_RESET;

/// PM1a control as read: ACPI mode is on and cannot be left.
pub(super) fn pm1a_control() -> u32 {
    SCI_ENABLED
}

pub(super) fn write_pm1a_control(offset: u8, value: u32) -> Option<Request> {
    let value = value << (8 * u32::from(offset));
    let sleep_type = (value >> 10) & 7;
    let powers_off = value & SLEEP_ENABLE != 0 && sleep_type == u32::from(SLEEP_TYPE_S5);
    powers_off.then_some(Request::PowerOff)
}

pub(super) fn write_reset(value: u32) -> Option<Request> {
    (value & u32::from(RESET_CPU) != 0).then_some(Request::Reset)
}

const SCI_ENABLED: u32 = 1 << 0;
const SLEEP_ENABLE: u32 = 1 << 13;
const HARD_RESET: u8 = 1 << 1;
const RESET_CPU: u8 = 1 << 2;
