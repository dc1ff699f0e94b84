//! The VMM of wasmsr: builds a virtual machine on KVM, lets the MSRs that plugins name
//! leave the kernel, and runs the vCPUs. It knows no plugin: one
//! [`MsrHandler`](wasmsr_interface::MsrHandler) per vCPU answers its MSR accesses.
//!
//! The path of an exit: `exits` makes it an owned value, `vcpu` hands it to the handler or
//! to the devices, and the answer goes back into the exit through wasmsr-kvm, which has
//! all that is the same in every VMM on KVM.
//!
//! ```no_run
//! # use wasmsr_kvm::filter::KvmFilter;
//! # use wasmsr_vmm::{Boot, Vm, VmConfig, VmSpec, control};
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

mod backend;
mod boot;
mod config;
mod control;
mod cpuid;
mod deadline;
mod devices;
mod end;
mod exits;
mod gate;
mod halt;
mod input;
mod known_msrs;
mod kvm;
mod lifecycle;
mod memory;
mod probe;
mod progress;
mod run;
mod survey;
mod thread;
mod vcpu;
mod vm;

pub use boot::{BootError, ImageError, KernelError, Taken, WrongWords, check as check_boot};
pub use config::{Boot, BootModule, VmConfig};
pub use control::{Control, Events, control};
pub use deadline::{DeadlineWrites, TSC_DEADLINE, deadline_writes, hides_deadline_mode};
pub use end::{At, InternalErrorReport, ResetBy, RunEnd};
pub use known_msrs::known_msrs;
pub use kvm::{KvmCap, KvmError, open as open_kvm};
pub use memory::MemoryError;
pub use probe::Probe;
pub use survey::{Finding, Fitness, survey};
pub use vm::{BuildError, Vm, VmSpec};
