//! Console input on its way to the guest, with back-pressure: input that comes faster
//! than the guest reads has to wait.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The most bytes that wait.
const CAPACITY: usize = 4096;

/// Bytes between the terminal's thread and the UART's FIFO.
#[derive(Debug, Default)]
pub(crate) struct InputQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: VecDeque<u8>,
    closed: bool,
}

impl InputQueue {
    /// Adds up to [`CAPACITY`] bytes once there is room for all of them;
    /// `false` once the queue is closed.
    #[must_use]
    pub(crate) fn put(&self, bytes: &[u8]) -> bool {
        let full = |waiting: &mut Waiting| {
            !waiting.closed
                && !waiting.bytes.is_empty()
                && waiting.bytes.len() + bytes.len() > CAPACITY
        };
        let mut waiting =
            self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if !waiting.closed {
            waiting.bytes.extend(bytes);
        }
        !waiting.closed
    }

    /// Fills the front of `room` with the oldest bytes and returns it.
    pub(crate) fn take<'a>(&self, room: &'a mut [u8]) -> &'a [u8] {
        let mut waiting = self.lock();
        let count = room.len().min(waiting.bytes.len());
        let (filled, _) = room.split_at_mut(count);
        for (to, from) in filled.iter_mut().zip(waiting.bytes.drain(..count)) {
            *to = from;
        }
        if count > 0 {
            self.changed.notify_all();
        }
        filled
    }

    /// Ends the queue: there is no reader any more, and every writer is let go.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn bytes_come_out_in_order() {
        let queue = InputQueue::default();
        assert!(queue.put(b"hello"));
        assert_eq!(queue.take(&mut [0; 3]), b"hel");
        assert_eq!(queue.take(&mut [0; 3]), b"lo");
        assert_eq!(queue.take(&mut [0; 3]), b"");
    }

    #[test]
    fn a_full_queue_holds_its_writer_until_the_guest_reads() {
        let queue = Arc::new(InputQueue::default());
        assert!(queue.put(&[1; CAPACITY]));
        let writer = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.put(&[2; 10])
        });
        let mut got = 0;
        while got < CAPACITY + 10 {
            got += queue.take(&mut [0; 64]).len();
        }
        assert!(writer.join().unwrap());
    }

    #[test]
    fn a_closed_queue_lets_its_writer_go() {
        let queue = Arc::new(InputQueue::default());
        assert!(queue.put(&[1; CAPACITY]));
        let writer = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.put(b"x")
        });
        queue.close();
        assert!(!writer.join().unwrap());
    }
}
