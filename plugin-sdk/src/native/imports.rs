//! The host calls, answered from the script. The functions are the same as in
//! `imports.rs`, which is for Wasm.

use super::script::with;
use super::{AnsweredBy, Intercept};
use crate::intercept::Directions;
use crate::log::Level;
use crate::{MsrIndex, abi};

pub(crate) fn outcome(kind: u32) {
    with(|script| script.outcome = Some(kind));
}

pub(crate) fn log(level: u32, text: &str) {
    let level = match level {
        1 => Level::Error,
        2 => Level::Warn,
        3 => Level::Info,
        _ => Level::Debug,
    };
    with(|script| script.logged.push((level, text.into())));
}

pub(crate) fn config(out: &mut [u8]) -> usize {
    with(|script| copy(script.config.as_bytes(), out))
}

pub(crate) fn tsc() -> u64 {
    with(|script| script.tsc)
}

pub(crate) fn tsc_khz() -> u32 {
    with(|script| script.tsc_khz)
}

pub(crate) fn monotonic_ns() -> u64 {
    with(|script| script.monotonic_ns)
}

pub(crate) fn realtime_ns() -> u64 {
    with(|script| script.realtime_ns)
}

pub(crate) fn tsc_is_stable() -> u32 {
    with(|script| script.tsc_is_stable.into())
}

pub(crate) fn vcpus() -> u32 {
    with(|script| script.vcpus)
}

pub(crate) fn vcpu_times(vcpu: u32, times: &mut [u64; 2]) -> u32 {
    with(|script| status(script.vcpu_times.get(&vcpu).map(|held| *times = *held)))
}

pub(crate) fn host_cpus() -> u32 {
    with(|script| script.host_cpus)
}

pub(crate) fn guest_read(gpa: u64, out: &mut [u8]) -> u32 {
    with(|script| status(script.memory_mut(gpa, out.len()).map(|ram| out.copy_from_slice(ram))))
}

pub(crate) fn guest_write(gpa: u64, data: &[u8]) -> u32 {
    with(|script| status(script.memory_mut(gpa, data.len()).map(|ram| ram.copy_from_slice(data))))
}

pub(crate) fn kvm_rdmsr(index: u32, value: &mut u64) -> u32 {
    with(|script| status(script.kvm_msrs.get(&index).map(|held| *value = *held)))
}

pub(crate) fn kvm_wrmsr(index: u32, value: u64) -> u32 {
    with(|script| status(script.kvm_msrs.get_mut(&index).map(|held| *held = value)))
}

pub(crate) fn kvm_rdmsr_as_guest(index: u32, value: &mut u64) -> u32 {
    match with(|script| script.guest_rules.get(&index).is_none_or(|(readable, _)| *readable)) {
        true => kvm_rdmsr(index, value),
        false => status(None),
    }
}

pub(crate) fn kvm_wrmsr_as_guest(index: u32, value: u64) -> u32 {
    with(|script| {
        let (_, writable) = script.guest_rules.get(&index).unwrap_or(&(true, u64::MAX));
        let held = script.kvm_msrs.get_mut(&index);
        status(held.filter(|held| (**held ^ value) & !writable == 0).map(|held| *held = value))
    })
}

pub(crate) fn host_rdmsr(index: u32, value: &mut u64) -> u32 {
    with(|script| status(script.host_msrs.get(&index).map(|held| *value = *held)))
}

pub(crate) fn host_rdmsr_on(cpu: u32, index: u32, value: &mut u64) -> u32 {
    with(|script| {
        let everywhere = script.host_msrs.get(&index).filter(|_| cpu < script.host_cpus);
        let held = script.host_msrs_on.get(&(cpu, index)).or(everywhere);
        status(held.map(|held| *value = *held))
    })
}

pub(crate) fn host_file(name: &str, out: &mut [u8]) -> u32 {
    with(|script| match script.host_files.get(name) {
        Some(contents) => {
            let copied = copy(contents, out).min(out.len());
            u32::try_from(copied).unwrap_or(abi::NO_FILE)
        }
        None => abi::NO_FILE,
    })
}

pub(crate) fn intercept(first: u32, last: u32, directions: u32, on: u32) -> u32 {
    let change = Intercept {
        first: MsrIndex(first),
        last: MsrIndex(last),
        directions: match directions {
            abi::DIRECTION_READ => Directions::Read,
            abi::DIRECTION_WRITE => Directions::Write,
            _ => Directions::ReadWrite,
        },
        answered_by: if on == 0 { AnsweredBy::Kvm } else { AnsweredBy::Plugin },
    };
    with(|script| script.intercepts.push(change));
    abi::OK
}

pub(crate) fn timer(at_ns: u64) -> u32 {
    with(|script| script.timer = Some(at_ns));
    abi::OK
}

pub(crate) fn report_text(text: &str) {
    with(|script| script.report = text.into());
}

pub(crate) fn save_state(state: &[u8]) -> u32 {
    with(|script| script.saved_state = state.into());
    abi::OK
}

pub(crate) fn save_version(out: &mut [u8]) -> usize {
    with(|script| copy(script.save_version.as_bytes(), out))
}

pub(crate) fn saved_state(out: &mut [u8]) -> usize {
    with(|script| copy(&script.saved_state, out))
}

pub(crate) fn saved_version(out: &mut [u8]) -> usize {
    with(|script| copy(script.saved_version.as_bytes(), out))
}

fn copy(from: &[u8], out: &mut [u8]) -> usize {
    for (to, from) in out.iter_mut().zip(from) {
        *to = *from;
    }
    from.len()
}

fn status(done: Option<()>) -> u32 {
    if done.is_some() { abi::OK } else { 1 }
}
