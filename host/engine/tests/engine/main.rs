//! The engine as another VMM would use it: real Wasm, no hypervisor.

mod cache;
mod containment;
mod dispatch;
mod fixture;
mod hostcalls;
mod intercepts;
mod loading;
mod state;
mod timers;
