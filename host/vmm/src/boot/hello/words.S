# The command line. program.rs has checked it, and wrote it anew with one sign for each word:
#
#   0x10a      reads an MSR            0x10a=0x2b  writes one
#   w0x64      waits 100 ms            !           resets the machine
#   *0x5 ... ; does it five times      *0x0 ... ;  for ever
#   -          prints no accesses      +           prints them again
#   @0x1-0x3   begins the section of these vCPUs
#
# What stands before the first section is vCPU 0's, and is done before the sections, which
# are done at the same time.

command_line:
    movb    $0xff, %al                          # the PIC's interrupts are not wanted
    outb    %al, $0x21
    outb    %al, $0xa1
    pushl   %esi
    call    count_participants
    popl    %esi
    call    section
    cmpl    $0, several - hello_start + LOAD
    jne     begin_sections
    xorl    %ebx, %ebx
    jmp     leave

# Does what the words at esi say, up to a `@` or the end, where esi is then.
section:
    lodsb
    cmpb    $' ', %al
    je      section
    cmpb    $'0', %al
    je      access
    cmpb    $';', %al
    je      loop_end
    cmpb    $'*', %al
    je      loop_begin
    cmpb    $'w', %al
    je      wait
    cmpb    $'-', %al
    je      quiet
    cmpb    $'+', %al
    je      loud
    cmpb    $'!', %al
    je      reset
    decl    %esi
    cmpb    $'@', %al
    je      1f
    testb   %al, %al
    jne     unknown
1:  ret

access:
    decl    %esi
    call    parse_number
    movl    %eax, %ecx
    cmpb    $'=', (%esi)
    je      1f
    pushl   %esi
    call    read_msr
    popl    %esi
    jmp     section
1:  incl    %esi
    pushl   %ecx
    call    parse_number
    popl    %ecx
    pushl   %esi
    call    write_msr
    popl    %esi
    jmp     section

quiet:
    movl    $1, QUIET(%ebp)
    jmp     section

loud:
    movl    $0, QUIET(%ebp)
    jmp     section

# By the keyboard controller.
reset:
    movb    $0xfe, %al
    outb    %al, $0x64
    jmp     halt

loop_begin:
    call    parse_number
    movl    DEPTH(%ebp), %ebx
    movl    %esi, LOOPS(%ebp,%ebx,8)
    movl    %eax, LOOPS + 4(%ebp,%ebx,8)
    incl    DEPTH(%ebp)
    testl   %ebx, %ebx
    jne     section
    cmpl    $0, QUIET(%ebp)
    je      section
    call    begin_counts
    jmp     section

loop_end:
    movl    DEPTH(%ebp), %ebx
    movl    LOOPS - 4(%ebp,%ebx,8), %eax
    testl   %eax, %eax
    je      1f                                  # for ever
    decl    %eax
    movl    %eax, LOOPS - 4(%ebp,%ebx,8)
    je      2f
1:  movl    LOOPS - 8(%ebp,%ebx,8), %esi
    jmp     section
2:  decl    DEPTH(%ebp)
    jne     section
    cmpl    $0, COUNTING(%ebp)
    je      section
    pushl   %esi
    call    say_counts
    popl    %esi
    jmp     section

# By the timer of the local APIC: in KVM it counts nanoseconds, whatever the processor's
# frequency, and a vCPU that halts meanwhile costs the host nothing.
wait:
    call    parse_number
    movl    %eax, %ebx                          # milliseconds
    movl    $(0x100 | TIMER), APIC_SPURIOUS
    movl    $3, APIC_TIMER_DIVIDE               # by 16
    movl    $TIMER, APIC_TIMER                  # once
1:  movl    $60000, %eax                        # what 32 bits can count
    cmpl    %eax, %ebx
    jae     2f
    movl    %ebx, %eax
2:  subl    %eax, %ebx
    imull   $62500, %eax, %eax
    movl    $0, WOKEN(%ebp)
    movl    %eax, APIC_TIMER_COUNT
3:  sti
    hlt
    cli
    cmpl    $0, WOKEN(%ebp)
    je      3b
    testl   %ebx, %ebx
    jne     1b
    jmp     section

# The timer's interrupt, which comes at that `hlt` only.
timer:
    movl    $1, WOKEN(%ebp)
    movl    $0, APIC_EOI
    ret     $8                                  # drops CS and EFLAGS

unknown:
    movl    $COMMAND_LINE, %ebx
    jmp     fail

# The number at esi, hex with its 0x: edx:eax, and behind it esi. Changes ecx.
parse_number:
    xorl    %eax, %eax
    xorl    %edx, %edx
    addl    $2, %esi
1:  movzbl  (%esi), %ecx
    subl    $'0', %ecx
    cmpl    $9, %ecx
    jbe     2f
    subl    $('a' - '0'), %ecx
    cmpl    $5, %ecx
    ja      3f
    addl    $10, %ecx
2:  shldl   $4, %eax, %edx
    shll    $4, %eax
    orl     %ecx, %eax
    incl    %esi
    jmp     1b
3:  ret
