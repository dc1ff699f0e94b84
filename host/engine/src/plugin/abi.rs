//! ABI 1: which exports and imports a plugin may have, and of which types.

use std::fmt::Display;

use wasmtime::{ExternType, Module};

use super::manifest::{ABI_VERSION, Manifest};
use super::module::ModuleError;
use crate::msr::Direction;

/// One import that ABI 1 offers.
#[derive(Debug, Clone, Copy)]
pub struct HostCall {
    /// Name within the import module `wasmsr`.
    pub name: &'static str,
    /// Its type.
    pub ty: &'static str,
    /// The capability that it needs; `None` where it is free.
    pub capability: Option<&'static str>,
}

/// All of them.
pub const HOST_CALLS: &[HostCall] = &[
    free("outcome", "(i32) -> ()"),
    free("log", "(i32, i32, i32) -> ()"),
    free("config", "(i32, i32) -> (i32)"),
    free("tsc", "() -> (i64)"),
    free("tsc_khz", "() -> (i32)"),
    free("monotonic_ns", "() -> (i64)"),
    free("realtime_ns", "() -> (i64)"),
    free("tsc_is_stable", "() -> (i32)"),
    free("vcpus", "() -> (i32)"),
    free("vcpu_times", "(i32, i32) -> (i32)"),
    free("host_cpus", "() -> (i32)"),
    behind("guest-memory", "guest_read", "(i64, i32, i32) -> (i32)"),
    behind("guest-memory", "guest_write", "(i64, i32, i32) -> (i32)"),
    behind("kvm-msr", "kvm_rdmsr", "(i32, i32) -> (i32)"),
    behind("kvm-msr", "kvm_wrmsr", "(i32, i64) -> (i32)"),
    behind("host-msr", "host_rdmsr", "(i32, i32) -> (i32)"),
    behind("host-msr", "host_rdmsr_on", "(i32, i32, i32) -> (i32)"),
    behind("host-file", "host_file", "(i32, i32, i32, i32) -> (i32)"),
    behind("intercept", "intercept", "(i32, i32, i32, i32) -> (i32)"),
    behind("timer", "timer", "(i64) -> (i32)"),
    free("save_state", "(i32, i32) -> (i32)"),
    free("saved_state", "(i32, i32) -> (i32)"),
    free("saved_version", "(i32, i32) -> (i32)"),
    free("report_text", "(i32, i32) -> ()"),
];

const fn free(name: &'static str, ty: &'static str) -> HostCall {
    HostCall { name, ty, capability: None }
}

const fn behind(capability: &'static str, name: &'static str, ty: &'static str) -> HostCall {
    HostCall { name, ty, capability: Some(capability) }
}

/// The names, for errors.
pub(super) fn names() -> impl Display {
    HOST_CALLS.iter().map(|call| call.name).collect::<Vec<_>>().join(", ")
}

/// Holds imports and exports against the ABI.
pub(super) fn check(module: &Module, manifest: &Manifest) -> Result<(), ModuleError> {
    check_imports(module, manifest)?;
    let needs_rdmsr = manifest.answers(Direction::Read);
    let needs_wrmsr = manifest.answers(Direction::Write);
    let why = |access: &str| format!("the manifest's `{access}` access calls for");
    let abi = || format!("ABI {ABI_VERSION} asks for");
    check_export(module, "memory", "memory", Some(abi()))?;
    check_export(module, "wasmsr_abi_v1", "() -> ()", Some(abi()))?;
    let rdmsr = needs_rdmsr.then(|| why("r"));
    check_export(module, "rdmsr", "(i32, i32, i32) -> (i64)", rdmsr)?;
    let wrmsr = needs_wrmsr.then(|| why("w"));
    check_export(module, "wrmsr", "(i32, i64, i32, i32) -> ()", wrmsr)?;
    for (name, expected) in [
        ("init", "(i32) -> (i32)"),
        ("reset", "() -> ()"),
        ("save", "() -> (i32)"),
        ("restore", "() -> (i32)"),
        ("timer", "() -> ()"),
        ("report", "() -> ()"),
    ] {
        check_export(module, name, expected, None)?;
    }
    Ok(())
}

/// An export must have the ABI's type; with `why`, it must be there at all.
fn check_export(
    module: &Module,
    name: &'static str,
    expected: &str,
    why: Option<String>,
) -> Result<(), ModuleError> {
    match (module.get_export(name), why) {
        (Some(ty), _) => {
            let found = describe(&ty);
            match found == expected {
                true => Ok(()),
                false => {
                    Err(ModuleError::ExportType { name, expected: expected.to_owned(), found })
                }
            }
        }
        (None, Some(why)) => Err(ModuleError::NoExport { name, why }),
        (None, None) => Ok(()),
    }
}

fn check_imports(module: &Module, manifest: &Manifest) -> Result<(), ModuleError> {
    for import in module.imports() {
        let call = HOST_CALLS
            .iter()
            .find(|call| import.module() == "wasmsr" && call.name == import.name())
            .ok_or_else(|| ModuleError::NoImport {
                module: import.module().to_owned(),
                name: import.name().to_owned(),
            })?;
        let found = describe(&import.ty());
        if found != call.ty {
            let expected = call.ty.to_owned();
            return Err(ModuleError::ImportType { name: call.name, expected, found });
        }
        if let Some(capability) = call.capability
            && !manifest.needs.all().any(|asked| asked.to_string().starts_with(capability))
        {
            return Err(ModuleError::NotAsked { import: call.name, capability });
        }
    }
    Ok(())
}

/// A type as the ABI's table writes it.
pub(super) fn describe(ty: &ExternType) -> String {
    match ty {
        ExternType::Func(func) => {
            let list = |types: &mut dyn Iterator<Item = wasmtime::ValType>| {
                types.map(|ty| ty.to_string()).collect::<Vec<_>>().join(", ")
            };
            format!("({}) -> ({})", list(&mut func.params()), list(&mut func.results()))
        }
        ExternType::Memory(_) => "memory".to_owned(),
        ExternType::Global(_) => "global".to_owned(),
        ExternType::Table(_) => "table".to_owned(),
        _ => "something else".to_owned(),
    }
}
