# The built-in guest `hello`: a multiboot image small enough to read.
#
# It runs on vCPU 0 in 32-bit protected mode, with no operating system. It
# reads and writes the MSRs of the two plugins of examples/hello/vm.toml, says
# on COM1 what it sees, and leaves through the debug-exit port: with 0 if all
# was as expected, else with the number of the expectation that failed, below.
#
# With a command line it does what that says in place of these, on as many vCPUs
# as it names, and expects nothing of it; see words.S.
#
# The files of this folder are assembled as one: this one first, tables.S last.

.set COM1,              0x3f8
.set COM1_LINE_STATUS,  0x3fd       # bit 5: ready for the next byte
.set DEBUG_EXIT,        0xf4
.set INFO_HAS_CMDLINE,  1 << 2      # in the multiboot information at ebx
.set INFO_CMDLINE,      16

.set ARCH_CAPABILITIES, 0x10a       # plugin arch-capabilities
.set VENDOR_ID,         0x56440000  # plugin registers: read-only
.set VENDOR_SCRATCH,    0x56440001  #   read-write, keeps what is written
.set VENDOR_FUSE,       0x56440002  #   write-once

.set CAPABILITIES_FAULT, 1          # its read raised #GP
.set ID_FAULT,          2
.set SCRATCH_FAULT,     3
.set SCRATCH_LOST,      4           # read back other than what was written
.set FUSE_FAULT,        5           # the first write, or the read, raised #GP
.set FUSE_LOST,         6           # does not hold what was written first
.set FUSE_REWRITTEN,    7           # the second write did not raise #GP
.set COMMAND_LINE,      8           # a word of it that words.S does not know

.set LOAD,              0x100000    # where the loader puts `hello_start`
.set CODE,              0x08        # selectors in the GDT below
.set DATA,              0x10
.set GENERAL_PROTECTION, 13
.set TIMER,             32          # the vector of the local APIC's timer

.set LOCAL_APIC,        0xfee00000
.set APIC_ID,           LOCAL_APIC + 0x20
.set APIC_EOI,          LOCAL_APIC + 0xb0
.set APIC_SPURIOUS,     LOCAL_APIC + 0xf0   # bit 8 turns the APIC on
.set APIC_COMMAND,      LOCAL_APIC + 0x300
.set APIC_TIMER,        LOCAL_APIC + 0x320
.set APIC_TIMER_COUNT,  LOCAL_APIC + 0x380
.set APIC_TIMER_DIVIDE, LOCAL_APIC + 0x3e0

# Each vCPU has an area of its own, at ebp all the time; its stack is the end of it.
.set AREA_SHIFT,        11
.set AREA,              1 << AREA_SHIFT
.set AREAS,             256
.set NUMBER,            0           # of this vCPU
.set FAULTED,           4           # the last access raised #GP
.set QUIET,             8           # accesses print nothing
.set WOKEN,             12          # the timer has come
.set DEPTH,             16          # loops begun
.set LOOPS,             24          # for each: where it begins, how often it is still done
.set COUNTING,          56          # the outermost loop is quiet
.set COUNTS,            64          # what is counted, all of it 64 bits
.set READS,             64
.set WRITES,            72
.set FAULTS,            80
.set LAST,              88          # the TSC after the last read
.set LONGEST,           96          # between two reads
.set BUCKETS,           104         # how many times between two reads, 32 bits each
.set BUCKET_COUNT,      240
.set COUNTS_END,        BUCKETS + 4 * BUCKET_COUNT

.pushsection .rodata.hello, "a", @progbits
.code32
.balign 8

.globl hello_start
.hidden hello_start
hello_start:

# Multiboot 1 header with the address fields (flag bit 16), which tell the
# loader all it needs, so that this image needs no ELF around it.
.set MAGIC, 0x1badb002
.set FLAGS, 1 << 16
    .long   MAGIC, FLAGS, -(MAGIC + FLAGS)
    .long   LOAD                                # of this header
    .long   LOAD                                # of the first byte
    .long   hello_end - hello_start + LOAD      # end of what is in the file
    .long   areas_end - hello_start + LOAD      # end of what must be zero
    .long   entry - hello_start + LOAD

# Prints a text that stands right here in the code.
.macro say text
    call    8f
    .asciz  "\text"
8:  popl    %esi
    call    print
.endm

# Leaves with `number` if the last MSR access raised #GP.
.macro fails_on_fault number
    movl    $\number, %ebx
    cmpl    $0, FAULTED(%ebp)
    jne     fail
.endm

# Writes high:low to an MSR and says so; #GP is noted in FAULTED.
.macro write msr, high, low
    movl    $\msr, %ecx
    movl    $\high, %edx
    movl    $\low, %eax
    call    write_msr
.endm

# Writes high:low to the scratch register and expects to read it back.
.macro scratch_keeps high, low
    write   VENDOR_SCRATCH, \high, \low
    fails_on_fault SCRATCH_FAULT
    movl    $VENDOR_SCRATCH, %ecx
    call    read_msr
    fails_on_fault SCRATCH_FAULT
    movl    $SCRATCH_LOST, %ebx
    cmpl    $\high, %edx
    jne     fail
    cmpl    $\low, %eax
    jne     fail
.endm

entry:
    movl    $(areas - hello_start + LOAD), %ebp
    leal    AREA(%ebp), %esp
    call    load_tables
    testl   $INFO_HAS_CMDLINE, (%ebx)
    je      tour
    movl    INFO_CMDLINE(%ebx), %esi
1:  lodsb                                       # past the guest's own name
    testb   %al, %al
    je      tour
    cmpb    $' ', %al
    jne     1b
    jmp     command_line

tour:
    say     "hello: a guest with no operating system, on one vCPU in 32-bit protected mode\n"

    say     "\nhello: IA32_ARCH_CAPABILITIES, from the plugin arch-capabilities\n"
    call    say_whether_announced
    movl    $ARCH_CAPABILITIES, %ecx
    call    read_msr
    fails_on_fault CAPABILITIES_FAULT

    say     "\nhello: a read-only register, from the plugin registers\n"
    movl    $VENDOR_ID, %ecx
    call    read_msr
    fails_on_fault ID_FAULT

    say     "\nhello: a read-write register, which keeps what is written\n"
    scratch_keeps 0x00000000, 0x00000001
    scratch_keeps 0x01234567, 0x89abcdef
    scratch_keeps 0xffffffff, 0xffffffff

    say     "\nhello: a write-once register, whose second write must raise #GP\n"
    write   VENDOR_FUSE, 0x00000000, 0x00c0ffee
    fails_on_fault FUSE_FAULT
    write   VENDOR_FUSE, 0x00000000, 0x0badcafe
    movl    $FUSE_REWRITTEN, %ebx
    cmpl    $0, FAULTED(%ebp)
    je      fail
    movl    $VENDOR_FUSE, %ecx
    call    read_msr
    fails_on_fault FUSE_FAULT
    movl    $FUSE_LOST, %ebx
    testl   %edx, %edx
    jne     fail
    cmpl    $0x00c0ffee, %eax
    jne     fail

    say     "\nhello: all as expected\n"
    xorl    %ebx, %ebx
    jmp     leave

# Says which expectation failed (ebx), and leaves with its number.
fail:
    say     "hello: not as expected, number "
    xorl    %edx, %edx
    movl    %ebx, %eax
    movl    $8, %ecx
    call    print_hex
    say     " in hello.S\n"
leave:
    movl    %ebx, %eax
    outl    %eax, $DEBUG_EXIT
halt:
    hlt
    jmp     halt

# Says whether CPUID names IA32_ARCH_CAPABILITIES. That it does not is no
# failure: not every KVM can hide the host's own CPUID from this guest.
say_whether_announced:
    xorl    %eax, %eax
    cpuid
    cmpl    $7, %eax                            # the highest leaf
    jb      1f
    movl    $7, %eax
    xorl    %ecx, %ecx
    cpuid
    btl     $29, %edx
    jnc     1f
    say     "  cpuid announces it (leaf 7, EDX bit 29)\n"
    ret
1:  say     "  cpuid does not announce it (leaf 7, EDX bit 29): this is the host's own cpuid\n"
    ret

# Reads MSR ecx into edx:eax and says so. Keeps ebx and ecx.
read_msr:
    movl    $0, FAULTED(%ebp)
    rdmsr
    cmpl    $0, QUIET(%ebp)
    jne     count_read
    call    begin_line
    say     "rdmsr "
    call    print_index
    cmpl    $0, FAULTED(%ebp)
    jne     say_fault
    say     " = "
    call    print_value
    jmp     end_line

# Writes edx:eax to MSR ecx and says so. Keeps all four.
write_msr:
    cmpl    $0, QUIET(%ebp)
    jne     1f
    call    begin_line
    say     "wrmsr "
    call    print_index
    say     " = "
    call    print_value
1:  movl    $0, FAULTED(%ebp)
    wrmsr
    cmpl    $0, QUIET(%ebp)
    jne     count_write
    cmpl    $0, FAULTED(%ebp)
    jne     say_fault
    jmp     end_line

say_fault:
    say     ": #GP"
    jmp     end_line

# The #GP handler: notes it and goes on after the instruction, rdmsr or wrmsr,
# both two bytes long. `iret` is the usual way out, but not every KVM can
# emulate it in 32-bit protected mode. CS has not changed, and nobody looks at
# the flags, so a near return is all it takes.
general_protection:
    movl    $1, FAULTED(%ebp)
    addl    $4, %esp                            # the error code
    addl    $2, (%esp)                          # EIP
    ret     $8                                  # drops CS and EFLAGS

# Loads the GDT, for the selector in the IDT's gates, and the IDT.
load_tables:
    lgdt    gdt_pointer - hello_start + LOAD
    ljmp    $CODE, $(1f - hello_start + LOAD)
1:  movl    $DATA, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    movl    $(general_protection - hello_start + LOAD), %eax
    movw    %ax, gate - hello_start + LOAD
    shrl    $16, %eax
    movw    %ax, gate + 6 - hello_start + LOAD
    movl    $(timer - hello_start + LOAD), %eax
    movw    %ax, timer_gate - hello_start + LOAD
    shrl    $16, %eax
    movw    %ax, timer_gate + 6 - hello_start + LOAD
    lidt    idt_pointer - hello_start + LOAD
    ret
