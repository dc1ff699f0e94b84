# Sections of the command line, each on its vCPUs.

# Counts the vCPUs that have a section among the words at esi, and notes the first one.
count_participants:
    lodsb
    testb   %al, %al
    je      2f
    cmpb    $'@', %al
    jne     count_participants
    cmpl    $0, several - hello_start + LOAD
    jne     1f
    movl    $1, several - hello_start + LOAD
    leal    -1(%esi), %eax
    movl    %eax, sections - hello_start + LOAD
1:  call    parse_number                        # the first
    subl    %eax, participants - hello_start + LOAD
    incl    %esi
    call    parse_number                        # the last
    incl    %eax
    addl    %eax, participants - hello_start + LOAD
    jmp     count_participants
2:  ret

# Starts all other vCPUs, by INIT and SIPI to all but this one (SDM volume 3, 10.6.1).
begin_sections:
    movl    participants - hello_start + LOAD, %eax
    movl    %eax, at_work - hello_start + LOAD
    movl    $(trampoline - hello_start + LOAD), %esi
    movl    $TRAMPOLINE, %edi
    movl    $(trampoline_end - trampoline), %ecx
    rep movsb
    movl    $(0x100 | TIMER), APIC_SPURIOUS
    movl    $0xc4500, APIC_COMMAND
    movl    $(0xc4600 | TRAMPOLINE >> 12), APIC_COMMAND
    jmp     own_section

# Where the loader puts nothing.
.set TRAMPOLINE, 0x8000

# Copied to TRAMPOLINE, where it begins in real mode.
.code16
trampoline:
    cli
    lgdtl   %cs:(trampoline_gdt - trampoline)
    movl    %cr0, %eax
    orl     $1, %eax                            # PE
    movl    %eax, %cr0
    ljmpl   $CODE, $(started - hello_start + LOAD)
trampoline_gdt:
    .word   gdt_pointer - gdt - 1
    .long   gdt - hello_start + LOAD
trampoline_end:

.code32
started:
    movl    $DATA, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    lidt    idt_pointer - hello_start + LOAD
    movl    APIC_ID, %eax
    shrl    $24, %eax                           # KVM's number of the vCPU
    movl    %eax, %ebp
    shll    $AREA_SHIFT, %ebp
    addl    $(areas - hello_start + LOAD), %ebp
    leal    AREA(%ebp), %esp
    movl    %eax, NUMBER(%ebp)

# Does this vCPU's section, if it has one, once all have got here.
own_section:
    movl    sections - hello_start + LOAD, %esi
1:  lodsb
    testb   %al, %al
    je      halt
    cmpb    $'@', %al
    jne     1b
    call    parse_number
    movl    %eax, %ebx                          # the first
    incl    %esi
    call    parse_number                        # the last
    cmpl    %ebx, NUMBER(%ebp)
    jb      1b
    cmpl    %eax, NUMBER(%ebp)
    ja      1b
    lock incl arrived - hello_start + LOAD
2:  movl    arrived - hello_start + LOAD, %eax
    cmpl    participants - hello_start + LOAD, %eax
    je      3f
    pause
    jmp     2b
3:  call    section
    lock decl at_work - hello_start + LOAD
    jne     halt
    xorl    %ebx, %ebx                          # the last one out
    jmp     leave
