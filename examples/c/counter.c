/* Counts how often each vCPU reads the MSR; a write sets the count. */

#include "wasmsr.h"

WASMSR_PLUGIN("counter.toml");

/* The manifest gives each vCPU an instance of its own. */
static uint64_t reads;

uint64_t rdmsr(uint32_t index, uint32_t vcpu, uint32_t reason) {
    (void)index, (void)vcpu, (void)reason;
    return ++reads;
}

void wrmsr(uint32_t index, uint64_t value, uint32_t vcpu, uint32_t reason) {
    (void)index, (void)vcpu, (void)reason;
    reads = value;
}
