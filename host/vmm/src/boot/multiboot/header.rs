//! A multiboot 1 image: where its header says that its bytes belong.
//!
//! Multiboot specification 0.6.96, 3.1 "OS image format".

use super::elf32;
use super::image::{Image, ImageSegment, u32_at};
use crate::boot::image_error::{ImageError, SEARCHED};

/// Reads an image's headers; copies nothing.
pub(super) fn parse(file: &[u8]) -> Result<Image<'_>, ImageError> {
    let header = Header::find(file).ok_or(ImageError::NoHeader)?;
    let unknown = header.flags & Header::MANDATORY & !Header::KNOWN;
    if unknown != 0 {
        return Err(ImageError::Features { flags: unknown });
    }
    let image = if header.flags & Header::HAS_ADDRESSES != 0 {
        header.image(file)?
    } else if file.starts_with(elf32::MAGIC) {
        elf32::image(file)?
    } else {
        return Err(ImageError::NoAddresses);
    };
    let entry = u64::from(image.entry);
    if !image.segments.iter().any(|segment| segment.memory.contains(&entry)) {
        return Err(ImageError::Entry { entry: image.entry });
    }
    Ok(image)
}

/// A multiboot header, and where in the file it lies.
struct Header {
    at: usize,
    flags: u32,
}

impl Header {
    const MAGIC: u32 = 0x1bad_b002;
    /// Flags that a loader must know.
    const MANDATORY: u32 = 0xffff;
    /// Page-aligned modules and memory information, which every guest gets.
    const KNOWN: u32 = 0b11;
    const HAS_ADDRESSES: u32 = 1 << 16;

    fn find(file: &[u8]) -> Option<Self> {
        let searched = file.get(..SEARCHED).unwrap_or(file);
        (0..searched.len()).step_by(4).find_map(|at| {
            let magic = u32_at(searched, at)?;
            let flags = u32_at(searched, at + 4)?;
            let checksum = u32_at(searched, at + 8)?;
            (magic == Self::MAGIC && magic.wrapping_add(flags).wrapping_add(checksum) == 0)
                .then_some(Self { at, flags })
        })
    }

    /// The image as the header's own address fields describe it, 3.1.3.
    fn image<'f>(&self, file: &'f [u8]) -> Result<Image<'f>, ImageError> {
        let wrong = |what| ImageError::Addresses { what };
        let field = |index: usize| {
            u32_at(file, self.at + 12 + 4 * index).ok_or(wrong("address fields are cut off"))
        };
        let (header_addr, load_addr) = (field(0)?, field(1)?);
        let (load_end, bss_end, entry) = (field(2)?, field(3)?, field(4)?);

        let before_header = header_addr
            .checked_sub(load_addr)
            .ok_or(wrong("`load_addr` is greater than its `header_addr`"))?;
        let loaded = self
            .at
            .checked_sub(before_header as usize)
            .and_then(|start| file.get(start..))
            .ok_or(wrong("`load_addr` is before the start of the file"))?;
        let loaded = match load_end {
            0 => loaded,
            _ => load_end
                .checked_sub(load_addr)
                .ok_or(wrong("`load_end_addr` is less than its `load_addr`"))
                .map(|bytes| loaded.get(..bytes as usize))?
                .ok_or(wrong("`load_end_addr` is past the end of the file"))?,
        };
        let start = u64::from(load_addr);
        let loaded_end = start + loaded.len() as u64;
        let end = match u64::from(bss_end) {
            0 => loaded_end,
            end if end < loaded_end => {
                return Err(wrong("`bss_end_addr` is before the end of what is loaded"));
            }
            end => end,
        };
        Ok(Image { segments: vec![ImageSegment { file: loaded, memory: start..end }], entry })
    }
}
