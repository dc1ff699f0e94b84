//! Refuses functions so long that a plugin could run far past its fuel in them.

use wasmparser::{BinaryReaderError, KnownCustom, Name, Parser, Payload, TypeRef};

use super::error::ModuleError;
use super::file::malformed;
use crate::limits;

/// Most characters of a function's name in an error.
const NAME: usize = 80;

/// Refuses a module with a function of more than [`limits::FUNCTION`] bytes; the longest
/// is named.
pub(super) fn refuse_long_functions(module: &[u8]) -> Result<(), ModuleError> {
    let Some((number, size)) = longest(module).map_err(|error| malformed(&error))? else {
        return Ok(());
    };
    if size <= limits::FUNCTION {
        return Ok(());
    }
    let name = name_of(module, number).ok().flatten().map(|name| format!(" ({name})"));
    let function = format!("{number}{}", name.unwrap_or_default());
    Err(ModuleError::LongFunction { function, size })
}

/// The number and the size of the longest function; `None` without functions.
fn longest(module: &[u8]) -> Result<Option<(u32, usize)>, BinaryReaderError> {
    let mut number = 0;
    let mut longest = None;
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            // Imported functions have the first numbers.
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    number += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::CodeSectionEntry(body) => {
                let size = body.range().len();
                if longest.is_none_or(|(_, longest)| size > longest) {
                    longest = Some((number, size));
                }
                number += 1;
            }
            _ => {}
        }
    }
    Ok(longest)
}

/// A function's name: that of the name section, which strippers take, or of an export.
fn name_of(module: &[u8], number: u32) -> Result<Option<String>, BinaryReaderError> {
    let mut found = None;
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    let is_it = export.kind == wasmparser::ExternalKind::Func;
                    if is_it && export.index == number {
                        found = Some(shown(export.name));
                    }
                }
            }
            Payload::CustomSection(section) => {
                let KnownCustom::Name(names) = section.as_known() else { continue };
                for names in names {
                    let Name::Function(names) = names? else { continue };
                    for naming in names {
                        let naming = naming?;
                        if naming.index == number {
                            return Ok(Some(shown(naming.name)));
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// A name from the file, fit for a line.
fn shown(name: &str) -> String {
    let shown = name.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    shown.take(NAME).collect()
}
