//! Holds a module against the ABI and its own manifest.

use wasmsr_interface::Direction;
use wasmtime::{ExternType, Module};

use super::abi::{EXPORTS, Export, IMPORTS, Needed};
use super::error::ModuleError;
use crate::manifest::{ABI_VERSION, Manifest, Spot};

/// Holds a module against the ABI and its own manifest, whose text is `text`.
pub(super) fn check(module: &Module, manifest: &Manifest, text: &[u8]) -> Result<(), ModuleError> {
    check_abi(module, manifest).map_err(|mistake| {
        let spot = match &mistake {
            ModuleError::NotAsked { .. } => Some(Spot::Needs),
            ModuleError::NoExport { name: "rdmsr", .. } => Some(Spot::Answers(Direction::Read)),
            ModuleError::NoExport { name: "wrmsr", .. } => Some(Spot::Answers(Direction::Write)),
            _ => None,
        };
        let text = str::from_utf8(text).unwrap_or_default();
        match spot.and_then(|spot| Manifest::place_of(text, spot)) {
            Some(place) => ModuleError::Unlike { place, mistake: Box::new(mistake) },
            None => mistake,
        }
    })
}

/// Holds imports and exports against the ABI.
fn check_abi(module: &Module, manifest: &Manifest) -> Result<(), ModuleError> {
    check_imports(module, manifest)?;
    for export in EXPORTS {
        let why = match export.needed {
            Needed::Always => Some(format!("ABI {ABI_VERSION} asks for")),
            Needed::For(direction) => manifest.answers(direction).then(|| {
                let access = match direction {
                    Direction::Read => "r",
                    Direction::Write => "w",
                };
                format!("the manifest's `{access}` access calls for")
            }),
            Needed::No => None,
        };
        check_export(module, export, why)?;
    }
    Ok(())
}

/// An export must have the ABI's type; with `why`, it must be there at all.
fn check_export(module: &Module, export: &Export, why: Option<String>) -> Result<(), ModuleError> {
    let (name, expected) = (export.name, export.ty());
    match (module.get_export(name), why) {
        (Some(ty), _) => {
            let found = describe(&ty);
            match found == expected {
                true => Ok(()),
                false => Err(ModuleError::ExportType { name, expected, found }),
            }
        }
        (None, Some(why)) => Err(ModuleError::NoExport { name, why }),
        (None, None) => Ok(()),
    }
}

fn check_imports(module: &Module, manifest: &Manifest) -> Result<(), ModuleError> {
    for import in module.imports() {
        let known = IMPORTS
            .iter()
            .find(|known| import.module() == "wasmsr" && known.name == import.name())
            .ok_or_else(|| ModuleError::NoImport {
                module: import.module().to_owned(),
                name: import.name().to_owned(),
            })?;
        let found = describe(&import.ty());
        let expected = known.ty();
        if found != expected {
            return Err(ModuleError::ImportType { name: known.name, expected, found });
        }
        if let Some(capability) = known.capability
            && !manifest.needs.all().any(|asked| asked.to_string().starts_with(capability))
        {
            return Err(ModuleError::NotAsked { import: known.name, capability });
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
