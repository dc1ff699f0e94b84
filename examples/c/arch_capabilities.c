/*
 * IA32_ARCH_CAPABILITIES (0x10a) with the operator's value: the bits by which a
 * guest decides which mitigations it needs (Intel SDM, volume 4, table 2-2).
 */

#include "wasmsr.h"

WASMSR_PLUGIN("arch_capabilities.toml");

static uint64_t value;

static uint32_t read_config(void);

uint32_t init(uint32_t vcpu) {
    (void)vcpu;
    return read_config();
}

uint64_t rdmsr(uint32_t index, uint32_t vcpu, uint32_t reason) {
    (void)index, (void)vcpu, (void)reason;
    return value;
}

void wrmsr(uint32_t index, uint64_t written, uint32_t vcpu, uint32_t reason) {
    (void)index, (void)written, (void)vcpu, (void)reason;
    /* Read-only in hardware. */
    wasmsr_outcome(WASMSR_FAULT);
}

/* ---- The configuration: {"value":43} or {"value":"0x2b"}, without spaces ---- */

/* The position in the text; a 0 ends it. */
static char text[64];
static const char *at;

static int takes(const char *expected) {
    const char *here = at;
    for (; *expected; expected++, here++) {
        if (*here != *expected) {
            return 0;
        }
    }
    at = here;
    return 1;
}

static int digit_of(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 'a' - 'A';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

/* At least one digit, and no more than 64 bits. */
static int takes_number(uint64_t base, uint64_t *number) {
    const char *first = at;
    uint64_t sum = 0, digit;
    for (; (digit = (uint64_t)digit_of(*at)) < base; at++) {
        if (sum > (UINT64_MAX - digit) / base) {
            return 0;
        }
        sum = sum * base + digit;
    }
    *number = sum;
    return at != first;
}

static uint32_t read_config(void) {
    uint32_t len = wasmsr_config(text, sizeof(text) - 1);
    at = text;
    if (len < sizeof(text) && takes("{\"value\":")) {
        int ok = takes("\"0x") ? takes_number(16, &value) && takes("\"")
                               : takes_number(10, &value);
        if (ok && takes("}") && *at == 0) {
            return WASMSR_DONE;
        }
    }
    WASMSR_LOG(WASMSR_ERROR, "the configuration must be `value`, alone: a number of at most 64 "
                             "bits, or text such as \"0x2b\"");
    return WASMSR_REFUSED;
}
