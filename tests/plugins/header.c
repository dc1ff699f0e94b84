/*
 * Every export and host call of wasmsr.h, one MSR for each, and the constants that
 * they take and give; header.rs holds the values of all against the engine's.
 */

#include "wasmsr.h"

WASMSR_PLUGIN("header.toml");

static uint64_t kept, timers, resets, is_the_vms;
static char bytes[64];

/* Copies nothing that memcpy would be called for. */
static uint64_t first_bytes(uint32_t count) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < count; i++) {
        value |= (uint64_t)(uint8_t)bytes[i] << (8 * i);
    }
    return value;
}

uint32_t init(uint32_t vcpu) {
    uint32_t len = wasmsr_config(bytes, sizeof(bytes));
    if (len != 2) {
        WASMSR_LOG(WASMSR_ERROR, "header wants no configuration");
        return WASMSR_REFUSED;
    }
    is_the_vms = vcpu == WASMSR_NO_VCPU;
    WASMSR_LOG(WASMSR_WARNING, "a warning");
    WASMSR_LOG(WASMSR_INFO, "a remark");
    WASMSR_LOG(WASMSR_DEBUG, "a detail");
    return WASMSR_DONE;
}

/* Cuts the intercepts into more pieces than a plugin may. */
static uint32_t cut(void) {
    for (uint32_t msr = 0x10000; msr < 0x11000; msr += 2) {
        uint32_t refused = wasmsr_intercept(msr, msr, WASMSR_WRITES, 0);
        if (refused) {
            return refused;
        }
    }
    return 0;
}

uint64_t rdmsr(uint32_t index, uint32_t vcpu, uint32_t reason) {
    uint64_t value = 0;
    struct wasmsr_vcpu_times times;
    switch (index & 0xff) {
    case 0x00: return vcpu;
    case 0x01: return reason == WASMSR_REASON_FILTER;
    case 0x02: return reason == WASMSR_REASON_UNKNOWN;
    case 0x03: return reason == WASMSR_REASON_INVALID;
    case 0x04: wasmsr_outcome(WASMSR_FAULT); return 0;
    case 0x05: wasmsr_outcome(WASMSR_PASS); return 0;
    case 0x06: wasmsr_outcome(WASMSR_KERNEL); return 0;
    case 0x10: return wasmsr_tsc();
    case 0x11: return wasmsr_tsc_khz();
    case 0x12: return wasmsr_monotonic_ns();
    case 0x13: return wasmsr_realtime_ns();
    case 0x14: return wasmsr_tsc_is_stable();
    case 0x15: return wasmsr_vcpus();
    case 0x16: return wasmsr_host_cpus();
    case 0x17: return wasmsr_vcpu_times(1, &times) ? ~0ULL : times.ran_ns;
    case 0x18: return wasmsr_vcpu_times(1, &times) ? ~0ULL : times.waited_ns;
    case 0x19: return wasmsr_vcpu_times(9, &times);
    case 0x20: return wasmsr_guest_read(0x2000, &value, sizeof(value)) ? ~0ULL : value;
    case 0x21: return wasmsr_guest_read(0xf000, &value, sizeof(value));
    case 0x22: return wasmsr_kvm_rdmsr(0x10, &value) ? ~0ULL : value;
    case 0x23: return wasmsr_kvm_rdmsr(0x11, &value);
    case 0x33: return wasmsr_kvm_rdmsr_as_guest(0x10, &value) ? ~0ULL : value;
    case 0x34: return wasmsr_kvm_rdmsr_as_guest(0x11, &value);
    case 0x24: return wasmsr_host_rdmsr(0x20, &value) ? ~0ULL : value;
    case 0x25: return wasmsr_host_rdmsr_on(3, 0x20, &value) ? ~0ULL : value;
    case 0x26: return wasmsr_host_rdmsr(0x22, &value);
    case 0x27: wasmsr_host_file("power", 5, bytes, 4); return first_bytes(4);
    case 0x28: return wasmsr_host_file("none", 4, bytes, 4) == WASMSR_NO_FILE;
    case 0x29: return wasmsr_intercept(0x1080, 0x10ff, WASMSR_READS + WASMSR_WRITES, 0);
    case 0x2a: return wasmsr_intercept(0x2000, 0x2000, WASMSR_READS, 0) == WASMSR_NOT_CLAIMED;
    case 0x2b: return cut() == WASMSR_DOES_NOT_FIT;
    case 0x2c: return is_the_vms;
    case 0x30: return kept;
    case 0x31: return timers;
    case 0x32: return resets;
    default: __builtin_trap();
    }
}

void wrmsr(uint32_t index, uint64_t value, uint32_t vcpu, uint32_t reason) {
    (void)vcpu, (void)reason;
    uint32_t refused = 0;
    switch (index & 0xff) {
    case 0x20: refused = wasmsr_guest_write(0x2000, &value, sizeof(value)); break;
    case 0x21: refused = wasmsr_guest_write(0xf000, &value, sizeof(value)); break;
    case 0x22: refused = wasmsr_kvm_wrmsr(0x10, value); break;
    case 0x33: refused = wasmsr_kvm_wrmsr_as_guest(0x10, value); break;
    case 0x30: kept = value; break;
    case 0x31: refused = wasmsr_timer(value); break;
    default: __builtin_trap();
    }
    if (refused) {
        wasmsr_outcome(WASMSR_FAULT);
    }
}

void reset(void) {
    resets++;
}

uint32_t save(void) {
    if (wasmsr_save_version(bytes, sizeof(bytes)) != 0) {
        WASMSR_LOG(WASMSR_ERROR, "an older version than 1.2.3");
        return WASMSR_REFUSED;
    }
    return wasmsr_save_state(&kept, sizeof(kept));
}

uint32_t restore(void) {
    if (wasmsr_saved_version(bytes, sizeof(bytes)) != 5 || bytes[4] != '3') {
        WASMSR_LOG(WASMSR_ERROR, "another version than 1.2.3");
        return WASMSR_REFUSED;
    }
    return wasmsr_saved_state(&kept, sizeof(kept)) == sizeof(kept) ? WASMSR_DONE : WASMSR_REFUSED;
}

void timer(void) {
    timers++;
}

void report(void) {
    static const char text[] = "all\ncalled";
    wasmsr_report_text(text, sizeof(text) - 1);
}
