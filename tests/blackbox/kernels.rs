//! Kernels that are not Linux's of today: by the 32-bit boot protocol, with a file that
//! is shorter than its header says, and multiboot kernels that count on a PC's low
//! memory.

use std::path::PathBuf;

use crate::fixture::{
    Outcome, Run, Running, Skip, Vm, Workdir, apply, guest_exit, require_kernels, require_kvm,
    test, wasmsr,
};

/// 32-bit code for the start of a kernel. It prints `HdrS` of its boot parameters and its
/// command line, and ends with the sum of CS and DS.
const STUB: &[u8] = &[
    0x8b, 0x9e, 0x02, 0x02, 0, 0, // mov ebx, [esi+0x202]
    0xb9, 4, 0, 0, 0, // mov ecx, 4
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0x88, 0xd8, // 1: mov al, bl
    0xee, // out dx, al
    0xc1, 0xeb, 8, // shr ebx, 8
    0xe2, 0xf8, // loop 1b
    0x8b, 0x9e, 0x28, 0x02, 0, 0, // mov ebx, [esi+0x228]
    0x8a, 0x03, // 1: mov al, [ebx]
    0x84, 0xc0, // test al, al
    0x74, 4,    // jz 2f
    0xee, // out dx, al
    0x43, // inc ebx
    0xeb, 0xf6, // jmp 1b
    0x8c, 0xc8, // 2: mov eax, cs
    0x8c, 0xd9, // mov ecx, ds
    0x01, 0xc8, // add eax, ecx
    0xe7, 0xf4, // out 0xf4, eax
    0xf4, // 1: hlt
    0xeb, 0xfd, // jmp 1b
];

/// A bzImage of this version, with [`STUB`] and no 64-bit entry.
fn bzimage(version: u16) -> Vec<u8> {
    let mut file = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]); // setup_sects
    put(0x1f4, &4_u32.to_le_bytes()); // syssize
    put(0x200, &[0xeb, 0x6a]);
    put(0x202, b"HdrS");
    put(0x206, &version.to_le_bytes());
    put(0x211, &[1]); // loadflags
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes()); // initrd_addr_max
    put(0x238, &255_u32.to_le_bytes()); // cmdline_size
    put(0x258, &0x40_0000_u64.to_le_bytes()); // pref_address
    put(0x260, &0x1000_u32.to_le_bytes()); // init_size
    file.extend(STUB);
    file.resize(1024 + 64, 0);
    file
}

/// Runs a file as a kernel.
fn boot(kernel: &[u8]) -> Result<Run, Skip> {
    require_kvm()?;
    let workdir = Workdir::new();
    workdir.put("kernel", kernel);
    workdir.put("vm.toml", "[boot]\nkernel = \"kernel\"\ncmdline = \" a=1 b\"\n");
    Ok(workdir.wasmsr(&["run", "vm.toml"]))
}

#[apply(test)]
fn a_kernel_is_entered_by_the_32_bit_protocol() -> Outcome {
    for version in [0x206, 0x20a, 0x20c, 0x20f] {
        // __BOOT_CS and __BOOT_DS.
        let run = boot(&bzimage(version))?.exited(guest_exit(0x10 + 0x18));
        assert_eq!(run.stdout, "HdrS a=1 b", "version {version:#x}: {run}");
    }
    Ok(())
}

#[apply(test)]
fn a_file_may_end_within_its_last_16_bytes_and_not_before() -> Outcome {
    let kernel = bzimage(0x20c);
    for missing in [1, 8, 15] {
        boot(&kernel[..kernel.len() - missing])?.exited(guest_exit(0x28));
    }
    boot(&kernel[..kernel.len() - 16])?.refused(&["is cut short: a kernel of 1088 bytes"]);
    Ok(())
}

#[apply(test)]
fn a_kernel_for_a_bios_is_refused_by_its_version() -> Outcome {
    // As memdisk and lnxboot.img: a command line is not what is wrong with them.
    let run = boot(&bzimage(0x203))?;
    let run = run.refused(&["kernel has boot protocol 2.03", "2.06"]);
    assert!(!run.stderr.contains("command line"), "{run}");
    Ok(())
}

/// Runs one of Debian's kernels until it prints `text`.
fn shows(kernel: &str, key: &str, cmdline: &str, text: &[&str]) -> Outcome {
    let kernel: PathBuf = require_kernels()?.join(kernel);
    if !kernel.exists() {
        return crate::fixture::cannot_run_here(format!("no {}", kernel.display()));
    }
    let workdir = Workdir::new();
    workdir.put(
        "vm.toml",
        format!("vm.memory = \"64MiB\"\n[boot]\n{key} = {kernel:?}\ncmdline = {cmdline:?}\n"),
    );
    let mut running = Running::start(wasmsr(&["run", "vm.toml"]).current_dir(workdir.path()));
    for text in text {
        running.wait_for(text);
    }
    Ok(())
}

#[apply(test)]
fn memtest86_plus_of_64_bits() -> Outcome {
    shows("memtest86+x64.bin", "kernel", "console=ttyS0,115200 nosmp", &["Memtest86+", "Testing"])
}

#[apply(test)]
fn memtest86_plus_of_32_bits() -> Outcome {
    shows("memtest86+ia32.bin", "kernel", "console=ttyS0,115200 nosmp", &["Memtest86+", "Testing"])
}

#[apply(test)]
fn xen_finds_low_memory() -> Outcome {
    let cmdline = "no-real-mode com1=115200,8n1 console=com1";
    shows("xen", "image", cmdline, &["(XEN) Xen version", "Bootloader: wasmsr"])
}

#[apply(test)]
fn the_bios_data_area_and_the_memory_map_agree() -> Outcome {
    // COM1; the EBDA at 0x9fc00, and 639 KiB below it; an EBDA of 1 KiB.
    Vm::new().prints(
        "
        peek 400 -> 3f8
        peek 408 -> 9fc0000000000000
        peek 410 -> 27f000202
        peek 9fc00 -> 1
        ",
    )
}

#[apply(test)]
fn the_keyboard_controller_answers_its_driver() -> Outcome {
    // As drivers/input/serio/i8042.c of Linux: read the command byte twice, write it, look
    // for a mouse, of which there is none. 0x60 takes a command's parameter.
    Vm::new().prints(
        "
        inb 64 -> 14
        outb 64 20 -> ok
        inb 64 -> 1d
        inb 60 -> 65
        inb 64 -> 1c
        outb 64 20 -> ok
        inb 60 -> 65
        outb 64 60 -> ok
        outb 60 74 -> ok
        outb 64 20 -> ok
        inb 60 -> 74
        outb 64 d3 -> ok
        outb 60 5a -> ok
        inb 64 -> 15
        inb 60 -> 5a
        outb 64 a9 -> ok
        inb 60 -> 2
        outb 64 aa -> ok
        inb 60 -> 55
        outb 60 f2 -> ok
        inb 64 -> 14
        ",
    )
}
