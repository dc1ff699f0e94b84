//! Puts a manifest into a module's file, for compilers and tools that cannot.

use std::ops::Range;

use wasmparser::{BinaryReader, BinaryReaderError};

use super::error::ModuleError;
use super::file::{malformed, manifest_sections};
use super::inspect::{Inspection, inspect_bytes};
use crate::limits;
use crate::manifest::{MANIFEST_SECTION, Manifest};

/// A module with its manifest.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// What it says about itself.
    pub inspection: Inspection,
    /// How many manifests it had before.
    pub replaced: usize,
}

/// Gives a module this manifest, in place of any that it has. Everything else of the file
/// stays as it is.
///
/// # Errors
/// [`ModuleError`] if the manifest is wrong, the module is not one, or the two do not
/// belong together.
pub fn pack(module: &[u8], manifest: &[u8]) -> Result<Packed, ModuleError> {
    Manifest::parse(manifest)?;
    let replaced = manifest_sections(module)?.len();
    let mut bytes = Vec::with_capacity(module.len() + manifest.len() + 32);
    let mut kept = 0;
    for section in manifest_places(module)? {
        bytes.extend_from_slice(module.get(kept..section.start).unwrap_or_default());
        kept = section.end;
    }
    bytes.extend_from_slice(module.get(kept..).unwrap_or_default());
    let content = section_content(manifest);
    bytes.push(CUSTOM);
    put_length(&mut bytes, content.len());
    bytes.extend(content);
    if bytes.len() as u64 > limits::FILE {
        return Err(ModuleError::Oversized);
    }
    let inspection = inspect_bytes(&bytes)?;
    Ok(Packed { bytes, inspection, replaced })
}

/// The id of a custom section (WebAssembly specification, 5.5.3).
const CUSTOM: u8 = 0;

/// Bytes before the first section: magic and version.
const HEAD: usize = 8;

/// Where the manifests are in a module, from the id to the end of each section.
fn manifest_places(module: &[u8]) -> Result<Vec<Range<usize>>, ModuleError> {
    let mut places = Vec::new();
    let rest = module.get(HEAD..).unwrap_or_default();
    let mut reader = BinaryReader::new(rest, HEAD);
    while !reader.eof() {
        let start = reader.original_position();
        let (id, content) = next_section(&mut reader).map_err(|error| malformed(&error))?;
        let is_manifest = id == CUSTOM
            && BinaryReader::new(content, 0).read_string().is_ok_and(|n| n == MANIFEST_SECTION);
        if is_manifest {
            places.push(start..reader.original_position());
        }
    }
    Ok(places)
}

/// The id and the content of a section.
fn next_section<'a>(reader: &mut BinaryReader<'a>) -> Result<(u8, &'a [u8]), BinaryReaderError> {
    let id = reader.read_u8()?;
    let length = reader.read_var_u32()?;
    Ok((id, reader.read_bytes(length as usize)?))
}

fn section_content(manifest: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    put_length(&mut content, MANIFEST_SECTION.len());
    content.extend(MANIFEST_SECTION.as_bytes());
    content.extend(manifest);
    content
}

/// A length as the binary format writes it: LEB128.
fn put_length(bytes: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or(0);
        length >>= 7;
        if length == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[plugin]\nname = \"p\"\nversion = \"1.0.0\"\nabi = 1\n\
                            [[msr]]\nrange = 1\naccess = \"r\"\n";

    fn module(custom: &str) -> Vec<u8> {
        wat::parse_str(format!(
            "(module {custom} (memory (export \"memory\") 1) (func (export \"wasmsr_abi_v1\"))
               (@custom \"other\" \"stays\")
               (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 0)))"
        ))
        .unwrap()
    }

    #[test]
    fn any_number_of_manifests_becomes_one() {
        let old = "(@custom \"wasmsr.manifest\" \"old\")";
        let bare = pack(&module(""), MANIFEST.as_bytes()).unwrap();
        for (custom, count) in [("", 0), (old, 1), (&old.repeat(3), 3)] {
            let packed = pack(&module(custom), MANIFEST.as_bytes()).unwrap();
            assert_eq!(packed.replaced, count);
            assert_eq!(packed.bytes, bare.bytes);
            assert_eq!(packed.inspection.manifest_text, MANIFEST);
        }
        let again = pack(&bare.bytes, MANIFEST.as_bytes()).unwrap();
        assert_eq!((again.bytes, again.replaced), (bare.bytes.clone(), 1));
        let text = String::from_utf8_lossy(&bare.bytes).into_owned();
        assert!(text.contains("stays"));
    }

    #[test]
    fn what_cannot_be_a_plugin_is_refused() {
        let refused = |module: &[u8], manifest: &str, part: &str| {
            let error = pack(module, manifest.as_bytes()).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let text = format!("{error}: {}", source.unwrap_or_default());
            assert!(text.contains(part), "{text}");
        };
        refused(&module(""), "[plugin]\nname = \"p\"\n", "line 1");
        refused(&module(""), &MANIFEST.replace("\"r\"", "\"w\""), "no export `wrmsr`");
        refused(b"\0asm\x0d\0\x01\0", MANIFEST, "component");
        refused(b"text", MANIFEST, "not a WebAssembly module");
        let whole = module("");
        for length in 0..whole.len() {
            // The sections behind its functions are not needed.
            if let Ok(packed) = pack(&whole[..length], MANIFEST.as_bytes()) {
                assert!(packed.bytes.starts_with(&whole[..length]), "cut at {length}");
            }
        }
        let long = format!("{MANIFEST}# {}\n", "x".repeat(300));
        assert_eq!(pack(&whole, long.as_bytes()).unwrap().inspection.manifest_text, long);
    }
}
