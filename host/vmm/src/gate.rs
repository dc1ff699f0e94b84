//! Whether the vCPUs may be in the guest: one order for all of them, at which each looks
//! before it enters.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What the vCPUs are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// Enter the guest, again and again.
    Run = 0,
    /// Stay out of it, until there is another order.
    Pause = 1,
    /// Leave it for good. No other order follows.
    Stop = 2,
}

/// The order, and how many vCPUs stay out because of it.
#[derive(Debug)]
pub(crate) struct Gate {
    order: AtomicU8,
    parked: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn new(order: Order) -> Self {
        Gate {
            order: AtomicU8::new(order as u8),
            parked: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// What the vCPUs are to do now.
    pub(crate) fn order(&self) -> Order {
        match self.order.load(Ordering::Relaxed) {
            0 => Order::Run,
            1 => Order::Pause,
            _ => Order::Stop,
        }
    }

    /// Tells all vCPUs. Those in the guest have to be kicked out of it besides.
    pub(crate) fn give(&self, order: Order) {
        // Under the lock: a vCPU that is about to wait would miss it otherwise.
        let _parked = self.lock();
        self.order.store(order as u8, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Waits, on a vCPU's thread, until the order is not [`Order::Pause`] any more.
    pub(crate) fn park(&self) {
        let mut parked = self.lock();
        *parked += 1;
        while self.order() == Order::Pause {
            parked = self.changed.wait(parked).unwrap_or_else(PoisonError::into_inner);
        }
        *parked -= 1;
    }

    /// How many vCPUs wait in [`Gate::park`].
    pub(crate) fn parked(&self) -> usize {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn parked_vcpus_are_counted_and_let_go() {
        let gate = Arc::new(Gate::new(Order::Pause));
        let vcpus: Vec<_> = (0..3)
            .map(|_| {
                let gate = Arc::clone(&gate);
                thread::spawn(move || gate.park())
            })
            .collect();
        while gate.parked() < 3 {
            thread::yield_now();
        }
        gate.give(Order::Pause);
        assert_eq!(gate.parked(), 3, "the same order again lets none go");
        gate.give(Order::Run);
        vcpus.into_iter().for_each(|vcpu| vcpu.join().unwrap());
        assert_eq!((gate.parked(), gate.order()), (0, Order::Run));
        gate.park();
        gate.give(Order::Stop);
        gate.park();
    }
}
