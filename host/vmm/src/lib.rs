//! The KVM side of wasmsr: builds a virtual machine, lets the MSRs that
//! plugins name leave the kernel, and turns the vCPUs. It knows no plugin: who
//! answers an MSR is a [`MsrHandler`](wasmsr_interface::MsrHandler) a vCPU.
//!
//! The path of an exit: `exits` makes it an owned value, `vcpu` hands it to
//! the handler or to the devices, `apply` writes the answer back.
//!
//! ```no_run
//! # use wasmsr_vmm::{Boot, Vm, VmConfig, VmSpec, control, filter::KvmFilter};
//! # fn handlers() -> Vec<Box<dyn wasmsr_interface::MsrHandler>> { Vec::new() }
//! # fn main() -> Result<(), wasmsr_vmm::BuildError> {
//! let (control, events) = control();
//! let vm = Vm::build(VmSpec {
//!     vm: &VmConfig { memory: 128 << 20, vcpus: 1 },
//!     boot: &Boot::Guest { name: "hello".to_owned(), cmdline: String::new() },
//!     filter: &KvmFilter::default(),
//!     cpuid: &[],
//!     output: Box::new(std::io::stdout()),
//! })?;
//! let end = vm.run(handlers(), &events);
//! println!("{end}");
//! # Ok(())
//! # }
//! ```

mod alarms;
mod apply;
mod boot;
mod config;
mod control;
mod cpuid;
mod cpuid_promises;
mod devices;
mod end;
mod exits;
pub mod filter;
mod halt;
mod host;
mod host_msrs;
mod input;
mod kvm;
mod kvm_msrs;
mod lifecycle;
mod memory;
mod run;
mod scheduler;
mod survey;
mod thread;
mod vcpu;
mod vm;

pub use boot::{BootError, ImageError, KernelError, Taken, check as check_boot};
pub use config::{Boot, BootModule, VmConfig};
pub use control::{Control, Events, control};
pub use end::{At, InternalErrorReport, RunEnd};
pub use kvm::{Capability, KvmError, open as open_kvm};
pub use memory::MemoryError;
pub use survey::{Finding, Fitness, survey};
pub use vm::{BuildError, Vm, VmSpec};
