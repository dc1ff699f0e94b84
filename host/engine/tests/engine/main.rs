//! The engine as another VMM would use it: real Wasm, no hypervisor.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails"
)]

mod busy;
mod cache;
mod containment;
mod contract;
mod costs;
mod dispatch;
mod fixture;
mod hostcalls;
mod intercepts;
mod kernel_shadows;
mod live;
mod live_recorded;
mod loading;
mod logged;
mod recorded;
mod recording;
mod recording_file;
mod reports;
mod served;
mod shadows;
mod state;
mod swapped;
mod timers;
mod traces;
