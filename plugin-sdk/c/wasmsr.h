/*
 * ABI 1 of wasmsr for plugins in C and C++: what a plugin may define, and what
 * it may call. docs/abi.md is the reference, docs/other-languages.md the guide.
 *
 *     clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry,--stack-first \
 *         -I plugin-sdk/c -o plugin.wasm plugin.c
 *
 * A function that a plugin does not call leaves no import in its file. For
 * targets other than Wasm the declarations are plain functions, so a unit test
 * can compile a plugin and define the host calls itself.
 *
 * Calls cost fuel, of which one instruction uses about 1. A pointer or length
 * that leaves the plugin's memory is a trap, and a trap is a failure of the
 * plugin. Calls that trap otherwise say so below.
 */
#ifndef WASMSR_H
#define WASMSR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __wasm__
#define WASMSR_EXPORT(name) __attribute__((export_name(#name)))
#define WASMSR_IMPORT(name) __attribute__((import_module("wasmsr"), import_name(#name)))
#else
#define WASMSR_EXPORT(name)
#define WASMSR_IMPORT(name)
#endif

/*
 * Makes the file a plugin, once, outside functions: WASMSR_PLUGIN("plugin.toml");
 *
 * The manifest becomes the custom section `wasmsr.manifest`. Its path is relative
 * to where the compiler runs, or to a folder of -I. The macro also defines the
 * marker of the ABI's version.
 */
#ifdef __wasm__
#define WASMSR_PLUGIN(manifest)                                                  \
    __asm__(".section .custom_section.wasmsr.manifest,\"\",@\n"                  \
            ".incbin \"" manifest "\"\n"                                         \
            ".text\n");                                                          \
    void wasmsr_abi_v1(void) {}                                                  \
    void wasmsr_abi_v1(void)
#else
#define WASMSR_PLUGIN(manifest) void wasmsr_abi_v1(void)
#endif

WASMSR_EXPORT(wasmsr_abi_v1) void wasmsr_abi_v1(void);

/* ---- What a plugin defines. Calls to one instance never overlap. ---- */

/* Why an access left the kernel: KVM's numbers. */
enum {
    WASMSR_REASON_INVALID = 1, /* KVM knows the MSR and refuses this access */
    WASMSR_REASON_UNKNOWN = 2, /* KVM does not know the MSR */
    WASMSR_REASON_FILTER = 4,  /* a plugin claims it */
};

/*
 * Answers a read of the vCPU numbered `vcpu`: the return value is the guest's
 * EDX:EAX, unless wasmsr_outcome was called. Needed if the manifest has `r`
 * or [unhandled] reasons.
 */
WASMSR_EXPORT(rdmsr) uint64_t rdmsr(uint32_t index, uint32_t vcpu, uint32_t reason);

/* Takes a write, likewise. Needed if the manifest has `w` or [unhandled] reasons. */
WASMSR_EXPORT(wrmsr) void wrmsr(uint32_t index, uint64_t value, uint32_t vcpu, uint32_t reason);

/* What init, save and restore return. */
enum {
    WASMSR_DONE = 0,
    WASMSR_REFUSED = 1, /* the last line logged at WASMSR_ERROR is the reason shown */
};

/* The argument of init in an instance of scope `vm`, which belongs to no vCPU. */
#define WASMSR_NO_VCPU UINT32_MAX

/* Called once, before everything else. A refusal starts nothing. */
WASMSR_EXPORT(init) uint32_t init(uint32_t vcpu);

/* The guest was reset and the instance stays. Without this export a new one is made. */
WASMSR_EXPORT(reset) void reset(void);

/* Saves the state with wasmsr_save_state. Without this export nothing is kept. */
WASMSR_EXPORT(save) uint32_t save(void);

/* Takes over a saved state, after init. */
WASMSR_EXPORT(restore) uint32_t restore(void);

/* The time is reached that wasmsr_timer asked for. */
WASMSR_EXPORT(timer) void timer(void);

/* The run has ended, no vCPU runs: may call wasmsr_report_text. */
WASMSR_EXPORT(report) void report(void);

/* ---- What a plugin may call. ---- */

/* Outcomes of an access that the plugin does not answer itself. */
enum {
    WASMSR_FAULT = 1,  /* #GP(0) in the guest */
    WASMSR_PASS = 2,   /* the next plugin that claims the MSR, then the profile's policy */
    WASMSR_KERNEL = 3, /* KVM's own answer for this vCPU; what KVM refuses is a #GP */
};

/*
 * Ends the access with another outcome; the last call counts. What rdmsr returns
 * is then ignored. Traps outside rdmsr and wrmsr, and for any other kind. No fuel.
 */
WASMSR_IMPORT(outcome) void wasmsr_outcome(uint32_t kind);

enum {
    WASMSR_ERROR = 1,
    WASMSR_WARNING = 2,
    WASMSR_INFO = 3,
    WASMSR_DEBUG = 4,
};

/*
 * A line of UTF-8 for wasmsr's log, cut after 1024 bytes. An instance, together
 * with those that replace it after failures, has 20 lines at once and 5 per second
 * after that. Fuel: 20, and 1 for each byte.
 */
WASMSR_IMPORT(log) void wasmsr_log(uint32_t level, const char *text, uint32_t len);

/* A line that is a string literal. */
#define WASMSR_LOG(level, literal) wasmsr_log((level), literal, sizeof(literal) - 1)

/*
 * The profile's `config` as JSON text, `{}` without one: copies at most
 * `capacity` bytes and returns the length of the whole.
 * Fuel: 20, and 1 for each byte copied.
 */
WASMSR_IMPORT(config) uint32_t wasmsr_config(char *text, uint32_t capacity);

/* The guest's TSC on this vCPU, now. Fuel: 1000. */
WASMSR_IMPORT(tsc) uint64_t wasmsr_tsc(void);

/* Its frequency in kHz. No fuel. */
WASMSR_IMPORT(tsc_khz) uint32_t wasmsr_tsc_khz(void);

/* Nanoseconds of the host's monotonic clock since the VM was built. Fuel: 20. */
WASMSR_IMPORT(monotonic_ns) uint64_t wasmsr_monotonic_ns(void);

/* Nanoseconds of the host's time of day since 1970, UTC. Fuel: 20. */
WASMSR_IMPORT(realtime_ns) uint64_t wasmsr_realtime_ns(void);

/* 1 if the TSCs of all vCPUs agree and will continue to, else 0. Fuel: 1000. */
WASMSR_IMPORT(tsc_is_stable) uint32_t wasmsr_tsc_is_stable(void);

/* How many vCPUs the VM has. No fuel. */
WASMSR_IMPORT(vcpus) uint32_t wasmsr_vcpus(void);

/* What the host's scheduler counts for a vCPU's thread. */
struct wasmsr_vcpu_times {
    uint64_t ran_ns;
    uint64_t waited_ns;
};

/* 0, or 1 if that vCPU has not started or the host does not count. Fuel: 1000. */
WASMSR_IMPORT(vcpu_times) uint32_t wasmsr_vcpu_times(uint32_t vcpu, struct wasmsr_vcpu_times *times);

/* How many CPUs the host has online. Fuel: 1000. */
WASMSR_IMPORT(host_cpus) uint32_t wasmsr_host_cpus(void);

/*
 * The calls below need a capability, which the manifest's [needs] asks for and the
 * profile grants. If it is optional and not granted, the call returns its refusal.
 */

/*
 * Capability guest-memory: copies guest-physical memory; 0, or 1 if any of it
 * is not RAM. Fuel: 20, and 1 for each byte.
 */
WASMSR_IMPORT(guest_read) uint32_t wasmsr_guest_read(uint64_t gpa, void *to, uint32_t len);

/*
 * The same the other way; if it returns 1, nothing was written. Fuel: 20, and 1
 * for each byte.
 */
WASMSR_IMPORT(guest_write) uint32_t wasmsr_guest_write(uint64_t gpa, const void *from, uint32_t len);

/*
 * Capability kvm-msr: KVM's own value of an MSR on this vCPU, as a VMM reads it; 0,
 * or 1 if KVM has none. Fuel: 1000.
 */
WASMSR_IMPORT(kvm_rdmsr) uint32_t wasmsr_kvm_rdmsr(uint32_t index, uint64_t *value);

/*
 * Sets it as a VMM does, to restore a state: KVM takes more than from a guest; 0, or 1
 * if KVM refuses. Fuel: 1000.
 */
WASMSR_IMPORT(kvm_wrmsr) uint32_t wasmsr_kvm_wrmsr(uint32_t index, uint64_t value);

/*
 * What KVM alone would give the guest for its rdmsr; 0, or 1 if that is a #GP.
 * Fuel: 3000.
 */
WASMSR_IMPORT(kvm_rdmsr_as_guest)
uint32_t wasmsr_kvm_rdmsr_as_guest(uint32_t index, uint64_t *value);

/*
 * Does what KVM alone would do for the guest's wrmsr: it may drop bits, or the whole
 * write; 0, or 1 if that is a #GP, and then nothing is changed. Fuel: 15000.
 */
WASMSR_IMPORT(kvm_wrmsr_as_guest)
uint32_t wasmsr_kvm_wrmsr_as_guest(uint32_t index, uint64_t value);

/*
 * Capability host-msr:RANGE: the physical CPU's value of an MSR; 0, or 1 if this
 * MSR is not asked for and granted, or the host does not let it be read.
 * Fuel: 1000.
 */
WASMSR_IMPORT(host_rdmsr) uint32_t wasmsr_host_rdmsr(uint32_t index, uint64_t *value);

/* The same on the host's CPU of this number. Fuel: 1000. */
WASMSR_IMPORT(host_rdmsr_on)
uint32_t wasmsr_host_rdmsr_on(uint32_t cpu, uint32_t index, uint64_t *value);

/* Returned by wasmsr_host_file if there is no file to read. */
#define WASMSR_NO_FILE UINT32_MAX

/*
 * Capability host-file:NAME: copies the beginning of the file that is granted
 * under this name, at most `capacity` and at most 4096 bytes; returns how many,
 * or WASMSR_NO_FILE. Fuel: 1000, and 1 for each byte of the name and of
 * `capacity`, of that for at most 4096.
 */
WASMSR_IMPORT(host_file)
uint32_t wasmsr_host_file(const char *name, uint32_t name_len, void *to, uint32_t capacity);

/* Directions of wasmsr_intercept, to be added up. */
enum {
    WASMSR_READS = 1,
    WASMSR_WRITES = 2,
};

/* Returned by wasmsr_intercept instead of 0; nothing has changed then. */
enum {
    WASMSR_NOT_CLAIMED = 1,  /* the manifest does not claim all of them */
    WASMSR_DOES_NOT_FIT = 2, /* the result does not fit KVM's filter */
};

/*
 * Capability intercept: lets accesses to `first` to `last` exit (`on` not 0), or
 * leaves them to KVM. Traps for other directions than 1, 2 and 3. Fuel: 50000.
 */
WASMSR_IMPORT(intercept)
uint32_t wasmsr_intercept(uint32_t first, uint32_t last, uint32_t directions, uint32_t on);

/*
 * Capability timer: has `timer` called when wasmsr_monotonic_ns has reached
 * `at_ns`, no sooner than in 1 ms; replaces an earlier time. 0, or 1 if not
 * granted. Fuel: 1000.
 */
WASMSR_IMPORT(timer) uint32_t wasmsr_timer(uint64_t at_ns);

/*
 * Within save, else it traps: the state; 0, or 1 if it has more than 64 KiB.
 * Fuel: 20, and 1 for each byte.
 */
WASMSR_IMPORT(save_state) uint32_t wasmsr_save_state(const void *state, uint32_t len);

/*
 * Within save, else it traps: the older version of the plugin for which the state is
 * to be written, as wasmsr_config gives its text; 0 if it is for no older one. A state
 * of a plugin that has called this counts as that version's. Fuel: 20, and 1 for each
 * byte copied.
 */
WASMSR_IMPORT(save_version) uint32_t wasmsr_save_version(char *version, uint32_t capacity);

/*
 * Within restore, else it traps: the saved state, as wasmsr_config gives its
 * text. Fuel: 20, and 1 for each byte copied.
 */
WASMSR_IMPORT(saved_state) uint32_t wasmsr_saved_state(void *state, uint32_t capacity);

/* The version of the plugin that saved it, likewise. Fuel: 20, and 1 for each byte copied. */
WASMSR_IMPORT(saved_version) uint32_t wasmsr_saved_version(char *version, uint32_t capacity);

/*
 * Within report, else it traps: lines of UTF-8 for people, cut after 64 KiB; the
 * last call counts. Fuel: 20, and 1 for each byte.
 */
WASMSR_IMPORT(report_text) void wasmsr_report_text(const char *text, uint32_t len);

#ifdef __cplusplus
}
#endif

#endif
