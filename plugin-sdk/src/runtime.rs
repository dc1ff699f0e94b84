//! What a Wasm module without std must bring along: memory and an end for
//! panics.

use core::panic::PanicInfo;

use dlmalloc::GlobalDlmalloc;

use crate::log;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

/// Says why, then traps: what follows is the profile's `on-failure`.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    log::error!("{info}");
    core::arch::wasm32::unreachable()
}
