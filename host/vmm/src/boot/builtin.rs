//! Guests that come with the VMM: multiboot images, assembled with it.
#![expect(
    unsafe_code,
    reason = "an assembled image is reached through the symbols at its two ends"
)]

use core::arch::global_asm;

use super::error::BootError;
use super::program;

/// The image of the built-in guest `name`, and its command line as it reads it.
///
/// # Errors
/// [`BootError::UnknownGuest`], which lists the names there are, or
/// [`BootError::GuestCmdline`].
pub(super) fn guest(
    name: &str,
    cmdline: &str,
    vcpus: u32,
) -> Result<(&'static [u8], String), BootError> {
    match name {
        "hello" => match program::for_guest(cmdline, vcpus) {
            Ok(cmdline) => Ok((hello(), cmdline)),
            Err(words) => Err(BootError::GuestCmdline { name: name.to_owned(), words }),
        },
        _ => Err(BootError::UnknownGuest { name: name.to_owned(), known: "hello" }),
    }
}

global_asm!(
    include_str!("hello/hello.S"),
    include_str!("hello/words.S"),
    include_str!("hello/cpus.S"),
    include_str!("hello/counts.S"),
    include_str!("hello/print.S"),
    include_str!("hello/tables.S"),
    options(att_syntax)
);

fn hello() -> &'static [u8] {
    unsafe extern "C" {
        static hello_start: u8;
        static hello_end: u8;
    }
    let (start, end) = (&raw const hello_start, &raw const hello_end);
    // SAFETY: the files put both symbols around one run of bytes in a
    // read-only section, so they belong to one object that never changes.
    unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_is_whole() {
        let (image, _) = guest("hello", "", 1).unwrap();
        assert_eq!(image[..4], 0x1bad_b002_u32.to_le_bytes(), "its multiboot header comes first");
        assert!(image.windows(16).any(|text| text == b"all as expected\n"));
    }

    #[test]
    fn a_wrong_command_line_is_told_what_a_right_one_is() {
        let error = guest("hello", "10a", 1).unwrap_err().to_string();
        assert!(error.starts_with("the guest `hello` does what its `cmdline` says"), "{error}");
        assert!(error.contains("0x10a=0x2b writes, and"), "{error}");
    }

    #[test]
    fn an_unknown_guest_is_told_the_names() {
        let error = guest("helo", "", 1).unwrap_err().to_string();
        assert_eq!(error, "no built-in guest is called `helo`; there is: hello");
    }
}
