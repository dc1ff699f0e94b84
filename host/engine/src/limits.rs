//! What bounds a plugin, beside the fuel and the memory that its profile gives.

/// How much more fuel than an access a lifecycle call gets: it runs once, and
/// parses configuration or state.
pub const LIFECYCLE_FUEL: u64 = 100;

/// Most bytes of a `.wasm` file.
pub const FILE: u64 = 8 << 20;

/// Most bytes of a function's code. Fuel is looked at where a function or a loop begins
/// and before long bulk instructions, so this bounds what runs between two looks.
/// Compilers keep far below it: the longest function of the shipped plugins has
/// 13 KiB; 17 KiB with `opt-level = 3`, and 6 KiB without optimisation.
pub const FUNCTION: usize = 64 << 10;

/// Stack of one call, in bytes, outside the plugin's memory.
pub const STACK: usize = 128 << 10;

/// Memories and tables that a plugin may have.
pub const MEMORIES: usize = 1;
/// See [`MEMORIES`].
pub const TABLES: usize = 4;

/// Most elements of a table: each is 8 bytes on the host, outside the memory
/// ceiling. Compiled programs need one a function.
pub const TABLE_ELEMENTS: usize = 16 << 10;

/// Most bytes that one instance may save.
pub const SAVED_STATE: usize = 64 << 10;

/// Pieces into which a plugin may cut its ranges: each change packs the filter
/// anew, and a guest waits for it.
pub const PIECES: usize = 1024;

/// Most bytes of a log line.
pub const LOG_LINE: u32 = 1024;

/// Log lines that an instance may write at once.
pub const LOG_BURST: u32 = 20;

/// Log lines that an instance may write in a second after that.
pub const LOG_PER_SECOND: u32 = 5;

/// Most bytes that a plugin reads of a host's file.
pub const HOST_FILE: u32 = 4096;

/// The soonest that a timer comes, in nanoseconds: each takes the vCPU out of
/// the guest.
pub const SHORTEST_TIMER: u64 = 1_000_000;

/// Most bytes of a report.
pub const REPORT: usize = 64 << 10;

/// What a host call's limit reads like, in every text about the call.
pub fn of_calls() -> [(&'static str, String); 5] {
    [
        ("log", format!("{LOG_LINE} bytes")),
        ("host_file", format!("{HOST_FILE} bytes")),
        ("timer", format!("{} ms", SHORTEST_TIMER / 1_000_000)),
        ("save_state", format!("{} KiB", SAVED_STATE >> 10)),
        ("report_text", format!("{} KiB", REPORT >> 10)),
    ]
}
