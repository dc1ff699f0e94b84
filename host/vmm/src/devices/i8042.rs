//! The keyboard controller, an Intel 8042, with neither keyboard nor mouse: guests
//! reset the machine through it, and those without ACPI look whether it is there.
//!
//! Without an answer to its commands Linux waits half a second for each. Commands and
//! status: IBM PS/2 Technical Reference, "Keyboard and Auxiliary Device Controller".

use super::request::Request;

/// What the guest has written, and what it may read.
#[derive(Debug)]
pub(super) struct I8042 {
    /// The command byte, "CTR" in Linux.
    control: u8,
    output_port: u8,
    /// The byte that waits for the guest.
    waiting: Option<u8>,
    /// The command whose parameter comes next.
    unfinished: Option<u8>,
    /// Whether the last write was a command.
    commanded: bool,
}

impl Default for I8042 {
    fn default() -> Self {
        I8042 {
            control: AS_FIRMWARE_LEAVES_IT,
            output_port: RESET_LINE | A20,
            waiting: None,
            unfinished: None,
            commanded: false,
        }
    }
}

impl I8042 {
    /// A read of port 0x64.
    pub(super) fn status(&self) -> u8 {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        flag(self.waiting.is_some(), OUTPUT_FULL)
            | flag(self.commanded, COMMANDED)
            | self.control & SYSTEM_FLAG
            | NOT_LOCKED
    }

    /// A read of port 0x60. Without a new byte it reads as zero.
    pub(super) fn read(&mut self) -> u8 {
        self.waiting.take().unwrap_or(0)
    }

    /// A write to port 0x64.
    pub(super) fn command(&mut self, command: u8) -> Option<Request> {
        self.commanded = true;
        self.unfinished = None;
        match command {
            READ_CONTROL => self.waiting = Some(self.control),
            READ_OUTPUT_PORT => self.waiting = Some(self.output_port),
            WRITE_CONTROL | WRITE_OUTPUT_PORT | LOOP_KEYBOARD | LOOP_AUX => {
                self.unfinished = Some(command);
            }
            SELF_TEST => {
                self.control |= SYSTEM_FLAG;
                self.waiting = Some(SELF_TEST_PASSED);
            }
            TEST_KEYBOARD => self.waiting = Some(LINE_WORKS),
            TEST_AUX => self.waiting = Some(CLOCK_STUCK),
            DISABLE_AUX => self.control |= AUX_DISABLED,
            ENABLE_AUX => self.control &= !AUX_DISABLED,
            DISABLE_KEYBOARD => self.control |= KEYBOARD_DISABLED,
            ENABLE_KEYBOARD => self.control &= !KEYBOARD_DISABLED,
            // A pulse on the lines whose bit is clear.
            PULSE.. if command & RESET_LINE == 0 => return Some(Request::Reset),
            _ => {}
        }
        None
    }

    /// A write to port 0x60: a command's parameter, or for a keyboard that is not
    /// there.
    pub(super) fn write(&mut self, value: u8) -> Option<Request> {
        self.commanded = false;
        match self.unfinished.take() {
            Some(WRITE_CONTROL) => self.control = value,
            Some(WRITE_OUTPUT_PORT) => {
                self.output_port = value;
                return (value & RESET_LINE == 0).then_some(Request::Reset);
            }
            // Linux takes a byte that is not marked as the mouse's for the answer of a
            // controller that has none.
            Some(LOOP_KEYBOARD | LOOP_AUX) => self.waiting = Some(value),
            _ => {}
        }
        None
    }
}

/// Translation on, no mouse, self-test passed, keyboard interrupt on.
const AS_FIRMWARE_LEAVES_IT: u8 = 1 << 6 | AUX_DISABLED | SYSTEM_FLAG | 1 << 0;
const AUX_DISABLED: u8 = 1 << 5;
const KEYBOARD_DISABLED: u8 = 1 << 4;
/// At the same place in the command byte and in the status.
const SYSTEM_FLAG: u8 = 1 << 2;

const OUTPUT_FULL: u8 = 1 << 0;
const COMMANDED: u8 = 1 << 3;
const NOT_LOCKED: u8 = 1 << 4;

/// Lines of the output port; the reset line is active when it is low.
const RESET_LINE: u8 = 1 << 0;
const A20: u8 = 1 << 1;

const READ_CONTROL: u8 = 0x20;
const WRITE_CONTROL: u8 = 0x60;
const DISABLE_AUX: u8 = 0xa7;
const ENABLE_AUX: u8 = 0xa8;
const TEST_AUX: u8 = 0xa9;
const SELF_TEST: u8 = 0xaa;
const TEST_KEYBOARD: u8 = 0xab;
const DISABLE_KEYBOARD: u8 = 0xad;
const ENABLE_KEYBOARD: u8 = 0xae;
const READ_OUTPUT_PORT: u8 = 0xd0;
const WRITE_OUTPUT_PORT: u8 = 0xd1;
const LOOP_KEYBOARD: u8 = 0xd2;
const LOOP_AUX: u8 = 0xd3;
const PULSE: u8 = 0xf0;

const SELF_TEST_PASSED: u8 = 0x55;
const LINE_WORKS: u8 = 0;
/// Of a port with nothing behind it: the clock line is stuck high.
const CLOCK_STUCK: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes back of a command and its parameter.
    #[track_caller]
    fn check(controller: &mut I8042, command: u8, parameter: Option<u8>, answer: Option<u8>) {
        assert_eq!(controller.command(command), None);
        assert_eq!(controller.status() & COMMANDED, COMMANDED);
        if let Some(parameter) = parameter {
            assert_eq!(controller.write(parameter), None);
            assert_eq!(controller.status() & COMMANDED, 0);
        }
        let full = controller.status() & OUTPUT_FULL != 0;
        assert_eq!(full.then(|| controller.read()), answer, "command {command:#x}");
        assert_eq!(controller.status() & OUTPUT_FULL, 0, "an answer is read once");
    }

    // The order of drivers/input/serio/i8042.c: flush, read the command byte twice,
    // disable the keyboard, look for a mouse, enable the keyboard.
    #[test]
    fn linux_finds_a_controller_without_a_mouse() {
        let mut i8042 = I8042::default();
        assert_eq!(i8042.status(), NOT_LOCKED | SYSTEM_FLAG);
        check(&mut i8042, READ_CONTROL, None, Some(0x65));
        check(&mut i8042, READ_CONTROL, None, Some(0x65));
        check(&mut i8042, WRITE_CONTROL, Some(0x74), None);
        check(&mut i8042, LOOP_AUX, Some(0x5a), Some(0x5a));
        const FROM_MOUSE: u8 = 1 << 5;
        assert_eq!(i8042.status() & FROM_MOUSE, 0);
        check(&mut i8042, TEST_AUX, None, Some(2));
        check(&mut i8042, WRITE_CONTROL, Some(0x65), None);
        check(&mut i8042, WRITE_OUTPUT_PORT, Some(0xdf), None);
        check(&mut i8042, 0xff, None, None);
        check(&mut i8042, READ_CONTROL, None, Some(0x65));
        check(&mut i8042, READ_OUTPUT_PORT, None, Some(0xdf));
    }

    #[test]
    fn tests_pass_and_ports_are_switched() {
        let mut i8042 = I8042::default();
        check(&mut i8042, SELF_TEST, None, Some(0x55));
        check(&mut i8042, TEST_KEYBOARD, None, Some(0));
        check(&mut i8042, DISABLE_KEYBOARD, None, None);
        check(&mut i8042, ENABLE_AUX, None, None);
        check(&mut i8042, READ_CONTROL, None, Some(0x55));
        check(&mut i8042, ENABLE_KEYBOARD, None, None);
        check(&mut i8042, DISABLE_AUX, None, None);
        check(&mut i8042, READ_CONTROL, None, Some(0x65));
    }

    #[test]
    fn a_byte_for_the_keyboard_meets_none() {
        let mut i8042 = I8042::default();
        assert_eq!(i8042.write(0xfe), None);
        assert_eq!((i8042.status() & OUTPUT_FULL, i8042.read()), (0, 0));
        // A parameter belongs to the command just before it alone.
        assert_eq!((i8042.command(WRITE_CONTROL), i8042.command(SELF_TEST)), (None, None));
        assert_eq!((i8042.write(0), i8042.control), (None, 0x65));
    }

    #[test]
    fn the_reset_line_is_pulsed_or_pulled() {
        for command in [0xfe, 0xf0, 0xfc] {
            assert_eq!(I8042::default().command(command), Some(Request::Reset), "{command:#x}");
        }
        for command in [0xff, 0xf1, 0xfd] {
            assert_eq!(I8042::default().command(command), None, "{command:#x}");
        }
        let mut i8042 = I8042::default();
        assert_eq!((i8042.command(0xd1), i8042.write(0xde)), (None, Some(Request::Reset)));
    }
}
