//! Guests that come with the VMM: multiboot images, assembled with it.
#![expect(
    unsafe_code,
    reason = "an assembled image is reached through the symbols at its two ends"
)]

use core::arch::global_asm;

use super::error::BootError;

/// The image of the built-in guest `name`.
///
/// # Errors
/// [`BootError::UnknownGuest`], which lists the names there are.
pub(super) fn image(name: &str) -> Result<&'static [u8], BootError> {
    match name {
        "hello" => Ok(hello()),
        _ => Err(BootError::UnknownGuest { name: name.to_owned(), known: "hello" }),
    }
}

global_asm!(include_str!("hello.S"), options(att_syntax));

fn hello() -> &'static [u8] {
    unsafe extern "C" {
        static hello_start: u8;
        static hello_end: u8;
    }
    let (start, end) = (&raw const hello_start, &raw const hello_end);
    // SAFETY: hello.S puts both symbols around one run of bytes in a
    // read-only section, so they belong to one object that never changes.
    unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_is_whole() {
        let image = image("hello").unwrap();
        assert_eq!(image[..4], 0x1bad_b002_u32.to_le_bytes(), "its multiboot header comes first");
        assert!(image.windows(16).any(|text| text == b"all as expected\n"));
    }

    #[test]
    fn an_unknown_guest_is_told_the_names() {
        let error = image("helo").unwrap_err().to_string();
        assert_eq!(error, "no built-in guest is called `helo`; there is: hello");
    }
}
