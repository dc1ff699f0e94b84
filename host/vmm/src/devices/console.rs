//! The serial console: a 16550 at 0x3f8, with the terminal's input behind its
//! small FIFO.

use std::io::{self, Write};
use std::sync::Arc;

use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::gate::{Gate, Order};
use crate::input::InputQueue;

/// COM1. Output goes out byte by byte; input waits in its queue until the
/// guest has room for it.
pub(crate) struct Console {
    uart: Serial<Interrupt, NoEvents, Output>,
    input: Option<Arc<InputQueue>>,
}

impl Console {
    /// A console that raises `interrupt` and prints to `output`. Once
    /// the vCPUs must stop, an interrupted write is not tried again.
    pub(crate) fn new(interrupt: EventFd, output: Box<dyn Write + Send>, gate: Arc<Gate>) -> Self {
        let output = Output { inner: output, gate };
        Console { uart: Serial::new(Interrupt(interrupt), output), input: None }
    }

    /// Takes input from `input` from now on.
    pub(crate) fn connect(&mut self, input: Arc<InputQueue>) {
        self.input = Some(input);
        self.feed();
    }

    /// Moves waiting input into the FIFO, as far as it has room.
    pub(crate) fn feed(&mut self) {
        let Some(input) = &self.input else { return };
        // In loop-back mode the FIFO belongs to what the guest itself sends.
        if self.uart.read(MODEM_CONTROL) & LOOP_BACK != 0 {
            return;
        }
        let mut bytes = [0; 64];
        let room = self.uart.fifo_capacity().min(bytes.len());
        let Some(free) = bytes.get_mut(..room) else {
            return;
        };
        let taken = input.take(free);
        // An interrupt that cannot be raised leaves the bytes for polling.
        let _ = self.uart.enqueue_raw_bytes(taken);
    }

    pub(super) fn read(&mut self, offset: u8, unit: &mut [u8]) {
        for (register, byte) in (offset..).zip(unit) {
            *byte = self.uart.read(register);
        }
        self.feed();
    }

    pub(super) fn write(&mut self, offset: u8, unit: &[u8]) {
        for (register, &byte) in (offset..).zip(unit) {
            // A reader that has gone away must not end the guest.
            let _ = self.uart.write(register, byte);
        }
    }
}

const MODEM_CONTROL: u8 = 4;
const LOOP_BACK: u8 = 1 << 4;

/// The line to the interrupt controller.
struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Where the guest prints. A write blocks while its reader is slow; so a vCPU
/// that is told to stop must come out of it.
struct Output {
    inner: Box<dyn Write + Send>,
    gate: Arc<Gate>,
}

impl Output {
    fn give_up(&self, error: io::Error) -> io::Error {
        let interrupted = error.kind() == io::ErrorKind::Interrupted;
        match interrupted && self.gate.order() == Order::Stop {
            true => io::ErrorKind::WouldBlock.into(),
            false => error,
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes).map_err(|error| self.give_up(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().map_err(|error| self.give_up(error))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What a console has printed.
    #[derive(Clone, Default)]
    pub(in crate::devices) struct Printed(Arc<Mutex<Vec<u8>>>);

    impl Printed {
        pub(in crate::devices) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Printed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(in crate::devices) fn console() -> (Console, Printed) {
        let printed = Printed::default();
        let interrupt = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let gate = Arc::new(Gate::new(Order::Run));
        (Console::new(interrupt, Box::new(printed.clone()), gate), printed)
    }

    const DATA: u8 = 0;
    const LINE_STATUS: u8 = 5;

    fn register(console: &mut Console, offset: u8) -> u8 {
        let mut byte = [0];
        console.read(offset, &mut byte);
        byte[0]
    }

    #[test]
    fn input_longer_than_the_fifo_arrives_whole() {
        let (mut console, _) = console();
        let input = Arc::new(InputQueue::default());
        let sent: Vec<u8> = (0..200).collect();
        assert!(input.put(&sent));
        console.connect(input);
        let mut got = Vec::new();
        while register(&mut console, LINE_STATUS) & 1 != 0 {
            got.push(register(&mut console, DATA));
        }
        assert_eq!(got, sent);
    }

    #[test]
    fn loop_back_keeps_input_waiting() {
        let (mut console, _) = console();
        let input = Arc::new(InputQueue::default());
        console.write(MODEM_CONTROL, &[LOOP_BACK]);
        assert!(input.put(b"x"));
        console.connect(Arc::clone(&input));
        assert_eq!(register(&mut console, LINE_STATUS) & 1, 0);
        console.write(MODEM_CONTROL, &[0]);
        console.feed();
        assert_eq!(register(&mut console, DATA), b'x');
    }

    #[test]
    fn a_closed_output_is_ignored() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let interrupt = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let mut console =
            Console::new(interrupt, Box::new(Closed), Arc::new(Gate::new(Order::Run)));
        console.write(DATA, b"x");
        assert_ne!(register(&mut console, LINE_STATUS) & 0x20, 0, "the guest may go on");
    }

    #[test]
    fn a_stuck_write_ends_with_the_run() {
        struct Stuck(Arc<Gate>);
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                self.0.give(Order::Stop);
                Err(io::ErrorKind::Interrupted.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let gate = Arc::new(Gate::new(Order::Run));
        let interrupt = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let output = Box::new(Stuck(Arc::clone(&gate)));
        Console::new(interrupt, output, gate).write(DATA, b"x");
    }
}
