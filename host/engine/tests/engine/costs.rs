//! What an access and an instance cost, as far as the engine can tell.

use wasmsr_engine::plugin::{IMPORTS, Import};
use wasmsr_interface::{Direction, MsrIndex, VcpuId};

use crate::fixture::{Setup, plugin, read, write};

/// Reads are short, writes loop as often as the value says, and 7 traps.
const UNEVEN: &str = "
    (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 1))
    (func (export \"wrmsr\") (param i32 i64 i32 i32)
      (if (i64.eq (local.get 1) (i64.const 7)) (then (unreachable)))
      (loop $again
        (local.set 1 (i64.sub (local.get 1) (i64.const 1)))
        (br_if $again (i64.gt_s (local.get 1) (i64.const 0)))))";

#[test]
fn the_fuel_of_an_access_is_exact() {
    let (mut started, _) =
        Setup::new().with("p.wasm", plugin("p", "[[msr]]\nrange = \"0x10\"", UNEVEN), "").start(1);
    let vcpu = &mut started.vcpus[0];
    let index = MsrIndex(0x10);
    let mut used = |value: Option<u64>| {
        let _ = match value {
            None => read(vcpu, 0x10),
            Some(value) => write(vcpu, 0x10, value),
        };
        let direction = if value.is_some() { Direction::Write } else { Direction::Read };
        vcpu.fuel_used(index, direction)
    };
    let (read, one, three) = (used(None).unwrap(), used(Some(1)).unwrap(), used(Some(3)).unwrap());
    let two = used(Some(2)).unwrap();
    assert!(read < one, "{read} {one}");
    assert_eq!(three - two, two - one, "a turn of the loop costs the same each time");
    assert!(two > one);
    assert_eq!(used(None), Some(read));
    assert_eq!(used(Some(7)), None, "a plugin that failed has no fuel");
    assert_eq!(vcpu.fuel_used(MsrIndex(0x11), Direction::Read), None);
}

/// Three calls cost two more than one, each its parameters, the call and what the
/// table says.
#[test]
fn every_host_call_costs_what_the_table_says() {
    const ASKS: &str = "[[msr]]\nrange = \"0x10\"\naccess = \"r\"\n[needs]\noptional = [\
         \"guest-memory\", \"kvm-msr\", \"host-msr\", \"host-file:x\", \"intercept\", \"timer\"]";
    for Import { name, capability, fuel, .. } in IMPORTS {
        if ["save_state", "save_version", "saved_state", "saved_version", "report_text"]
            .contains(name)
        {
            // Not within an access, and only an access reports its fuel.
            continue;
        }
        let call = IMPORTS.iter().find(|call| call.name == *name).unwrap();
        let ty = call.ty();
        let (parameters, result) = ty.split_once(" -> ").unwrap();
        let parameters: Vec<&str> =
            parameters.trim_matches(['(', ')']).split(", ").filter(|ty| !ty.is_empty()).collect();
        let list = |word: &str, types: &str| match types {
            "" => String::new(),
            types => format!("({word} {})", types.replace(',', "")),
        };
        let import = format!(
            "(import \"wasmsr\" \"{name}\" (func $call {} {}))",
            list("param", &parameters.join(" ")),
            list("result", result.trim_matches(['(', ')'])),
        );
        // One byte at address 1, and for `host_file` a name of one byte too.
        let ones: String = parameters.iter().map(|ty| format!("({ty}.const 1)")).collect();
        let once = match result {
            "()" => format!("(call $call {ones})"),
            _ => format!("(drop (call $call {ones}))"),
        };
        let used = |times: usize| {
            let body = format!(
                "{import} (func (export \"rdmsr\") (param i32 i32 i32) (result i64) {} (i64.const 0))",
                once.repeat(times)
            );
            let setup = Setup::new().with("p.wasm", plugin("p", ASKS, &body), "fuel = 1000000");
            let mut vcpu = setup.one();
            let _ = read(&mut vcpu, 0x10);
            vcpu.fuel_used(MsrIndex(0x10), Direction::Read).unwrap()
        };
        let bytes = match fuel.bytes {
            None => 0,
            Some(_) if *name == "host_file" => 2,
            Some(_) => 1,
        };
        let instructions = parameters.len() as u64 + 1;
        assert_eq!(
            used(3) - used(1),
            2 * (instructions + fuel.call + bytes),
            "{name}, behind {capability:?}"
        );
    }
}

#[test]
fn instances_have_their_owner_and_their_memory() {
    let manifest = "[[msr]]\nrange = \"0x10\"\n[[msr]]\nrange = \"0x11\"\nscope = \"vm\"";
    let (mut started, _) = Setup::new().with("p.wasm", plugin("p", manifest, UNEVEN), "").start(2);
    let instances = started.vcpus[1].instances();
    let mut owners: Vec<_> = instances.iter().map(|instance| instance.vcpu).collect();
    owners.sort_unstable();
    assert_eq!(owners, [None, Some(VcpuId(1))]);
    assert!(
        instances.iter().all(|instance| &*instance.plugin == "p" && instance.memory == 64 << 10)
    );
}
