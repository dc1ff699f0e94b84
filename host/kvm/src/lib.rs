//! MSR exits on KVM, for any VMM: what lies between a VMM's own code and the
//! [`MsrHandler`] that answers its guests' MSR accesses.
//!
//! A VMM calls, in this order:
//!
//! 1. [`enable_msr_exits`], and [`KvmFilter::pack`](filter::KvmFilter::pack) with
//!    [`install`](filter::KvmFilter::install), before it has devices or vCPUs;
//! 2. [`change_cpuid`] for each vCPU, over the CPUID that it has made itself;
//! 3. [`KvmMsrs::of`] for each vCPU, and [`KvmHost::new`], which is the [`Host`] of its
//!    plugins;
//! 4. at each exit, [`KvmRun::answer`];
//! 5. when `KVM_RUN` was interrupted, [`MsrHandler::wake`] if [`Alarms::take`] says so;
//! 6. before it saves a vCPU or leaves it for good, [`drain`].
//!
//! Descriptors are raw ([`AsRawFd`]), and the kernel's structures are taken by their
//! layout. So this crate works with every version of kvm-ioctls and kvm-bindings, and with
//! VMMs that use neither. A descriptor must be what the function asks for: KVM's device, a
//! VM or a vCPU. The kernel refuses others.
//!
//! [`Host`]: wasmsr_interface::Host
//! [`MsrHandler`]: wasmsr_interface::MsrHandler
//! [`MsrHandler::wake`]: wasmsr_interface::MsrHandler::wake
//! [`AsRawFd`]: std::os::fd::AsRawFd

mod alarms;
mod cpuid;
mod cpuid_promises;
pub mod filter;
mod host;
mod host_cpus;
mod host_file;
mod host_msrs;
mod ioctl;
mod kvm_msrs;
mod msr_exits;
mod refused;
mod registers;
mod run;
mod tsc;
mod uapi;
mod vcpu_threads;

pub use alarms::Alarms;
pub use cpuid::{CpuidError, MAX_CPUID_ENTRIES, change_cpuid, set_cpuid, supported_cpuid};
pub use cpuid_promises::{EmptyPromise, empty_promises};
pub use host::{GuestRam, KvmHost};
pub use kvm_msrs::{KernelMsrs, KvmMsrs};
pub use msr_exits::{enable_msr_exits, ignores_unknown_msrs};
pub use refused::Refused;
pub use run::{Drained, Served, drain};
pub use uapi::{CpuidEntry, KvmRun};
