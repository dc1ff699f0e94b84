//! The statistics of a running VM: what a VMM offers, and what `wasmsr stats`,
//! `wasmsr top` and Prometheus read.
//!
//! A VMM makes one [`Statistics`] per run. It listens on a socket in a directory
//! of the user's own, where [`find`] and [`Round`] look for it, and also at an
//! [`Address`] for Prometheus if one is given. Each boot hands over its
//! [`Sources`]:
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use wasmsr_engine::{Engine, LoadOptions, Profile};
//! use wasmsr_interface::{Host, MsrAccess, MsrHandler, MsrIndex, MsrOp, NoGuest, Reason};
//! use wasmsr_stats::{Sources, Statistics};
//!
//! # let directory = std::env::temp_dir().join(format!("wasmsr-doc-{}", std::process::id()));
//! # std::fs::create_dir(&directory)?;
//! # let metrics = format!("unix:{}", directory.join("metrics.sock").display()).parse()?;
//! let profile = Profile::parse(Path::new("vm.toml"), "")?;
//! let engine = Engine::load(&profile, &LoadOptions::default())?;
//! let statistics = Statistics::offer(&profile.path, Some(&metrics))?;
//!
//! let host: Arc<dyn Host> = Arc::new(NoGuest::default());
//! let mut started = engine.start(&host, 1)?;
//! let boot = statistics.boot(Sources::of(&engine, &started));
//! // The VMM runs its vCPUs here; this is one access of a guest.
//! for vcpu in &mut started.vcpus {
//!     let (index, op) = (MsrIndex(0x1234), MsrOp::Read);
//!     let _ = vcpu.answer(MsrAccess { index, op, reason: Reason::Filter });
//! }
//! assert_eq!(statistics.snapshot().msrs[0].reads, 1);
//! drop(boot);
//! # drop(statistics);
//! # std::fs::remove_dir(&directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The counts of the boot stay in the metrics for Prometheus after it has ended.
//! Dropping the [`Statistics`] closes its sockets.

mod address;
mod boot;
mod boot_counts;
mod cardinality;
mod changes;
mod client;
pub mod control;
mod directory;
mod exporter;
mod find;
mod merged;
mod name;
pub mod plain;
mod prometheus;
mod request;
mod server;
mod snapshot;
mod sources;
mod statistics;
mod totals;
mod wishes;

pub use address::{Address, AddressError};
pub use client::{AskError, ControlError, Vm};
pub use exporter::{Exporter, metrics_of_all};
pub use find::{FindError, Round, at_process, find, find_within, process_of};
pub use name::{check_name, name_of_profile};
pub use snapshot::{Agreement, OTHERS, POLICY, Row, Shadow, Snapshot};
pub use sources::Sources;
pub use statistics::{OfferError, RunningBoot, Statistics};
pub use wishes::{take_wishes, takes_wishes};
