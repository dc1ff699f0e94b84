//! The guest's memory, by guest-physical address. The manifest must ask for
//! the capability `guest-memory`.

use core::fmt;

use crate::{Otherwise, abi, raw};

/// A guest-physical address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GuestAddress(pub u64);

impl fmt::Display for GuestAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Copies `out.len()` bytes from the guest.
///
/// # Errors
/// [`OutsideMemory`] if any byte is not guest RAM; `out` is then unspecified.
pub fn read(from: GuestAddress, out: &mut [u8]) -> Result<(), OutsideMemory> {
    OutsideMemory::unless_ok(raw::guest_read(from.0, out))
}

/// Copies `data` to the guest.
///
/// # Errors
/// [`OutsideMemory`] if any byte is not guest RAM; nothing is then written.
pub fn write(to: GuestAddress, data: &[u8]) -> Result<(), OutsideMemory> {
    OutsideMemory::unless_ok(raw::guest_write(to.0, data))
}

/// Reads an integer, such as `read_value::<u32>(address)`.
///
/// # Errors
/// [`OutsideMemory`] if any byte is not guest RAM.
pub fn read_value<T: Value>(from: GuestAddress) -> Result<T, OutsideMemory> {
    let mut bytes = T::Bytes::default();
    read(from, bytes.as_mut())?;
    Ok(T::from_le(bytes))
}

/// Writes an integer.
///
/// # Errors
/// [`OutsideMemory`] if any byte is not guest RAM; nothing is then written.
pub fn write_value<T: Value>(to: GuestAddress, value: T) -> Result<(), OutsideMemory> {
    write(to, value.to_le().as_ref())
}

/// An integer as x86 guests store it in memory, low byte first.
pub trait Value: Copy + sealed::Sealed {
    /// As many bytes as the value has.
    type Bytes: Default + AsRef<[u8]> + AsMut<[u8]>;
    /// From the bytes in memory.
    fn from_le(bytes: Self::Bytes) -> Self;
    /// To the bytes in memory.
    fn to_le(self) -> Self::Bytes;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! value {
    ($($integer:ident)*) => {$(
        impl sealed::Sealed for $integer {}
        impl Value for $integer {
            type Bytes = [u8; size_of::<$integer>()];
            fn from_le(bytes: Self::Bytes) -> Self {
                $integer::from_le_bytes(bytes)
            }
            fn to_le(self) -> Self::Bytes {
                self.to_le_bytes()
            }
        }
    )*};
}

value! { u8 u16 u32 u64 i8 i16 i32 i64 }

/// A range of addresses that is not wholly guest RAM.
///
/// With `?` in [`Plugin::wrmsr`](crate::Plugin::wrmsr) it becomes a fault: the
/// guest wrote an address that it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OutsideMemory;

impl OutsideMemory {
    fn unless_ok(status: u32) -> Result<(), OutsideMemory> {
        if status == abi::OK { Ok(()) } else { Err(OutsideMemory) }
    }
}

impl fmt::Display for OutsideMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address is outside guest memory")
    }
}

impl core::error::Error for OutsideMemory {}

impl From<OutsideMemory> for Otherwise {
    fn from(_: OutsideMemory) -> Self {
        Otherwise::Fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::Host;

    #[test]
    fn integers_lie_low_byte_first() {
        let host = Host::fresh();
        host.set_memory(GuestAddress(0x1000), &[0; 16]);
        write_value(GuestAddress(0x1004), 0x1122_3344_u32).unwrap();
        assert_eq!(host.memory(GuestAddress(0x1004), 4), Some([0x44, 0x33, 0x22, 0x11].into()));
        assert_eq!(read_value::<u16>(GuestAddress(0x1006)), Ok(0x1122));
    }

    #[test]
    fn an_access_across_the_end_is_refused_as_a_whole() {
        let host = Host::fresh();
        host.set_memory(GuestAddress(0x1000), &[0; 16]);
        assert_eq!(write_value(GuestAddress(0x100c), u64::MAX), Err(OutsideMemory));
        assert_eq!(read_value::<u32>(GuestAddress(0x100c)), Ok(0));
        assert_eq!(read_value::<u32>(GuestAddress(u64::MAX)), Err(OutsideMemory));
    }
}
