# Tables, and what all vCPUs share.

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
    .fill   TIMER - GENERAL_PROTECTION - 1, 8, 0
timer_gate:
    .word   0, CODE
    .word   0x8e00, 0
idt_pointer:
    .word   idt_pointer - idt - 1
    .long   idt - hello_start + LOAD

.balign 4
several:                                        # the command line names vCPUs
    .long   0
printing:                                       # a vCPU prints a line
    .long   0
sections:                                       # the text of all of them
    .long   0
participants:                                   # vCPUs that have a section
    .long   0
arrived:                                        # at its beginning
    .long   0
at_work:
    .long   0

.balign 8
.globl hello_end
.hidden hello_end
hello_end:
.set areas, hello_end
.set areas_end, areas + AREAS * AREA

.code64
.popsection
