//! Images that load, and images that must not.

use std::io::Write as _;

use proptest::prelude::*;
use tempfile::NamedTempFile;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::header::parse;
use super::*;
use crate::boot::taken::Taken;

const MEMORY: usize = 4 << 20;

/// A multiboot ELF image: code at 1 MiB with 16 bytes of zeros after it, and
/// data at 2 MiB.
fn elf() -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    half(&mut file, 2);
    half(&mut file, 3);
    for value in [1, 0x10_000c, 52, 0, 0] {
        word(&mut file, value);
    }
    for value in [52, 32, 2, 0, 0, 0] {
        half(&mut file, value);
    }
    for value in [1, 116, 0x10_0000, 0x10_0000, 16, 32, 5, 4] {
        word(&mut file, value);
    }
    for value in [1, 132, 0xc020_0000, 0x20_0000, 4, 4, 6, 4] {
        word(&mut file, value);
    }
    for value in [0x1bad_b002, 0x3, 0_u32.wrapping_sub(0x1bad_b005), 0xfeeb, 0x1234_5678] {
        word(&mut file, value);
    }
    file
}

fn set(mut file: Vec<u8>, at: usize, value: u32) -> Vec<u8> {
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
    file
}

/// Loads `file` into 4 MiB, with one module.
fn load_with_module(file: &[u8]) -> (GuestMemoryMmap, Result<Entry, BootError>) {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    let mut module = NamedTempFile::new().unwrap();
    module.write_all(b"content").unwrap();
    let modules = [BootModule { path: module.path().into(), cmdline: "one two".to_owned() }];
    let entry = load(&mut Space::new(&memory), Path::new("dir/g.elf"), file, "a b", &modules);
    (memory, entry)
}

fn word(memory: &GuestMemoryMmap, at: u32) -> u32 {
    memory.read_obj(GuestAddress(at.into())).unwrap()
}

fn text(memory: &GuestMemoryMmap, at: u32) -> String {
    let bytes = (at..).map(|at| memory.read_obj::<u8>(GuestAddress(at.into())).unwrap());
    String::from_utf8(bytes.take_while(|&byte| byte != 0).collect()).unwrap()
}

#[test]
fn an_image_lies_where_its_headers_say() {
    let (memory, entry) = load_with_module(&elf());
    let (eip, _) = entry.unwrap().as_protected().unwrap();
    assert_eq!(eip, 0x10_000c);
    assert_eq!(word(&memory, 0x10_0000), 0x1bad_b002);
    assert_eq!(word(&memory, 0x10_0010), 0, "bss");
    assert_eq!(word(&memory, 0x20_0000), 0x1234_5678);
}

#[test]
fn the_guest_finds_what_it_is_told() {
    let (memory, entry) = load_with_module(&elf());
    let (_, info) = entry.unwrap().as_protected().unwrap();
    assert_eq!(word(&memory, info), 0x24d, "flags");
    let field = |at| word(&memory, info + at);
    assert_eq!((field(4), field(8)), (639, 3 * 1024), "KiB of lower and upper memory");
    assert_eq!(text(&memory, field(16)), "dir/g.elf a b");
    assert_eq!(text(&memory, field(64)), "wasmsr");

    assert_eq!(field(20), 1);
    let module = field(24);
    let (start, end) = (word(&memory, module), word(&memory, module + 4));
    assert_eq!(start, 0x20_1000, "the first page after the image");
    assert_eq!(end - start, 7);
    assert_eq!(text(&memory, start), "content");
    assert_eq!(text(&memory, word(&memory, module + 8)), "one two");

    assert_eq!(field(44), 4 * 24);
    let map = field(48);
    let ranges: Vec<_> =
        (0..4).map(|entry| [0, 4, 12, 20].map(|at| word(&memory, map + 24 * entry + at))).collect();
    assert_eq!(
        ranges,
        [
            [20, 0, 0x9_fc00, 1],
            [20, 0x9_fc00, 0x400, 2],
            [20, 0xe_0000, 0x2_0000, 2],
            [20, 0x10_0000, 0x30_0000, 1],
        ]
    );
}

#[test]
fn an_entry_is_translated_from_virtual_to_physical() {
    let file = set(elf(), 24, 0xc020_0002);
    assert_eq!(parse(&file).unwrap().entry, 0x20_0002);
}

#[test]
fn an_image_without_elf_tells_its_addresses_in_the_header() {
    let mut file = vec![0x90; 16];
    let flags = 1 << 16;
    for value in [0x1bad_b002, flags, 0_u32.wrapping_sub(0x1bad_b002 + flags)] {
        file.extend(value.to_le_bytes());
    }
    for value in [0x10_0010_u32, 0x10_0000, 0x10_0024, 0x10_0100, 0x10_0004] {
        file.extend(value.to_le_bytes());
    }
    let image = parse(&file).unwrap();
    assert_eq!(image.entry, 0x10_0004);
    let [segment] = &image.segments[..] else { panic!("{image:?}") };
    assert_eq!((segment.file, segment.memory.clone()), (&file[..36], 0x10_0000..0x10_0100));

    for (field, value, wrong) in [
        (32, 0x10_0011, "`load_addr` is greater than its `header_addr`"),
        (32, 0x0f_0000, "`load_addr` is before the start of the file"),
        (36, 0x0f_ffff, "`load_end_addr` is less than its `load_addr`"),
        (36, 0x10_0040, "`load_end_addr` is past the end of the file"),
        (40, 0x10_0020, "`bss_end_addr` is before the end of what is loaded"),
    ] {
        let problem = parse(&set(file.clone(), field, value)).unwrap_err();
        assert_eq!(problem, ImageError::Addresses { what: wrong });
    }
}

#[test]
fn each_wrong_image_is_refused_for_its_own_reason() {
    fn check(file: &[u8], expected: &str) {
        let (_, result) = load_with_module(file);
        let message = result.unwrap_err().to_string();
        assert!(message.starts_with("dir/g.elf "), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    check(b"#!/bin/sh\n", "is not a multiboot 1 image: no header in its first 8192 bytes");
    check(&set(elf(), 124, 1), "is not a multiboot 1 image");
    let video = set(set(elf(), 120, 4), 124, 0_u32.wrapping_sub(0x1bad_b006));
    check(&video, "header flags 0x4 ");
    check(&elf()[116..], "is not an ELF file");
    check(&set(elf(), 4, 0x0001_0102), "is a 64-bit ELF file");
    check(&set(elf(), 16, 0x0003_0003), "is not an executable");
    check(&set(elf(), 16, 0x0028_0002), "for another machine");
    check(&set(elf(), 24, 0x30_0000), "starts at 0x300000, which is in none");
    check(&set(elf(), 28, u32::MAX), "program header 0 is not within its 136 bytes");
    check(&set(elf(), 42, 0x0002_001f), "undersized program headers");
    check(&set(elf(), 56, u32::MAX), "segment 0 is not within its 136 bytes");
    check(&set(elf(), 68, 33), "segment 0 is longer in the file than in memory");
    check(&set(elf(), 64, 0x3f_fff0), "0x3ffff0-0x40000f, which is outside guest memory; raise");
    check(&set(elf(), 96, 0xffff_fffe), "outside guest memory");
    check(&set(elf(), 96, 0x10_001f), "0x10001f-0x100022, which overlaps");
}

#[test]
fn no_truncation_loads() {
    let file = elf();
    for end in 0..file.len() {
        assert!(parse(&file[..end]).is_err(), "{end} bytes");
    }
}

#[test]
fn a_segment_that_does_not_fit_is_named() {
    let (_, result) = load_with_module(&set(elf(), 64, 0x8000_0000));
    let Err(BootError::Image { problem: ImageError::Place { why, .. }, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(why, Taken::OutsideRam);
}

proptest! {
    #[test]
    fn no_mutation_panics(changes in prop::collection::vec((0_usize..136, any::<u8>()), 1..8)) {
        let mut file = elf();
        for (at, value) in changes {
            file[at] = value;
        }
        let _ = load_with_module(&file);
    }

    #[test]
    fn no_garbage_behind_a_header_panics(garbage in prop::collection::vec(any::<u8>(), 0..256)) {
        let mut file = garbage;
        for value in [0x1bad_b002, 1 << 16, 0_u32.wrapping_sub(0x1bad_b002 + (1 << 16))] {
            file.splice(0..0, value.to_le_bytes());
        }
        let _ = load_with_module(&file);
    }
}
