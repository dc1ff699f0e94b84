//! How a run is recorded: to a file, or in memory until a file is needed.

use std::path::Path;

use bytesize::ByteSize;
use wasmsr_engine::record::Recorder;
use wasmsr_vmm::RunEnd;

use super::record_file::RecordFile;
use super::record_ring::{RecordRing, RingRequests};
use super::summary::RecordingSummary;
use crate::args;
use crate::exit::Failure;

/// A run's recording.
pub(crate) enum Recorded {
    File(RecordFile),
    Ring(RecordRing),
}

impl Recorded {
    /// Begins what the arguments ask for.
    pub(crate) fn begin(args: &args::Run) -> Result<Option<Self>, Failure> {
        let Some(path) = &args.record else { return Ok(None) };
        Ok(Some(match args.record_ring {
            Some(size) => Recorded::Ring(RecordRing::begin(path, size)?),
            None => Recorded::File(RecordFile::begin(path, args.record_limit)?),
        }))
    }

    /// The recorder for accesses.
    pub(crate) fn recorder(&self) -> &Recorder {
        match self {
            Recorded::File(file) => file.recorder(),
            Recorded::Ring(ring) => ring.recorder(),
        }
    }

    /// Begins to record to a file, in a run that lasts.
    pub(crate) fn to_file(path: &Path, limit: ByteSize) -> Result<Self, Failure> {
        Ok(Recorded::File(RecordFile::begin(path, limit)?))
    }

    /// Where the file of a ring can be asked for; `None` for a recording that is one.
    pub(crate) fn requests(&self) -> Option<RingRequests> {
        match self {
            Recorded::File(_) => None,
            Recorded::Ring(ring) => Some(ring.requests()),
        }
    }

    /// Ends it, and says on standard error what was recorded. The run has ended with
    /// `end`, or with an error.
    pub(crate) fn finish(self, end: Option<&RunEnd>) -> RecordingSummary {
        match self {
            Recorded::File(file) => file.finish(),
            Recorded::Ring(ring) => ring.finish(end),
        }
    }
}
