//! Calls of KVM's descriptors.
#![expect(unsafe_code, reason = "ioctl takes the address of a structure")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::Ioctl;

use crate::uapi::{EnableCap, KVM_ENABLE_CAP};

/// Calls `number` with the address of `argument`, and returns what the kernel does.
///
/// # Safety
/// `argument` must be what the kernel takes for `number`, with everything that it
/// points to, and long enough for all that the kernel writes.
pub(crate) unsafe fn call<T>(
    descriptor: &impl AsRawFd,
    number: Ioctl,
    argument: *mut T,
) -> io::Result<u32> {
    // SAFETY: the caller vouches for the argument.
    let returned: c_int = unsafe { libc::ioctl(descriptor.as_raw_fd(), number, argument) };
    u32::try_from(returned).map_err(|_| io::Error::last_os_error())
}

/// Calls `number`, which takes no argument.
pub(crate) fn call_without(descriptor: &impl AsRawFd, number: Ioctl) -> io::Result<u32> {
    // SAFETY: the kernel follows no address for the numbers that have no argument.
    unsafe { call(descriptor, number, std::ptr::null_mut::<()>()) }
}

/// Calls `number`, which takes a number.
pub(crate) fn call_with(
    descriptor: &impl AsRawFd,
    number: Ioctl,
    argument: usize,
) -> io::Result<u32> {
    let argument = std::ptr::without_provenance_mut::<()>(argument);
    // SAFETY: the kernel takes the argument as a number, and follows no address.
    unsafe { call(descriptor, number, argument) }
}

/// Enables a capability that takes one number (`KVM_ENABLE_CAP`, KVM api 4.37).
pub(crate) fn enable_cap(descriptor: &impl AsRawFd, cap: u32, argument: u64) -> io::Result<()> {
    let mut cap = EnableCap { cap, flags: 0, args: [argument, 0, 0, 0], pad: [0; 64] };
    // SAFETY: the kernel reads one `struct kvm_enable_cap`.
    unsafe { call(descriptor, KVM_ENABLE_CAP, &raw mut cap) }?;
    Ok(())
}

/// Calls `number`, which returns a new descriptor.
pub(crate) fn call_for_descriptor(
    descriptor: &impl AsRawFd,
    number: Ioctl,
    argument: usize,
) -> io::Result<OwnedFd> {
    let new = call_with(descriptor, number, argument)?;
    let new = c_int::try_from(new).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel has just made it, for this call alone.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// A second descriptor of the same VM or vCPU.
pub(crate) fn duplicate(descriptor: &impl AsRawFd) -> io::Result<OwnedFd> {
    match descriptor.as_raw_fd() {
        // What is borrowed must not be -1.
        ..0 => Err(io::Error::from_raw_os_error(libc::EBADF)),
        // SAFETY: `descriptor` keeps it open during the call.
        raw => unsafe { BorrowedFd::borrow_raw(raw) }.try_clone_to_owned(),
    }
}
