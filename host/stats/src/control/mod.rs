//! Control of a running VM over its socket: what can be asked, and who carries it out.
//! docs/control.md describes it for other programs.

mod controls;
mod messages;
mod operations;
mod routes;

pub use controls::{Action, Controls, Job, Progress, Refusal};
pub use messages::{
    Answer, Disable, Enable, Last, Log, LogLevel, Operation, OperationState, PluginState,
    Probation, ProbationTerms, Record, Started, Swap, SwapPlugin, Swapped, SwappedPlugin, VmInfo,
};
pub(crate) use operations::Operations;
pub(crate) use routes::{Asked, Routed, body, error, route};
