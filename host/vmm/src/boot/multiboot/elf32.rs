//! The segments of a 32-bit x86 ELF executable.
//!
//! System V ABI, chapters 4 "Object files" and 5 "Program loading".

use super::image::{Image, ImageSegment, u32_at};
use crate::boot::image_error::ImageError;

pub(super) const MAGIC: &[u8] = b"\x7fELF";

/// The loadable segments, at their physical addresses.
pub(super) fn image(file: &[u8]) -> Result<Image<'_>, ImageError> {
    let cut_short = |what| ImageError::CutShort { what, bytes: file.len() };
    check_machine(file)?;
    let header = |at| u32_at(file, at).ok_or_else(|| cut_short("the ELF header".to_owned()));
    let (entry, table) = (header(24)?, header(28)? as usize);
    let (size, count) = halves(header(42)?);
    if usize::from(size) < ProgramHeader::BYTES {
        return Err(ImageError::WrongElf { what: "an ELF file with undersized program headers" });
    }

    let mut image = Image { segments: Vec::new(), entry };
    for index in 0..usize::from(count) {
        let header = table
            .checked_add(usize::from(size) * index)
            .and_then(|at| ProgramHeader::read(file, at))
            .ok_or_else(|| cut_short(format!("ELF program header {index}")))?;
        if header.kind != ProgramHeader::LOAD || header.memory_bytes == 0 {
            continue;
        }
        if header.file_bytes > header.memory_bytes {
            return Err(ImageError::Segment { index });
        }
        let content = header.content(file);
        let content = content.ok_or_else(|| cut_short(format!("ELF segment {index}")))?;
        if let Some(inside) = header.offset_of(entry) {
            image.entry = header.physical.wrapping_add(inside);
        }
        let start = u64::from(header.physical);
        let memory = start..start + u64::from(header.memory_bytes);
        image.segments.push(ImageSegment { file: content, memory });
    }
    Ok(image)
}

struct ProgramHeader {
    kind: u32,
    offset: u32,
    /// The segment's virtual address, which matters to the entry address alone:
    /// paging is off.
    virtual_: u32,
    physical: u32,
    file_bytes: u32,
    memory_bytes: u32,
}

impl ProgramHeader {
    const BYTES: usize = 32;
    const LOAD: u32 = 1;

    fn read(file: &[u8], at: usize) -> Option<Self> {
        let fields = file.get(at..)?.get(..Self::BYTES)?;
        Some(Self {
            kind: u32_at(fields, 0)?,
            offset: u32_at(fields, 4)?,
            virtual_: u32_at(fields, 8)?,
            physical: u32_at(fields, 12)?,
            file_bytes: u32_at(fields, 16)?,
            memory_bytes: u32_at(fields, 20)?,
        })
    }

    fn content<'f>(&self, file: &'f [u8]) -> Option<&'f [u8]> {
        match self.file_bytes {
            0 => Some(&[]),
            bytes => file.get(self.offset as usize..)?.get(..bytes as usize),
        }
    }

    /// How far a virtual address is into this segment.
    fn offset_of(&self, address: u32) -> Option<u32> {
        address.checked_sub(self.virtual_).filter(|&offset| offset < self.memory_bytes)
    }
}

fn check_machine(file: &[u8]) -> Result<(), ImageError> {
    const EXECUTABLE: u16 = 2;
    const I386: u16 = 3;
    let wrong = |what| Err(ImageError::WrongElf { what });
    match file.get(4..6) {
        Some([1, 1]) => {}
        Some([2, _]) => return wrong("a 64-bit ELF file"),
        _ => return wrong("not a little-endian 32-bit ELF file"),
    }
    match u32_at(file, 16).map(halves) {
        Some((EXECUTABLE, I386)) => Ok(()),
        Some((_, I386)) => wrong("an ELF file that is not an executable"),
        _ => wrong("an ELF file for another machine"),
    }
}

/// Two 16-bit fields that lie side by side, the first one first.
fn halves(pair: u32) -> (u16, u16) {
    let [a, b, c, d] = pair.to_le_bytes();
    (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
}
