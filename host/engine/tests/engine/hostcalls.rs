//! Host calls, and what becomes of a plugin that abuses them.

use wasmsr_interface::{MsrIndex, Outcome, VcpuId};

use crate::fixture::{Setup, plugin, read};

/// A plugin whose reads of 0x10 run `body`, with these imports.
fn calls(imports: &str, needs: &str, body: &str) -> Vec<u8> {
    plugin(
        "calls",
        &format!("[[msr]]\nrange = \"0x10\"\naccess = \"r\"\n[needs]\ncapabilities = [{needs}]"),
        &format!(
            "{imports} (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (local i64) {body})"
        ),
    )
}

const GUEST: &str = "
    (import \"wasmsr\" \"guest_read\" (func $read (param i64 i32 i32) (result i32)))
    (import \"wasmsr\" \"guest_write\" (func $write (param i64 i32 i32) (result i32)))";

const KVM: &str = "
    (import \"wasmsr\" \"kvm_rdmsr\" (func $rd (param i32 i32) (result i32)))
    (import \"wasmsr\" \"kvm_wrmsr\" (func $wr (param i32 i64) (result i32)))";

#[test]
fn guest_memory_is_read_and_written_within_its_bounds() {
    let body = "
        (i64.store (i32.const 64) (i64.const 0x1122334455667788))
        (drop (call $write (i64.const 0x1000) (i32.const 64) (i32.const 8)))
        (drop (call $read (i64.const 0x1004) (i32.const 128) (i32.const 4)))
        (i64.or (i64.load32_u (i32.const 128))
          (i64.shl (i64.extend_i32_u (call $read (i64.const 0xfffd) (i32.const 0) (i32.const 4)))
                   (i64.const 32)))";
    let bytes = calls(GUEST, "\"guest-memory\"", body);
    let (mut started, host) =
        Setup::new().with("p.wasm", bytes, "grant = [\"guest-memory\"]").start(1);
    assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Value(1 << 32 | 0x1122_3344));
    assert_eq!(host.memory.lock().unwrap()[0x1000], 0x88);
}

#[test]
fn kvm_msrs_are_those_of_the_vcpu_that_asks() {
    let body = "
        (drop (call $wr (i32.const 0x174) (i64.const 0x99)))
        (drop (call $rd (i32.const 0x174) (i32.const 8)))
        (i64.or (i64.load (i32.const 8)) (i64.shl (i64.extend_i32_u (i32.add
            (call $wr (i32.const 0xbad) (i64.const 1))
            (call $rd (i32.const 0xbad) (i32.const 8)))) (i64.const 32)))";
    let bytes = calls(KVM, "\"kvm-msr\"", body);
    let (mut started, host) = Setup::new().with("p.wasm", bytes, "grant = [\"kvm-msr\"]").start(2);
    assert_eq!(read(&mut started.vcpus[1], 0x10), Outcome::Value(2 << 32 | 0x99));
    let msrs = host.msrs.lock().unwrap();
    assert_eq!(msrs.keys().copied().collect::<Vec<_>>(), [(VcpuId(1), MsrIndex(0x174))]);
}

#[test]
fn time_comes_from_the_host() {
    let imports = "
        (import \"wasmsr\" \"tsc\" (func $tsc (result i64)))
        (import \"wasmsr\" \"tsc_khz\" (func $khz (result i32)))
        (import \"wasmsr\" \"monotonic_ns\" (func $ns (result i64)))";
    let body = "(i64.add (call $tsc) (i64.add (call $ns) (i64.extend_i32_u (call $khz))))";
    let mut vcpu = Setup::new().with("p.wasm", calls(imports, "", body), "").one();
    assert_eq!(read(&mut vcpu, 0x10), Outcome::Value(1_000 + 77 + 2_000_000));
}

#[test]
fn configuration_is_json_text_of_any_length() {
    let imports = "(import \"wasmsr\" \"config\" (func $config (param i32 i32) (result i32)))";
    let body = "
        (i64.or (i64.extend_i32_u (call $config (i32.const 16) (i32.const 4)))
                (i64.shl (i64.load32_u (i32.const 16)) (i64.const 32)))";
    let bytes = calls(imports, "", body);
    let mut vcpu = Setup::new().with("p.wasm", bytes, "config = { a = 1 }").one();
    // `{"a":1}` has 7 bytes, of which the first four were asked for.
    let start = u64::from(u32::from_le_bytes(*b"{\"a\""));
    assert_eq!(read(&mut vcpu, 0x10), Outcome::Value(start << 32 | 7));
}

/// Every pointer, whatever it points at, ends in a plain failure.
#[test]
fn pointers_outside_the_plugin_are_failures() {
    let log = "(import \"wasmsr\" \"log\" (func $log (param i32 i32 i32)))";
    let config = "(import \"wasmsr\" \"config\" (func $config (param i32 i32) (result i32)))";
    for (imports, needs, call) in [
        (log, "", "(call $log (i32.const 3) (i32.const 65535) (i32.const 2))"),
        (log, "", "(call $log (i32.const 3) (i32.const -1) (i32.const -1))"),
        (config, "", "(drop (call $config (i32.const 65535) (i32.const -1)))"),
        (
            GUEST,
            "\"guest-memory\"",
            "(drop (call $read (i64.const 0) (i32.const 65533) (i32.const 4)))",
        ),
        (
            GUEST,
            "\"guest-memory\"",
            "(drop (call $write (i64.const 0) (i32.const -1) (i32.const 1)))",
        ),
        (KVM, "\"kvm-msr\"", "(drop (call $rd (i32.const 0x10) (i32.const 65529)))"),
    ] {
        let bytes = calls(imports, needs, &format!("{call} (i64.const 0)"));
        let keys = format!("grant = [{needs}]\non-failure = \"stop\"");
        let mut vcpu = Setup::new().with("p.wasm", bytes, &keys).one();
        let Outcome::Stop(text) = read(&mut vcpu, 0x10) else { panic!("no stop: {call}") };
        assert!(text.contains("outside the plugin's memory"), "{call}: {text}");
    }
}

/// A length is paid for before it is touched, so host calls in a loop end as
/// soon as plain instructions would.
#[test]
fn host_calls_are_paid_in_fuel() {
    let log = "(import \"wasmsr\" \"log\" (func $log (param i32 i32 i32)))";
    for (imports, needs, call) in [
        (log, "", "(call $log (i32.const 3) (i32.const 0) (i32.const 1))"),
        (
            GUEST,
            "\"guest-memory\"",
            "(drop (call $read (i64.const 0) (i32.const 0) (i32.const 60000)))",
        ),
        (KVM, "\"kvm-msr\"", "(drop (call $rd (i32.const 0x10) (i32.const 0)))"),
    ] {
        let counted = format!(
            "(loop {call} (i64.store (i32.const 65528)
            (i64.add (i64.load (i32.const 65528)) (i64.const 1))) (br 0)) (i64.const 0)"
        );
        let bytes = calls(imports, needs, &counted);
        let keys = format!("grant = [{needs}]\non-failure = \"stop\"\nfuel = 200000");
        let mut vcpu = Setup::new().with("p.wasm", bytes, &keys).one();
        let Outcome::Stop(text) = read(&mut vcpu, 0x10) else { panic!("no stop: {call}") };
        assert!(text.contains("fuel"), "{call}: {text}");
    }
}

#[test]
fn a_length_of_four_gigabytes_is_out_of_fuel_at_once() {
    let body = "(i64.extend_i32_u (call $read (i64.const 0) (i32.const 0) (i32.const -1)))";
    let bytes = calls(GUEST, "\"guest-memory\"", body);
    let keys = "grant = [\"guest-memory\"]\non-failure = \"stop\"";
    let mut vcpu = Setup::new().with("p.wasm", bytes, keys).one();
    assert!(matches!(read(&mut vcpu, 0x10), Outcome::Stop(_)));
}

#[test]
fn host_msrs_are_read_within_what_was_asked_for() {
    let imports = "(import \"wasmsr\" \"host_rdmsr\" (func $rd (param i32 i32) (result i32)))";
    let body = |index: u32| {
        format!(
            "(i64.or (i64.shl (i64.extend_i32_u (call $rd (i32.const {index}) (i32.const 0)))
                     (i64.const 63)) (i64.load (i32.const 0)))"
        )
    };
    let seen = |index| {
        let bytes = calls(imports, "\"host-msr:0x606-0x607\"", &body(index));
        let keys = "grant = [\"host-msr:0x600-0x6ff\"]";
        read(&mut Setup::new().with("p.wasm", bytes, keys).one(), 0x10)
    };
    let refused = Outcome::Value(1 << 63);
    assert_eq!(seen(0x606), Outcome::Value(0x606 << 8));
    assert_eq!(seen(0x607), refused, "the host has none");
    assert_eq!(seen(0x608), refused, "granted, but never asked for");
}

const HOST: &str = "
    (import \"wasmsr\" \"vcpus\" (func $vcpus (result i32)))
    (import \"wasmsr\" \"vcpu_times\" (func $times (param i32 i32) (result i32)))
    (import \"wasmsr\" \"host_cpus\" (func $cpus (result i32)))
    (import \"wasmsr\" \"realtime_ns\" (func $real (result i64)))
    (import \"wasmsr\" \"tsc_is_stable\" (func $stable (result i32)))";

#[test]
fn the_vm_and_the_host_tell_of_themselves() {
    for (body, value) in [
        ("(i64.extend_i32_u (call $vcpus))", 2),
        ("(i64.extend_i32_u (call $cpus))", 4),
        ("(i64.extend_i32_u (call $stable))", 1),
        ("(call $real)", 1_700_000_000_000_000_000),
        ("(drop (call $times (i32.const 1) (i32.const 64))) (i64.load (i32.const 64))", 5),
        ("(drop (call $times (i32.const 1) (i32.const 64))) (i64.load (i32.const 72))", 1),
        ("(i64.extend_i32_u (call $times (i32.const 9) (i32.const 64)))", 1),
    ] {
        let (mut started, _) = Setup::new().with("p.wasm", calls(HOST, "", body), "").start(2);
        assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Value(value), "{body}");
    }
}

const HOST_MSR_ON: &str = "
    (import \"wasmsr\" \"host_rdmsr_on\" (func $rd (param i32 i32 i32) (result i32)))";

#[test]
fn a_plugin_that_asks_for_any_host_msr_reads_what_is_granted() {
    let status = |msr: u32| {
        let body = format!(
            "(i64.or (i64.extend_i32_u (call $rd (i32.const 3) (i32.const {msr}) (i32.const 64)))
                     (i64.load (i32.const 64)))"
        );
        let bytes = calls(HOST_MSR_ON, "\"host-msr\"", &body);
        let grant = "grant = [\"host-msr:0x606-0x610\", \"host-msr:0x20\"]";
        let (mut started, _) = Setup::new().with("p.wasm", bytes, grant).start(1);
        read(&mut started.vcpus[0], 0x10)
    };
    assert_eq!(status(0x606), Outcome::Value(0x6_0603));
    assert_eq!(status(0x20), Outcome::Value(0x2003));
    assert_eq!(status(0x607), Outcome::Value(1), "the host has none");
    assert_eq!(status(0x611), Outcome::Value(1), "not granted");
}

const FILE: &str = "
    (import \"wasmsr\" \"host_file\" (func $file (param i32 i32 i32 i32) (result i32)))
    (data (i32.const 0) \"energy\")";

#[test]
fn a_file_is_read_under_its_name() {
    let call = |grant: &str, arguments: &str| {
        let body = format!(
            "(i64.or (i64.shl (i64.extend_i32_u (call $file {arguments})) (i64.const 32))
                     (i64.load32_u (i32.const 64)))"
        );
        let needs = "]\noptional = [\"host-file:energy\"";
        let (mut started, _) =
            Setup::new().with("p.wasm", calls(FILE, needs, &body), grant).start(1);
        read(&mut started.vcpus[0], 0x10)
    };
    let energy = "(i32.const 0) (i32.const 6) (i32.const 64) (i32.const 4)";
    let granted = "grant = [\"host-file:energy=/sys/energy\"]";
    assert_eq!(call(granted, energy), Outcome::Value(4 << 32 | 0x3433_3231));
    let none = Outcome::Value(0xffff_ffff << 32);
    assert_eq!(call("", energy), none, "not granted");
    assert_eq!(call("grant = [\"host-file:other=/sys/energy\"]", energy), none);
    let gone = "grant = [\"host-file:energy=/sys/gone\"]";
    assert_eq!(call(gone, energy), none, "not to be read");
    let other = "(i32.const 0) (i32.const 5) (i32.const 64) (i32.const 4)";
    assert_eq!(call(granted, other), none, "another name");
    for outside in [
        "(i32.const 0) (i32.const -1) (i32.const 64) (i32.const 4)",
        "(i32.const 0) (i32.const 6) (i32.const 65535) (i32.const 4)",
    ] {
        assert_eq!(call(granted, outside), Outcome::Fault, "outside the plugin's memory");
    }
}

#[test]
fn what_is_optional_and_not_granted_is_refused() {
    let needs = "]\noptional = [\"guest-memory\", \"kvm-msr\", \"timer\"";
    let imports = format!(
        "{GUEST} {KVM} (import \"wasmsr\" \"timer\" (func $timer (param i64) (result i32)))"
    );
    let body = "
        (i64.extend_i32_u (i32.add
            (i32.add (call $read (i64.const 0) (i32.const 0) (i32.const 4))
                     (call $write (i64.const 0) (i32.const 0) (i32.const 4)))
            (i32.add (call $timer (i64.const 0))
                (i32.add (call $rd (i32.const 0x10) (i32.const 64))
                         (call $wr (i32.const 0x10) (i64.const 1))))))";
    let bytes = || calls(&imports, needs, body);
    let (mut started, host) = Setup::new().with("p.wasm", bytes(), "").start(1);
    assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Value(5));
    assert!(host.msrs.lock().unwrap().is_empty() && host.wakes.lock().unwrap().is_empty());

    let grant = "grant = [\"guest-memory\", \"timer\"]";
    let (mut started, _) = Setup::new().with("p.wasm", bytes(), grant).start(1);
    assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Value(2));
}
