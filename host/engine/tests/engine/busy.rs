//! A plugin that asks its host for everything it can, so that what it answers
//! depends on all of it.

use crate::fixture::plugin;

/// What its table in the profile has to grant.
pub(crate) const GRANT: &str = "grant = [\"guest-memory\", \"kvm-msr\", \"timer\"]";

/// Reads of `0x10` mix the clock, a word of guest memory and KVM's MSR 0x99 with
/// a count. Writes to it put the sum into guest memory and KVM, and ask for a
/// timer, which counts too; the value 0xdead traps, 0xf0e1 burns fuel. Reads of
/// `0x11` are left to KVM, reads of `0x12` are passed on. `more` is added to
/// each sum.
pub(crate) fn busy(name: &str, scope: &str, more: u64) -> Vec<u8> {
    let manifest = format!(
        "[[msr]]\nrange = \"0x10-0x12\"\naccess = \"rw\"\nscope = \"{scope}\"\n\
         [needs]\ncapabilities = [\"guest-memory\", \"kvm-msr\", \"timer\"]"
    );
    let body = format!(
        "(import \"wasmsr\" \"outcome\" (func $outcome (param i32)))
         (import \"wasmsr\" \"monotonic_ns\" (func $ns (result i64)))
         (import \"wasmsr\" \"tsc\" (func $tsc (result i64)))
         (import \"wasmsr\" \"guest_read\" (func $read (param i64 i32 i32) (result i32)))
         (import \"wasmsr\" \"guest_write\" (func $write (param i64 i32 i32) (result i32)))
         (import \"wasmsr\" \"kvm_rdmsr\" (func $kvm_read (param i32 i32) (result i32)))
         (import \"wasmsr\" \"kvm_wrmsr\" (func $kvm_write (param i32 i64) (result i32)))
         (import \"wasmsr\" \"timer\" (func $timer (param i64) (result i32)))
         (global $count (mut i64) (i64.const 0))
         (func $sum (result i64)
            (global.set $count (i64.add (global.get $count) (i64.const 1)))
            (drop (call $read (i64.const 0x1000) (i32.const 0) (i32.const 8)))
            (drop (call $kvm_read (i32.const 0x99) (i32.const 8)))
            (i64.add (i64.const {more}) (i64.add (global.get $count)
               (i64.add (call $ns) (i64.add (call $tsc)
                  (i64.add (i64.load (i32.const 0)) (i64.load (i32.const 8))))))))
         (func (export \"init\") (param i32) (result i32)
            (global.set $count (call $ns)) (i32.const 0))
         (func (export \"timer\") (drop (call $sum)))
         (func (export \"rdmsr\") (param $index i32) (param i32 i32) (result i64)
            (if (i32.eq (local.get $index) (i32.const 0x11)) (then (call $outcome (i32.const 3))))
            (if (i32.eq (local.get $index) (i32.const 0x12)) (then (call $outcome (i32.const 2))))
            (call $sum))
         (func (export \"wrmsr\") (param $index i32) (param $value i64) (param i32 i32)
            (if (i64.eq (local.get $value) (i64.const 0xdead)) (then unreachable))
            (if (i64.eq (local.get $value) (i64.const 0xf0e1)) (then (loop (br 0))))
            (i64.store (i32.const 16) (i64.add (call $sum) (local.get $value)))
            (drop (call $write (i64.const 0x1000) (i32.const 16) (i32.const 8)))
            (drop (call $kvm_write (i32.const 0x99) (i64.load (i32.const 16))))
            (drop (call $timer (i64.add (call $ns) (i64.const 2000000)))))"
    );
    plugin(name, &manifest, &body)
}
