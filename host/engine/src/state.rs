//! The saved state of a VM's plugins: one file that outlives the process.
//!
//! ```text
//! magic     8 bytes   "WASMSRST"
//! version   4 bytes   little-endian, 2
//! length    4 bytes   of the payload, little-endian, at most 16 MiB
//! checksum  32 bytes  SHA-256 of the payload
//! payload             postcard: instance states, intercepts, timers; version 1 has no timers
//! ```

use serde::{Deserialize, Serialize};
use sha2::Digest;
use wasmsr_interface::counted;

const MAGIC: &[u8; 8] = b"WASMSRST";
const VERSION: u32 = 2;
const HEADER: usize = 8 + 4 + 4 + 32;

/// Most bytes of all states together.
const MAX_PAYLOAD: usize = 16 << 20;

/// What the plugins of a VM saved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SavedState {
    pub(crate) instances: Vec<InstanceState>,
    pub(crate) intercepts: Vec<SavedIntercepts>,
    pub(crate) timers: Vec<SavedTimer>,
}

/// What was written before timers were saved.
#[derive(Deserialize)]
struct WithoutTimers {
    instances: Vec<InstanceState>,
    intercepts: Vec<SavedIntercepts>,
}

/// A timer that one instance waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedTimer {
    pub(crate) plugin: String,
    /// The vCPU whose instance it is; `None` for the VM's.
    pub(crate) vcpu: Option<u32>,
    /// The vCPU on whose thread it is due.
    pub(crate) thread: u32,
    /// Nanoseconds from the time at which it was saved: clocks differ between hosts.
    pub(crate) in_ns: u64,
}

/// What one plugin had turned on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedIntercepts {
    pub(crate) plugin: String,
    /// First and last MSR of each range whose reads exit.
    pub(crate) reads: Vec<(u32, u32)>,
    pub(crate) writes: Vec<(u32, u32)>,
}

/// What one instance saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceState {
    pub(crate) plugin: String,
    /// Of the plugin that saved, or an older one for which it wrote.
    pub(crate) version: String,
    /// `None` for the VM's own instance.
    pub(crate) vcpu: Option<u32>,
    pub(crate) bytes: Vec<u8>,
}

/// Why bytes are not a saved state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Not such a file.
    #[error("this is not saved plugin state: it does not begin with `WASMSRST`")]
    Magic,
    /// Written by another version of wasmsr.
    #[error(
        "the saved state has format version {0}, this wasmsr reads versions 1 and {VERSION}; save it anew"
    )]
    Version(u32),
    /// More or less than the header says.
    #[error(
        "the saved state has {} of payload where its header says {expected}; it is cut or was added to, restore it from a copy",
        counted(*found, "byte", "bytes")
    )]
    Length {
        /// By the header.
        expected: usize,
        /// In the file.
        found: usize,
    },
    /// Larger than any state can be.
    #[error(
        "the saved state has {0} bytes, more than the {MAX_PAYLOAD} that plugins may save together"
    )]
    TooLarge(usize),
    /// Changed since it was written.
    #[error("the checksum of the saved state is wrong; it is damaged, restore it from a copy")]
    Checksum,
    /// The checksum is right and the content is not.
    #[error("the saved state cannot be read: {0}")]
    Content(String),
}

impl SavedState {
    /// The file's bytes.
    ///
    /// # Errors
    /// [`StateError::TooLarge`] if the plugins saved more than fits.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StateError> {
        let payload =
            postcard::to_stdvec(self).map_err(|error| StateError::Content(error.to_string()))?;
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD);
        let length = length.ok_or(StateError::TooLarge(payload.len()))?;
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(sha2::Sha256::digest(&payload));
        bytes.extend(payload);
        Ok(bytes)
    }

    /// Reads the file's bytes, which may be anything.
    ///
    /// # Errors
    /// [`StateError`] says what is wrong with them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(StateError::Magic)?;
        let cut = StateError::Length { expected: HEADER, found: bytes.len() };
        let (version, rest) = rest.split_first_chunk().ok_or_else(|| cut.clone())?;
        let version = u32::from_le_bytes(*version);
        if !(1..=VERSION).contains(&version) {
            return Err(StateError::Version(version));
        }
        let (length, rest) = rest.split_first_chunk().ok_or_else(|| cut.clone())?;
        let expected = u32::from_le_bytes(*length) as usize;
        if expected > MAX_PAYLOAD {
            return Err(StateError::TooLarge(expected));
        }
        let (checksum, payload) = rest.split_first_chunk::<32>().ok_or(cut)?;
        if payload.len() != expected {
            return Err(StateError::Length { expected, found: payload.len() });
        }
        if sha2::Sha256::digest(payload).as_slice() != checksum {
            return Err(StateError::Checksum);
        }
        let read = match version {
            1 => postcard::from_bytes(payload).map(|WithoutTimers { instances, intercepts }| {
                SavedState { instances, intercepts, timers: Vec::new() }
            }),
            _ => postcard::from_bytes(payload),
        };
        read.map_err(|error| StateError::Content(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> SavedState {
        let state = |vcpu| InstanceState {
            plugin: "p".into(),
            version: "1.0.0".into(),
            vcpu,
            bytes: vec![1, 2, 3],
        };
        let intercepts =
            SavedIntercepts { plugin: "p".into(), reads: vec![(1, 2)], writes: vec![] };
        let timer = SavedTimer { plugin: "p".into(), vcpu: Some(1), thread: 1, in_ns: 5_000 };
        SavedState {
            instances: vec![state(None), state(Some(1))],
            intercepts: vec![intercepts],
            timers: vec![timer],
        }
    }

    #[test]
    fn a_file_from_before_timers_were_saved_is_read() {
        let SavedState { instances, intercepts, .. } = saved();
        let payload = postcard::to_stdvec(&(&instances, &intercepts)).unwrap();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
        bytes.extend(sha2::Sha256::digest(&payload));
        bytes.extend(payload);
        let expected = SavedState { instances, intercepts, timers: Vec::new() };
        assert_eq!(SavedState::from_bytes(&bytes).unwrap(), expected);
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(SavedState::from_bytes(&saved().to_bytes().unwrap()).unwrap(), saved());
    }

    #[test]
    fn every_damage_is_refused() {
        let bytes = saved().to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(SavedState::from_bytes(&bytes[..length]).is_err(), "cut at {length}");
        }
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x10;
            assert!(SavedState::from_bytes(&damaged).is_err(), "flip at {position}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(matches!(SavedState::from_bytes(&longer), Err(StateError::Length { .. })));
    }
}
