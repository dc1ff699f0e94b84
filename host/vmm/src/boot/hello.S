# The built-in guest `hello`: a multiboot image small enough to read.
#
# It runs on vCPU 0 in 32-bit protected mode, with no operating system. It
# reads and writes the MSRs of the two plugins of examples/hello/vm.toml, says
# on COM1 what it sees, and leaves through the debug-exit port: with 0 if all
# was as expected, else with the number of the expectation that failed, below.
#
# With a command line it does the accesses listed there in place of these:
# `0x10a` reads, `0x10a=0x2b` writes. It expects nothing of them. accesses.rs has
# checked the words and made every number hex.

.set COM1,              0x3f8
.set COM1_LINE_STATUS,  0x3fd       # bit 5: ready for the next byte
.set DEBUG_EXIT,        0xf4
.set INFO_HAS_CMDLINE,  1 << 2      # in the multiboot information at ebx
.set INFO_CMDLINE,      16

.set ARCH_CAPABILITIES, 0x10a       # plugin arch-capabilities
.set VENDOR_ID,         0x56440000  # plugin vendor-range: read-only
.set VENDOR_SCRATCH,    0x56440001  #   read-write, keeps what is written
.set VENDOR_FUSE,       0x56440002  #   write-once

.set CAPABILITIES_FAULT, 1          # its read raised #GP
.set ID_FAULT,          2
.set SCRATCH_FAULT,     3
.set SCRATCH_LOST,      4           # read back other than what was written
.set FUSE_FAULT,        5           # the first write, or the read, raised #GP
.set FUSE_LOST,         6           # does not hold what was written first
.set FUSE_REWRITTEN,    7           # the second write did not raise #GP
.set COMMAND_LINE,      8           # a word of it is no access

.set LOAD,              0x100000    # where the loader puts `hello_start`
.set CODE,              0x08        # selectors in the GDT below
.set DATA,              0x10
.set GENERAL_PROTECTION, 13

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
    .long   stack_top - hello_start + LOAD      # end of what must be zero
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
    cmpl    $0, faulted - hello_start + LOAD
    jne     fail
.endm

# Writes high:low to an MSR and says so; #GP is noted in `faulted`.
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
    movl    $(stack_top - hello_start + LOAD), %esp
    call    load_tables
    testl   $INFO_HAS_CMDLINE, (%ebx)
    je      tour
    movl    INFO_CMDLINE(%ebx), %esi
1:  lodsb                                       # past the guest's own name
    testb   %al, %al
    je      tour
    cmpb    $' ', %al
    jne     1b

accesses:
    call    parse_number
    testl   %ebx, %ebx
    je      2f
    movl    %eax, %ecx
    pushl   %esi
    cmpb    $'=', (%esi)
    je      1f
    call    read_msr
    popl    %esi
    jmp     accesses
1:  popl    %esi
    incl    %esi
    pushl   %ecx
    call    parse_number
    popl    %ecx
    testl   %ebx, %ebx
    je      3f
    pushl   %esi
    call    write_msr
    popl    %esi
    jmp     accesses
2:  cmpb    $0, (%esi)
    je      leave                               # ebx is 0
3:  movl    $COMMAND_LINE, %ebx
    jmp     fail

# The number at esi, hex with its 0x, behind spaces: edx:eax, and behind it esi.
# ebx counts its digits, 0 if there is none. Changes ecx.
parse_number:
    xorl    %eax, %eax
    xorl    %edx, %edx
    xorl    %ebx, %ebx
1:  cmpb    $' ', (%esi)
    jne     2f
    incl    %esi
    jmp     1b
2:  cmpw    $('0' | 'x' << 8), (%esi)
    jne     5f
    addl    $2, %esi
3:  movzbl  (%esi), %ecx
    subl    $'0', %ecx
    cmpl    $9, %ecx
    jbe     4f
    orl     $0x20, %ecx                         # a letter, in lower case
    subl    $('a' - '0'), %ecx
    cmpl    $5, %ecx
    ja      5f
    addl    $10, %ecx
4:  shldl   $4, %eax, %edx
    shll    $4, %eax
    orl     %ecx, %eax
    incl    %ebx
    incl    %esi
    jmp     3b
5:  ret

tour:
    say     "hello: a guest with no operating system, on one vCPU in 32-bit protected mode\n"

    say     "\nhello: IA32_ARCH_CAPABILITIES, from the plugin arch-capabilities\n"
    call    say_whether_announced
    movl    $ARCH_CAPABILITIES, %ecx
    call    read_msr
    fails_on_fault CAPABILITIES_FAULT

    say     "\nhello: a read-only register, from the plugin vendor-range\n"
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
    cmpl    $0, faulted - hello_start + LOAD
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
    movl    $0, faulted - hello_start + LOAD
    rdmsr
    say     "  rdmsr "
    call    print_index
    cmpl    $0, faulted - hello_start + LOAD
    jne     say_fault
    say     " = "
    call    print_value
    say     "\n"
    ret

# Writes edx:eax to MSR ecx and says so. Keeps all four.
write_msr:
    say     "  wrmsr "
    call    print_index
    say     " = "
    call    print_value
    movl    $0, faulted - hello_start + LOAD
    wrmsr
    cmpl    $0, faulted - hello_start + LOAD
    jne     say_fault
    say     "\n"
    ret

say_fault:
    say     ": #GP\n"
    ret

# The #GP handler: notes it and goes on after the instruction, rdmsr or wrmsr,
# both two bytes long. `iret` is the usual way out, but not every KVM can
# emulate it in 32-bit protected mode. CS has not changed, and nobody looks at
# the flags, so a near return is all it takes.
general_protection:
    movl    $1, faulted - hello_start + LOAD
    addl    $4, %esp                            # the error code
    addl    $2, (%esp)                          # EIP
    ret     $8                                  # drops CS and EFLAGS

# Loads the GDT, for the selector in the IDT's gate, and the IDT.
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
    lidt    idt_pointer - hello_start + LOAD
    ret

# ecx, an MSR's index, as hex.
print_index:
    pushal
    xorl    %edx, %edx
    movl    %ecx, %eax
    movl    $8, %ecx
    call    print_hex
    popal
    ret

# edx:eax, an MSR's value, as hex.
print_value:
    pushal
    movl    $16, %ecx
    call    print_hex
    popal
    ret

# The low ecx hex digits of edx:eax.
print_hex:
    pushal
    say     "0x"
    popal
    pushal
    cmpl    $16, %ecx
    je      1f
    movl    %eax, %edx                          # 8 digits: start at bit 31
1:  rol     $4, %edx
    movl    %edx, %ebx
    andl    $15, %ebx
    pushl   %eax
    movb    digits - hello_start + LOAD(%ebx), %al
    call    print_byte
    popl    %eax
    decl    %ecx
    cmpl    $8, %ecx
    jne     2f
    movl    %eax, %edx                          # the low half follows
2:  testl   %ecx, %ecx
    jne     1b
    popal
    ret

# The text at esi, which ends with a zero byte. Keeps all registers but esi.
print:
    pushl   %eax
1:  lodsb
    testb   %al, %al
    je      2f
    call    print_byte
    jmp     1b
2:  popl    %eax
    ret

# The byte in al.
print_byte:
    pushl   %edx
    pushl   %eax
    movw    $COM1_LINE_STATUS, %dx
1:  inb     %dx, %al
    testb   $0x20, %al
    je      1b
    popl    %eax
    movw    $COM1, %dx
    outb    %al, %dx
    popl    %edx
    ret

digits:
    .ascii  "0123456789abcdef"

.balign 8
gdt:
    .quad   0
    .quad   0x00cf9b000000ffff                  # CODE: flat, 32-bit
    .quad   0x00cf93000000ffff                  # DATA: flat
gdt_pointer:
    .word   gdt_pointer - gdt - 1
    .long   gdt - hello_start + LOAD

.balign 8
idt:
    .fill   GENERAL_PROTECTION, 8, 0            # not present
gate:
    .word   0, CODE                             # 32-bit interrupt gate
    .word   0x8e00, 0
idt_pointer:
    .word   idt_pointer - idt - 1
    .long   idt - hello_start + LOAD

.balign 4
faulted:
    .long   0

.globl hello_end
.hidden hello_end
hello_end:
.set stack_top, hello_end + 4096

.code64
.popsection
