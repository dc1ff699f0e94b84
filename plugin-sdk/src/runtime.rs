//! What a Wasm module without std must provide: an allocator and a panic
//! handler.

use core::panic::PanicInfo;

use dlmalloc::GlobalDlmalloc;

use crate::log;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

/// Logs the reason, then traps; the profile's `on-failure` decides what follows.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    log::error!("{info}");
    core::arch::wasm32::unreachable()
}
