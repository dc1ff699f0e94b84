//! Guests in assembly, and what makes a file of one.
#![expect(
    unsafe_code,
    reason = "an assembled guest is reached through the symbols at its two ends"
)]

use std::arch::global_asm;

/// An ELF32 file with a multiboot header and `code` behind it.
pub(crate) fn multiboot_image(code: &[u8]) -> Vec<u8> {
    const LOAD: u32 = 0x10_0000;
    const ELF_HEADER: u32 = 52;
    const PROGRAM_HEADER: u32 = 32;
    const MAGIC: u32 = 0x1bad_b002;

    let headers = ELF_HEADER + PROGRAM_HEADER;
    let size = headers + 12 + u32::try_from(code.len()).expect("a small guest");
    let mut image = b"\x7fELF\x01\x01\x01".to_vec();
    image.resize(16, 0);
    let mut put = |words: &[u32]| {
        image.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    // Executable for i386; version, entry, program headers; sizes and counts.
    put(&[3 << 16 | 2, 1, LOAD + headers + 12, ELF_HEADER, 0, 0]);
    put(&[PROGRAM_HEADER << 16 | ELF_HEADER, 40 << 16 | 1, 0]);
    // One segment: the whole file.
    put(&[1, 0, LOAD, LOAD, size, size, 7, 4096]);
    put(&[MAGIC, 0, MAGIC.wrapping_neg()]);
    image.extend(code);
    image
}

pub(crate) type Guest = fn() -> &'static [u8];

/// A guest in 32-bit protected mode without a stack, as AT&T assembly.
macro_rules! guest {
    ($name:ident, $label:literal, $($line:literal)+) => {
        global_asm!(
            ".pushsection .rodata",
            ".code32",
            // The two symbols are used in other units of code.
            concat!(".globl guest_", $label, ", guest_", $label, "_end"),
            concat!(".hidden guest_", $label, ", guest_", $label, "_end"),
            concat!("guest_", $label, ":"),
            $($line,)+
            concat!("guest_", $label, "_end:"),
            ".code64",
            ".popsection",
            options(att_syntax)
        );
        pub(crate) const $name: Guest = || {
            unsafe extern "C" {
                #[link_name = concat!("guest_", $label)]
                static START: u8;
                #[link_name = concat!("guest_", $label, "_end")]
                static END: u8;
            }
            let (start, end) = (&raw const START, &raw const END);
            // SAFETY: both symbols lie around one run of bytes in a read-only
            // section, so they belong to one object that never changes.
            unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
        };
    };
}

// Computes for ever, without an exit.
guest!(SPIN, "spin", "1: jmp 1b");

// Waits for an interrupt that does not come.
guest!(WAIT, "wait",
    "movb $0xff, %al"
    "outb %al, $0x21"
    "outb %al, $0xa1"
    "sti"
    "1: hlt"
    "jmp 1b"
);

// Reads an MSR that KVM does not know, for ever.
guest!(MSRS, "msrs",
    "movl $0xdead0001, %ecx"
    "1: rdmsr"
    "jmp 1b"
);

// Prints for ever.
guest!(PORTS, "ports",
    "movw $0x3f8, %dx"
    "movb $'x', %al"
    "1: outb %al, %dx"
    "jmp 1b"
);

// Prints what is typed, and powers off at a `!`.
guest!(ECHO, "echo",
    "1: movw $0x3fd, %dx"
    "inb %dx, %al"
    "testb $1, %al"
    "jz 1b"
    "movw $0x3f8, %dx"
    "inb %dx, %al"
    "cmpb $'!', %al"
    "je 2f"
    "outb %al, %dx"
    "jmp 1b"
    "2: movw $0x604, %dx"
    "movw $0x2000, %ax"
    "outw %ax, %dx"
    "hlt"
);

// Enables the power button and prints an `r`; then a `p` for each press that raises the
// interrupt at its line of the PIC, which must fall as the event is cleared. Anything wrong
// is a triple fault.
guest!(BUTTON, "button",
    "movb $0x11, %al"
    "outb %al, $0xa0"
    "movb $0x28, %al"
    "outb %al, $0xa1"
    "movb $2, %al"
    "outb %al, $0xa1"
    "movb $1, %al"
    "outb %al, $0xa1"
    "movb $0xff, %al"
    "outb %al, $0xa1"
    "movw $0x4d1, %dx" // level triggered
    "movb $2, %al"
    "outb %al, %dx"
    "movw $0x602, %dx"
    "movw $0x100, %ax"
    "outw %ax, %dx"
    "movb $'r', %al"
    "1: movw $0x3f8, %dx"
    "outb %al, %dx"
    "movb $0x0a, %al" // the requests, not those in service
    "outb %al, $0xa0"
    "2: inb $0xa0, %al"
    "testb $2, %al"
    "jz 2b"
    "movw $0x600, %dx"
    "inw %dx, %ax"
    "cmpw $0x100, %ax"
    "jne 3f"
    "outw %ax, %dx"
    "inw %dx, %ax"
    "testw %ax, %ax"
    "jnz 3f"
    "inb $0xa0, %al"
    "testb $2, %al"
    "jnz 3f"
    "movb $'p', %al"
    "jmp 1b"
    "3: ud2"
);

guest!(RESET, "reset",
    "movb $0xfe, %al"
    "outb %al, $0x64"
    "hlt"
);

// Checks a value read, writes one, and meets `stop`. Anything wrong is a
// triple fault, since there is no IDT.
guest!(OUTCOMES, "outcomes",
    "movl $0xdead0001, %ecx"
    "rdmsr"
    "cmpl $0x22222222, %eax"
    "jne 1f"
    "cmpl $0x11111111, %edx"
    "jne 1f"
    "movl $0xdead0002, %ecx"
    "movl $0x44444444, %eax"
    "movl $0x33333333, %edx"
    "wrmsr"
    "movl $0xdead0003, %ecx"
    "rdmsr"
    "1: ud2"
);

// Expects that each read gives one more than the one before. Anything else is a triple
// fault, since there is no IDT.
guest!(COUNT, "count",
    "movl $0xdead0001, %ecx"
    "xorl %ebx, %ebx"
    "1: rdmsr"
    "incl %ebx"
    "cmpl %ebx, %eax"
    "je 1b"
    "ud2"
);
