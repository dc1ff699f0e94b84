//! What the VM shall boot.

use super::{refuses, refuses_profile};
use crate::fixture::{Outcome, Workdir, apply, test};

#[apply(test)]
fn missing_image() -> Outcome {
    refuses_profile("[boot]\nimage = \"nowhere.elf\"\n", &["nowhere.elf", "No such file"])
}

#[apply(test)]
fn missing_module() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("x.elf", elf(0x10_0000));
    workdir.put("vm.toml", "[boot]\nimage = \"x.elf\"\nmodules = [\"nowhere.txt\"]\n");
    refuses(&workdir, &["nowhere.txt", "No such file"])
}

#[apply(test)]
fn image_that_is_not_an_image() -> Outcome {
    refuses_image(b"not a kernel\n", &["multiboot"])
}

#[apply(test)]
fn image_that_is_not_multiboot() -> Outcome {
    let mut image = elf(0x10_0000);
    // Another number in the place of the header's magic.
    image.splice(84..88, [0; 4]);
    refuses_image(&image, &["multiboot"])
}

#[apply(test)]
fn truncated_image() -> Outcome {
    let image = elf(0x10_0000);
    for length in [0, 4, 51, 60, 90] {
        refuses_image(image.get(..length).expect("shorter than the whole"), &[])?;
    }
    Ok(())
}

#[apply(test)]
fn image_outside_memory() -> Outcome {
    refuses_image(&elf(0x4000_0000), &["memory", "0x40000000"])
}

#[apply(test)]
fn kernel_that_is_not_a_kernel() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vmlinuz", "not a kernel\n");
    workdir.put("vm.toml", "[boot]\nkernel = \"vmlinuz\"\n");
    refuses(&workdir, &["vmlinuz", "bzImage"])
}

/// This image must be refused, with an error that names it.
#[track_caller]
fn refuses_image(image: &[u8], parts: &[&str]) -> Outcome {
    let workdir = Workdir::new();
    workdir.put("x.elf", image);
    workdir.put("vm.toml", "[vm]\nmemory = \"16MiB\"\n[boot]\nimage = \"x.elf\"\n");
    refuses(&workdir, &[&["x.elf"], parts].concat())
}

/// The smallest multiboot ELF32 that there is: header, one segment at
/// `address`, and in it the multiboot header.
fn elf(address: u32) -> Vec<u8> {
    let mut image = b"\x7fELF\x01\x01\x01".to_vec();
    image.resize(16, 0);
    let mut put = |value: u32, bytes: usize| {
        image.extend(value.to_le_bytes().into_iter().take(bytes));
    };
    // The ELF header from e_type on: 2 executable, 3 for the 386, version 1,
    // entry, program headers behind this one, no sections, no flags.
    for (value, bytes) in [(2, 2), (3, 2), (1, 4), (address, 4), (52, 4), (0, 4), (0, 4)] {
        put(value, bytes);
    }
    // Sizes and counts: this header, one program header of 32 bytes.
    for value in [52, 32, 1, 40, 0, 0] {
        put(value, 2);
    }
    // The program header: load, offset, addresses, sizes, flags, alignment.
    for value in [1, 84, address, address, 16, 16, 7, 4] {
        put(value, 4);
    }
    // Magic, no flags, checksum, and `hlt`.
    for value in [0x1bad_b002, 0, 0x1bad_b002_u32.wrapping_neg(), 0xf4f4_f4f4] {
        put(value, 4);
    }
    image
}
