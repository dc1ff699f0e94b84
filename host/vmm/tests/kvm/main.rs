//! What only this crate's interface can show on real KVM: that a VM ends
//! whatever its vCPUs do, and that it leaves nothing behind. What guests see
//! is tested with the command, in the workspace's `tests/`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]
mod control;
mod guests;

use std::fs;
use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use guests::{ECHO, Guest, MSRS, OUTCOMES, PORTS, RESET, SPIN, WAIT, multiboot_image};
use libtest_mimic::{Arguments, Trial};
use tempfile::NamedTempFile;
use wasmsr_interface::{
    Initiator, KvmAnswer, MsrAccess, MsrHandler, MsrIndex, MsrOp, Outcome, VcpuId,
};
use wasmsr_kvm::filter::KvmFilter;
use wasmsr_vmm::{
    Boot, BuildError, Probe, RunEnd, Vm, VmConfig, VmSpec, control, known_msrs, open_kvm,
};

fn main() -> std::process::ExitCode {
    let tests: &[(&str, fn())] = &[
        ("a_question_tells_what_an_access_then_does", a_question_tells_what_an_access_then_does),
        ("a_vm_ends_whatever_its_vcpus_do", a_vm_ends_whatever_its_vcpus_do),
        ("a_vm_ends_though_its_console_is_not_read", a_vm_ends_though_its_console_is_not_read),
        ("fifty_boots_leave_nothing_behind", fifty_boots_leave_nothing_behind),
        ("input_longer_than_the_fifo_is_echoed", input_longer_than_the_fifo_is_echoed),
        ("outcomes_reach_the_guest", outcomes_reach_the_guest),
        ("too_many_vcpus_are_refused", too_many_vcpus_are_refused),
    ];
    let missing = open_kvm().err();
    let trials = tests.iter().chain(control::TESTS).map(|&(name, test)| match &missing {
        None => Trial::test(name, move || {
            test();
            Ok(())
        }),
        // The name is all that the report shows of a skipped test.
        Some(reason) => {
            Trial::test(format!("{name} (skipped: {reason})"), || Ok(())).with_ignored_flag(true)
        }
    });
    // They count threads and descriptors of the process.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Of every MSR that KVM lists: first the questions, each with what the last one says that KVM
/// would hold, which change nothing; then the same accesses for good.
/// SYSENTER_ESP and EIP, LSTAR, CSTAR, FS_BASE, GS_BASE, KERNEL_GS_BASE. On AMD a guest's own
/// access to them does not reach KVM: the processor keeps 64 bits of the first two, of which
/// KVM's code keeps 32, and QEMU's takes addresses that are not canonical.
const HELD_BY_AMD_PROCESSORS: [MsrIndex; 7] = [
    MsrIndex(0x175),
    MsrIndex(0x176),
    MsrIndex(0xc000_0082),
    MsrIndex(0xc000_0083),
    MsrIndex(0xc000_0100),
    MsrIndex(0xc000_0101),
    MsrIndex(0xc000_0102),
];

fn a_question_tells_what_an_access_then_does() {
    const VALUES: [u64; 6] = [0, 1, 6, 0x0606_0606_0606_0606, 1 << 63, u64::MAX];
    let probe = Probe::new(&[]).unwrap();
    let (host, vcpu) = (probe.host(), VcpuId(0));
    let (mut compared, mut taken) = (0, 0);
    for index in known_msrs().unwrap() {
        if probe.ask(index, MsrOp::Read, None) == KvmAnswer::NotComparable {
            continue;
        }
        if HELD_BY_AMD_PROCESSORS.contains(&index) {
            continue;
        }
        let before = host.kvm_msr(vcpu, index, Initiator::Host);
        let mut held = None;
        let mut asked = Vec::new();
        for value in VALUES {
            let write = probe.ask(index, MsrOp::Write(value), held);
            if let KvmAnswer::Taken(left) = write {
                held = left;
            }
            asked.push((write != KvmAnswer::Fault, probe.ask(index, MsrOp::Read, held)));
        }
        assert_eq!(host.kvm_msr(vcpu, index, Initiator::Host), before, "{}", index.described());
        for (value, (would_take, would_read)) in VALUES.into_iter().zip(asked) {
            let takes = host.set_kvm_msr(vcpu, index, value, Initiator::Guest);
            assert_eq!(would_take, takes, "write of {value:#x} to {}", index.described());
            let read = host.kvm_msr(vcpu, index, Initiator::Guest);
            let read = read.map_or(KvmAnswer::Fault, KvmAnswer::Value);
            assert_eq!(would_read, read, "read of {} after {value:#x}", index.described());
            compared += 1;
            taken += u32::from(takes);
        }
    }
    assert!(compared > 100 && taken > 20, "{compared} writes, {taken} taken");
}

fn a_vm_ends_whatever_its_vcpus_do() {
    for (name, guest) in [("spin", SPIN), ("wait", WAIT), ("msrs", MSRS), ("ports", PORTS)] {
        let (control, events) = control();
        let vm = build(guest, 3, Box::new(io::sink())).unwrap();
        let start = Instant::now();
        let terminator = after(Duration::from_millis(50), move || control.signal(15));
        let end = vm.run(handlers(3), &events);
        assert!(matches!(end, RunEnd::Signal { number: 15, at: Some(_) }), "{name}: {end:?}");
        assert!(start.elapsed() < Duration::from_secs(2), "{name}: {:?}", start.elapsed());
        terminator.join().unwrap();
    }
}

fn a_vm_ends_though_its_console_is_not_read() {
    const ROOM: usize = 100;
    let (control, events) = control();
    let (mut reader, mut writer) = io::pipe().unwrap();
    writer.write_all(&[b'-'; 65536 - ROOM]).unwrap();
    let vm = build(ECHO, 1, Box::new(writer)).unwrap();
    let typist = thread::spawn({
        let control = control.clone();
        move || while control.input(&[b'x'; 4096]) {}
    });
    let quitter = after(Duration::from_millis(500), move || control.quit());
    assert!(matches!(vm.run(handlers(1), &events), RunEnd::Quit { at: Some(_) }));
    drop(events);
    typist.join().unwrap();
    quitter.join().unwrap();
    let mut printed = String::new();
    reader.read_to_string(&mut printed).unwrap();
    assert_eq!(printed.trim_start_matches('-'), "x".repeat(ROOM));
}

fn fifty_boots_leave_nothing_behind() {
    let (_control, events) = control();
    let boot = |guest| {
        let vm = build(guest, 4, Box::new(io::sink())).unwrap();
        vm.run(handlers(4), &events)
    };
    assert!(matches!(boot(RESET), RunEnd::Reset(_)));
    let before = Possessions::now();
    for _ in 0..50 {
        assert!(matches!(boot(RESET), RunEnd::Reset(_)));
    }
    assert_eq!(Possessions::now(), before);
}

fn input_longer_than_the_fifo_is_echoed() {
    let sent: Vec<u8> = (0..10_000_u32).map(|i| b'a' + (i % 26) as u8).collect();
    let (control, events) = control();
    let (sender, printed) = mpsc::channel();
    let vm = build(ECHO, 1, Box::new(Channel(sender))).unwrap();
    let typed = sent.clone();
    let typist = thread::spawn(move || {
        assert!(control.input(&typed));
        assert!(control.input(b"!"));
    });
    let end = vm.run(handlers(1), &events);
    assert!(matches!(end, RunEnd::PowerOff(_)), "{end}");
    typist.join().unwrap();
    assert!(printed.into_iter().eq(sent));
}

fn outcomes_reach_the_guest() {
    struct Answers;
    impl MsrHandler for Answers {
        fn answer(&mut self, access: MsrAccess) -> Outcome {
            match (access.index.0, access.op) {
                (0xdead_0001, MsrOp::Read) => Outcome::Value(0x1111_1111_2222_2222),
                (0xdead_0002, MsrOp::Write(0x3333_3333_4444_4444)) => Outcome::Done,
                (0xdead_0003, _) => Outcome::Stop("enough".into()),
                _ => Outcome::Fault,
            }
        }
    }
    let (_control, events) = control();
    let vm = build(OUTCOMES, 1, Box::new(io::sink())).unwrap();
    match vm.run(vec![Box::new(Answers)], &events) {
        RunEnd::Stopped { text, .. } => assert_eq!(&*text, "enough"),
        other => panic!("{other}"),
    }
}

fn too_many_vcpus_are_refused() {
    for asked in [0, 256, u32::MAX] {
        match build(SPIN, asked, Box::new(io::sink())) {
            Err(BuildError::Vcpus { .. }) => {}
            Err(other) => panic!("{asked} vCPUs: {other}"),
            Ok(_) => panic!("{asked} vCPUs are taken"),
        }
    }
}

fn after(delay: Duration, act: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        thread::sleep(delay);
        act();
    })
}

/// Descriptors, threads and mappings of this process.
#[derive(Debug, PartialEq, Eq)]
struct Possessions {
    descriptors: usize,
    threads: usize,
    kvm_mappings: usize,
}

impl Possessions {
    fn now() -> Self {
        let entries = |directory| fs::read_dir(directory).unwrap().count();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        Possessions {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            kvm_mappings: maps.lines().filter(|line| line.contains("kvm-vcpu")).count(),
        }
    }
}

/// Sends what is printed, one byte at a time.
struct Channel(Sender<u8>);

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bytes.iter().try_for_each(|&byte| self.0.send(byte)).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn handlers(vcpus: u32) -> Vec<Box<dyn MsrHandler>> {
    struct Zero;
    impl MsrHandler for Zero {
        fn answer(&mut self, access: MsrAccess) -> Outcome {
            Outcome::ignored(access.op)
        }
    }
    (0..vcpus).map(|_| Box::new(Zero) as Box<dyn MsrHandler>).collect()
}

fn build(guest: Guest, vcpus: u32, output: Box<dyn Write + Send>) -> Result<Vm, BuildError> {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(&multiboot_image(guest())).expect("room for a guest");
    let boot =
        Boot::Image { path: file.path().to_owned(), cmdline: String::new(), modules: Vec::new() };
    Vm::build(VmSpec {
        vm: &VmConfig { memory: 4 << 20, vcpus },
        boot: &boot,
        filter: &KvmFilter::default(),
        cpuid: &[],
        output,
    })
}
