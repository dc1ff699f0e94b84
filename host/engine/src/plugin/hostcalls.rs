//! The host calls: what a plugin may ask of the engine and its host.
//!
//! Every pointer and length comes from the plugin and is checked against its
//! memory; every byte moved and every trip to the host is paid in fuel, so
//! that host calls cannot outlast the budget of plain instructions.

use wasmsr_interface::{Directions, Initiator, MsrIndex, MsrRange, VcpuId};
use wasmtime::{Caller, Linker, Memory};

use super::abi::{self, DOES_NOT_FIT, DONE, Fuel, NO_FILE, REFUSED, fuel_of};
use super::answer::Answer;
use super::store::{Phase, StoreData};
use crate::intercepts::SwitchError;
use crate::limits;
use crate::state::InstanceState;

type Context<'a> = Caller<'a, StoreData>;

/// Defines every host call in `linker`.
pub(super) fn link(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    let module = "wasmsr";
    linker.func_wrap(module, "outcome", outcome)?;
    linker.func_wrap(module, "log", log)?;
    linker.func_wrap(module, "config", config)?;
    linker.func_wrap(module, "tsc", tsc)?;
    linker.func_wrap(module, "tsc_khz", |context: Context<'_>| context.data().vm.host.tsc_khz())?;
    linker.func_wrap(module, "monotonic_ns", monotonic_ns)?;
    linker.func_wrap(module, "realtime_ns", realtime_ns)?;
    linker.func_wrap(module, "tsc_is_stable", tsc_is_stable)?;
    linker.func_wrap(module, "vcpus", |context: Context<'_>| context.data().vm.vcpus)?;
    linker.func_wrap(module, "vcpu_times", vcpu_times)?;
    linker.func_wrap(module, "host_cpus", host_cpus)?;
    linker.func_wrap(module, "guest_read", guest_read)?;
    linker.func_wrap(module, "guest_write", guest_write)?;
    linker.func_wrap(module, "kvm_rdmsr", kvm_rdmsr)?;
    linker.func_wrap(module, "kvm_wrmsr", kvm_wrmsr)?;
    linker.func_wrap(module, "kvm_rdmsr_as_guest", kvm_rdmsr_as_guest)?;
    linker.func_wrap(module, "kvm_wrmsr_as_guest", kvm_wrmsr_as_guest)?;
    linker.func_wrap(module, "host_rdmsr", host_rdmsr)?;
    linker.func_wrap(module, "host_rdmsr_on", host_rdmsr_on)?;
    linker.func_wrap(module, "host_file", host_file)?;
    linker.func_wrap(module, "intercept", intercept)?;
    linker.func_wrap(module, "timer", timer)?;
    linker.func_wrap(module, "save_state", save_state)?;
    linker.func_wrap(module, "save_version", save_version)?;
    linker.func_wrap(module, "saved_state", saved_state)?;
    linker.func_wrap(module, "saved_version", saved_version)?;
    linker.func_wrap(module, "report_text", report_text)?;
    Ok(())
}

fn outcome(mut context: Context<'_>, kind: u32) -> wasmtime::Result<()> {
    let data = context.data_mut();
    if data.phase != Phase::Access {
        wasmtime::bail!("`outcome` called outside `rdmsr` and `wrmsr`");
    }
    data.outcome = Some(match kind {
        abi::FAULT => Answer::Fault,
        abi::PASS => Answer::Pass,
        abi::KERNEL => Answer::Kernel,
        _ => wasmtime::bail!("`outcome` called with {kind}; 1 is fault, 2 pass, 3 kernel"),
    });
    Ok(())
}

fn log(mut context: Context<'_>, level: u32, ptr: u32, len: u32) -> wasmtime::Result<()> {
    let len = len.min(limits::LOG_LINE);
    charge(&mut context, const { fuel_of("log") }, len.into())?;
    let (bytes, data) = slice(&mut context, ptr, len)?;
    if level == abi::ERROR && data.phase != Phase::Access {
        // Why the call will refuse or fail, most likely: it goes into that error.
        data.keep_error(printable(bytes));
    } else {
        data.say(level, || printable(bytes));
    }
    Ok(())
}

/// What a plugin says, fit for a terminal: no control characters.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

fn config(mut context: Context<'_>, ptr: u32, cap: u32) -> wasmtime::Result<u32> {
    let plugin = context.data().plugin.clone();
    hand_over(&mut context, const { fuel_of("config") }, plugin.config.config.as_bytes(), ptr, cap)
}

fn tsc(mut context: Context<'_>) -> wasmtime::Result<u64> {
    charge(&mut context, const { fuel_of("tsc") }, 0)?;
    let data = context.data();
    Ok(data.vm.host.guest_tsc(data.vcpu))
}

fn monotonic_ns(mut context: Context<'_>) -> wasmtime::Result<u64> {
    charge(&mut context, const { fuel_of("monotonic_ns") }, 0)?;
    Ok(context.data().vm.host.monotonic_ns())
}

fn realtime_ns(mut context: Context<'_>) -> wasmtime::Result<u64> {
    charge(&mut context, const { fuel_of("realtime_ns") }, 0)?;
    Ok(context.data().vm.host.realtime_ns())
}

fn tsc_is_stable(mut context: Context<'_>) -> wasmtime::Result<u32> {
    charge(&mut context, const { fuel_of("tsc_is_stable") }, 0)?;
    Ok(context.data().vm.host.tsc_is_stable().into())
}

fn vcpu_times(mut context: Context<'_>, vcpu: u32, ptr: u32) -> wasmtime::Result<u32> {
    charge(&mut context, const { fuel_of("vcpu_times") }, 0)?;
    let (target, data) = slice(&mut context, ptr, 16)?;
    let times = data.vm.host.vcpu_times(VcpuId(vcpu));
    let times = times.map(|times| [times.ran_ns.to_le_bytes(), times.waited_ns.to_le_bytes()]);
    Ok(give(times.as_ref().map(|times| times.as_flattened()), target))
}

fn host_cpus(mut context: Context<'_>) -> wasmtime::Result<u32> {
    charge(&mut context, const { fuel_of("host_cpus") }, 0)?;
    Ok(context.data().vm.host.host_cpus())
}

fn guest_read(mut context: Context<'_>, gpa: u64, ptr: u32, len: u32) -> wasmtime::Result<u32> {
    charge(&mut context, const { fuel_of("guest_read") }, len.into())?;
    let (target, data) = slice(&mut context, ptr, len)?;
    if !data.plugin.held.guest_memory {
        return Ok(REFUSED);
    }
    Ok(data.vm.host.read_memory(gpa, target).map_or(REFUSED, |()| DONE))
}

fn guest_write(mut context: Context<'_>, gpa: u64, ptr: u32, len: u32) -> wasmtime::Result<u32> {
    charge(&mut context, const { fuel_of("guest_write") }, len.into())?;
    let (source, data) = slice(&mut context, ptr, len)?;
    if !data.plugin.held.guest_memory {
        return Ok(REFUSED);
    }
    Ok(data.vm.host.write_memory(gpa, source).map_or(REFUSED, |()| DONE))
}

fn kvm_rdmsr(context: Context<'_>, index: u32, ptr: u32) -> wasmtime::Result<u32> {
    read_kvm_msr(context, const { fuel_of("kvm_rdmsr") }, index, ptr, Initiator::Host)
}

fn kvm_rdmsr_as_guest(context: Context<'_>, index: u32, ptr: u32) -> wasmtime::Result<u32> {
    read_kvm_msr(context, const { fuel_of("kvm_rdmsr_as_guest") }, index, ptr, Initiator::Guest)
}

fn read_kvm_msr(
    mut context: Context<'_>,
    fuel: Fuel,
    index: u32,
    ptr: u32,
    initiator: Initiator,
) -> wasmtime::Result<u32> {
    charge(&mut context, fuel, 0)?;
    let (target, data) = slice(&mut context, ptr, 8)?;
    let held = data.plugin.held.kvm_msr;
    let value = held.then(|| data.vm.host.kvm_msr(data.vcpu, MsrIndex(index), initiator)).flatten();
    Ok(give(value.map(u64::to_le_bytes), target))
}

fn kvm_wrmsr(context: Context<'_>, index: u32, value: u64) -> wasmtime::Result<u32> {
    write_kvm_msr(context, const { fuel_of("kvm_wrmsr") }, index, value, Initiator::Host)
}

fn kvm_wrmsr_as_guest(context: Context<'_>, index: u32, value: u64) -> wasmtime::Result<u32> {
    write_kvm_msr(context, const { fuel_of("kvm_wrmsr_as_guest") }, index, value, Initiator::Guest)
}

fn write_kvm_msr(
    mut context: Context<'_>,
    fuel: Fuel,
    index: u32,
    value: u64,
    initiator: Initiator,
) -> wasmtime::Result<u32> {
    charge(&mut context, fuel, 0)?;
    let data = context.data();
    let index = MsrIndex(index);
    let done =
        data.plugin.held.kvm_msr && data.vm.host.set_kvm_msr(data.vcpu, index, value, initiator);
    Ok(if done { DONE } else { REFUSED })
}

fn host_rdmsr(context: Context<'_>, index: u32, ptr: u32) -> wasmtime::Result<u32> {
    read_host_msr(context, const { fuel_of("host_rdmsr") }, None, index, ptr)
}

fn host_rdmsr_on(context: Context<'_>, cpu: u32, index: u32, ptr: u32) -> wasmtime::Result<u32> {
    read_host_msr(context, const { fuel_of("host_rdmsr_on") }, Some(cpu), index, ptr)
}

fn read_host_msr(
    mut context: Context<'_>,
    fuel: Fuel,
    cpu: Option<u32>,
    index: u32,
    ptr: u32,
) -> wasmtime::Result<u32> {
    charge(&mut context, fuel, 0)?;
    let (target, data) = slice(&mut context, ptr, 8)?;
    let index = MsrIndex(index);
    let held = data.plugin.held.host_msr(index);
    let value = held.then(|| data.vm.host.host_msr(cpu, index)).flatten();
    Ok(give(value.map(u64::to_le_bytes), target))
}

fn host_file(
    mut context: Context<'_>,
    name: u32,
    name_len: u32,
    ptr: u32,
    cap: u32,
) -> wasmtime::Result<u32> {
    let cap = cap.min(limits::HOST_FILE);
    charge(&mut context, const { fuel_of("host_file") }, u64::from(name_len) + u64::from(cap))?;
    let (name, data) = slice(&mut context, name, name_len)?;
    let plugin = data.plugin.clone();
    let Some(path) = str::from_utf8(name).ok().and_then(|name| plugin.held.host_file(name)) else {
        return Ok(NO_FILE);
    };
    let (target, data) = slice(&mut context, ptr, cap)?;
    let read = data.vm.host.read_host_file(path, target);
    Ok(read.and_then(|len| u32::try_from(len).ok()).unwrap_or(NO_FILE))
}

fn intercept(
    mut context: Context<'_>,
    first: u32,
    last: u32,
    directions: u32,
    on: u32,
) -> wasmtime::Result<u32> {
    charge(&mut context, const { fuel_of("intercept") }, 0)?;
    let directions = match directions {
        abi::READS => Directions::Read,
        abi::WRITES => Directions::Write,
        abi::BOTH => Directions::ReadWrite,
        _ => wasmtime::bail!("`intercept` called for directions {directions}; 1 is read, 2 write"),
    };
    let data = context.data();
    if !data.plugin.held.intercept {
        return Ok(REFUSED);
    }
    let Some(range) = MsrRange::new(MsrIndex(first), MsrIndex(last)) else { return Ok(REFUSED) };
    let StoreData { plugin, vm, .. } = data;
    let switched =
        vm.intercepts.switch(&plugin.name, &plugin.manifest, range, directions, on != 0, &*vm.host);
    Ok(match switched {
        Ok(()) => DONE,
        Err(SwitchError::NotClaimed) => REFUSED,
        Err(SwitchError::DoesNotFit) => DOES_NOT_FIT,
    })
}

fn timer(mut context: Context<'_>, at: u64) -> wasmtime::Result<u32> {
    charge(&mut context, const { fuel_of("timer") }, 0)?;
    let data = context.data_mut();
    if !data.plugin.held.timer {
        return Ok(REFUSED);
    }
    let soonest = data.vm.host.monotonic_ns().saturating_add(limits::SHORTEST_TIMER);
    let at = at.max(soonest);
    data.timer = Some((data.vcpu, at));
    data.vm.host.wake_at(data.vcpu, at);
    Ok(DONE)
}

fn save_state(mut context: Context<'_>, ptr: u32, len: u32) -> wasmtime::Result<u32> {
    charge(&mut context, const { fuel_of("save_state") }, len.into())?;
    let (bytes, data) = slice(&mut context, ptr, len)?;
    if data.phase != Phase::Save {
        wasmtime::bail!("`save_state` called outside `save`");
    }
    if bytes.len() > limits::SAVED_STATE {
        return Ok(REFUSED);
    }
    data.saved = bytes.to_vec();
    Ok(DONE)
}

fn save_version(mut context: Context<'_>, ptr: u32, cap: u32) -> wasmtime::Result<u32> {
    let data = context.data_mut();
    if data.phase != Phase::Save {
        wasmtime::bail!("`save_version` called outside `save`");
    }
    data.asked_for_version = true;
    let version = data.saving_for.clone().unwrap_or_default();
    hand_over(&mut context, const { fuel_of("save_version") }, version.as_bytes(), ptr, cap)
}

fn saved_state(mut context: Context<'_>, ptr: u32, cap: u32) -> wasmtime::Result<u32> {
    let bytes = restoring(&context, "saved_state")?.bytes.clone();
    hand_over(&mut context, const { fuel_of("saved_state") }, &bytes, ptr, cap)
}

fn saved_version(mut context: Context<'_>, ptr: u32, cap: u32) -> wasmtime::Result<u32> {
    let version = restoring(&context, "saved_version")?.version.clone();
    hand_over(&mut context, const { fuel_of("saved_version") }, version.as_bytes(), ptr, cap)
}

fn report_text(mut context: Context<'_>, ptr: u32, len: u32) -> wasmtime::Result<()> {
    charge(&mut context, const { fuel_of("report_text") }, len.into())?;
    let (bytes, data) = slice(&mut context, ptr, len)?;
    if data.phase != Phase::Report {
        wasmtime::bail!("`report_text` called outside `report`");
    }
    let bytes = bytes.get(..limits::REPORT).unwrap_or(bytes);
    let lines: Vec<String> = bytes.split(|&byte| byte == b'\n').map(printable).collect();
    data.report = lines.join("\n");
    Ok(())
}

fn restoring<'a>(context: &'a Context<'_>, call: &str) -> wasmtime::Result<&'a InstanceState> {
    let data = context.data();
    let restoring = data.restoring.as_ref().filter(|_| data.phase == Phase::Restore);
    restoring.ok_or_else(|| wasmtime::Error::msg(format!("`{call}` called outside `restore`")))
}

/// Copies as much of `bytes` as `cap` allows to the plugin and says how many
/// there are.
fn hand_over(
    context: &mut Context<'_>,
    fuel: Fuel,
    bytes: &[u8],
    ptr: u32,
    cap: u32,
) -> wasmtime::Result<u32> {
    let copied = bytes.len().min(cap as usize);
    charge(context, fuel, copied as u64)?;
    let (target, _) = slice(context, ptr, u32::try_from(copied)?)?;
    target.copy_from_slice(bytes.get(..copied).unwrap_or_default());
    Ok(u32::try_from(bytes.len())?)
}

/// Copies what there is to the plugin, or refuses.
fn give(value: Option<impl AsRef<[u8]>>, target: &mut [u8]) -> u32 {
    match value {
        Some(value) => {
            target.copy_from_slice(value.as_ref());
            DONE
        }
        None => REFUSED,
    }
}

/// Takes what a call costs that moves so many bytes from the plugin's budget, or
/// ends it.
fn charge(context: &mut Context<'_>, fuel: Fuel, bytes: u64) -> wasmtime::Result<()> {
    match context.get_fuel()?.checked_sub(fuel.call.saturating_add(bytes)) {
        Some(left) => context.set_fuel(left),
        None => Err(wasmtime::Trap::OutOfFuel.into()),
    }
}

/// `len` bytes of the plugin's memory at `ptr`, and the store's data.
fn slice<'a>(
    context: &'a mut Context<'_>,
    ptr: u32,
    len: u32,
) -> wasmtime::Result<(&'a mut [u8], &'a mut StoreData)> {
    let memory: Memory = context
        .data()
        .memory
        .ok_or_else(|| wasmtime::Error::msg("host call before the memory is there"))?;
    let (bytes, data) = memory.data_and_store_mut(context);
    let start = ptr as usize;
    let size = bytes.len();
    let range = start..start.saturating_add(len as usize);
    bytes.get_mut(range).map(|bytes| (bytes, data)).ok_or_else(|| {
        wasmtime::Error::msg(format!(
            "pointer {ptr:#x} with length {len:#x} is outside the plugin's memory of {size:#x} bytes"
        ))
    })
}
