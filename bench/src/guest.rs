//! Guests of a few instructions: flat multiboot 1 images, entered in 32-bit
//! protected mode (Multiboot specification 0.6.96, 3.1 and 3.2).

use wasmsr_interface::MsrIndex;

/// Prints a byte, then ends the run.
pub(crate) fn prints_and_ends() -> Vec<u8> {
    image(&[PRINT, END].concat())
}

/// Prints a byte, then loops for ever.
pub(crate) fn prints_and_stays() -> Vec<u8> {
    let turn = [
        0xf3, 0x90, // pause
        0xeb, 0xfc, // jmp to it
    ];
    image(&[PRINT, &turn].concat())
}

/// Reads an MSR `count` times, then ends the run.
pub(crate) fn reads(index: MsrIndex, count: u32) -> Vec<u8> {
    let mut code = vec![0xbe]; // mov esi, count
    code.extend(count.to_le_bytes());
    code.push(0xb9); // mov ecx, index
    code.extend(index.0.to_le_bytes());
    code.extend([
        0x0f, 0x32, // rdmsr
        0x4e, // dec esi
        0x75, 0xfb, // jnz to rdmsr
    ]);
    image(&[&code, END].concat())
}

const PRINT: &[u8] = &[
    0xba, 0xf8, 0x03, 0x00, 0x00, // mov edx, 0x3f8: COM1
    0xb0, b'.', // mov al, '.'
    0xee, // out dx, al
];

const END: &[u8] = &[
    0x31, 0xc0, // xor eax, eax
    0xe7, 0xf4, // out 0xf4, eax: debug exit
];

fn image(code: &[u8]) -> Vec<u8> {
    const MAGIC: u32 = 0x1bad_b002;
    const HAS_ADDRESSES: u32 = 1 << 16;
    const LOAD: u32 = 1 << 20;
    const HEADER: u32 = 32;
    let checksum = 0u32.wrapping_sub(MAGIC).wrapping_sub(HAS_ADDRESSES);
    // The addresses of the header and the image; the image ends with the file;
    // and the entry point.
    let fields = [MAGIC, HAS_ADDRESSES, checksum, LOAD, LOAD, 0, 0, LOAD + HEADER];
    fields.into_iter().flat_map(u32::to_le_bytes).chain(code.iter().copied()).collect()
}
