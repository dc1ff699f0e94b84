//! The host calls of ABI version 1 as the host provides them. A call that the
//! plugin does not use leaves no import behind.
//!
//! On other targets `native/imports.rs` has the same functions.
#![expect(unsafe_code, reason = "the host takes memory as address and length")]

#[link(wasm_import_module = "wasmsr")]
unsafe extern "C" {
    pub(crate) safe fn outcome(kind: u32);
    pub(crate) safe fn tsc() -> u64;
    pub(crate) safe fn tsc_khz() -> u32;
    pub(crate) safe fn monotonic_ns() -> u64;
    pub(crate) safe fn realtime_ns() -> u64;
    pub(crate) safe fn tsc_is_stable() -> u32;
    pub(crate) safe fn vcpus() -> u32;
    pub(crate) safe fn vcpu_times(vcpu: u32, times: &mut [u64; 2]) -> u32;
    pub(crate) safe fn host_cpus() -> u32;
    pub(crate) safe fn kvm_rdmsr(index: u32, value: &mut u64) -> u32;
    pub(crate) safe fn kvm_wrmsr(index: u32, value: u64) -> u32;
    pub(crate) safe fn kvm_rdmsr_as_guest(index: u32, value: &mut u64) -> u32;
    pub(crate) safe fn kvm_wrmsr_as_guest(index: u32, value: u64) -> u32;
    pub(crate) safe fn host_rdmsr(index: u32, value: &mut u64) -> u32;
    pub(crate) safe fn host_rdmsr_on(cpu: u32, index: u32, value: &mut u64) -> u32;
    pub(crate) safe fn intercept(first: u32, last: u32, directions: u32, on: u32) -> u32;
    pub(crate) safe fn timer(at_ns: u64) -> u32;
}

/// The calls that take a range of this module's memory.
mod ranges {
    #[link(wasm_import_module = "wasmsr")]
    unsafe extern "C" {
        pub(super) fn log(level: u32, text: *const u8, len: usize);
        pub(super) fn config(out: *mut u8, capacity: usize) -> usize;
        pub(super) fn guest_read(gpa: u64, out: *mut u8, len: usize) -> u32;
        pub(super) fn guest_write(gpa: u64, data: *const u8, len: usize) -> u32;
        pub(super) fn host_file(
            name: *const u8,
            name_len: usize,
            out: *mut u8,
            capacity: usize,
        ) -> u32;
        pub(super) fn report_text(text: *const u8, len: usize);
        pub(super) fn save_state(state: *const u8, len: usize) -> u32;
        pub(super) fn save_version(out: *mut u8, capacity: usize) -> usize;
        pub(super) fn saved_state(out: *mut u8, capacity: usize) -> usize;
        pub(super) fn saved_version(out: *mut u8, capacity: usize) -> usize;
    }
}

pub(crate) fn log(level: u32, text: &str) {
    // SAFETY: the host only reads, and only the range of `text`.
    unsafe { ranges::log(level, text.as_ptr(), text.len()) }
}

pub(crate) fn config(out: &mut [u8]) -> usize {
    // SAFETY: the host writes at most the range of `out`.
    unsafe { ranges::config(out.as_mut_ptr(), out.len()) }
}

pub(crate) fn guest_read(gpa: u64, out: &mut [u8]) -> u32 {
    // SAFETY: the host writes at most the range of `out`.
    unsafe { ranges::guest_read(gpa, out.as_mut_ptr(), out.len()) }
}

pub(crate) fn guest_write(gpa: u64, data: &[u8]) -> u32 {
    // SAFETY: the host only reads, and only the range of `data`.
    unsafe { ranges::guest_write(gpa, data.as_ptr(), data.len()) }
}

pub(crate) fn host_file(name: &str, out: &mut [u8]) -> u32 {
    // SAFETY: the host reads only the range of `name` and writes at most the
    // range of `out`.
    unsafe { ranges::host_file(name.as_ptr(), name.len(), out.as_mut_ptr(), out.len()) }
}

pub(crate) fn report_text(text: &str) {
    // SAFETY: the host only reads, and only the range of `text`.
    unsafe { ranges::report_text(text.as_ptr(), text.len()) }
}

pub(crate) fn save_state(state: &[u8]) -> u32 {
    // SAFETY: the host only reads, and only the range of `state`.
    unsafe { ranges::save_state(state.as_ptr(), state.len()) }
}

pub(crate) fn save_version(out: &mut [u8]) -> usize {
    // SAFETY: the host writes at most the range of `out`.
    unsafe { ranges::save_version(out.as_mut_ptr(), out.len()) }
}

pub(crate) fn saved_state(out: &mut [u8]) -> usize {
    // SAFETY: the host writes at most the range of `out`.
    unsafe { ranges::saved_state(out.as_mut_ptr(), out.len()) }
}

pub(crate) fn saved_version(out: &mut [u8]) -> usize {
    // SAFETY: the host writes at most the range of `out`.
    unsafe { ranges::saved_version(out.as_mut_ptr(), out.len()) }
}
