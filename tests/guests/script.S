/* Runs a script, given as the first multiboot module: a directive a line, all
 * numbers hexadecimal. Each line is printed with what came of it:
 *
 *      r 10a -> 2b             read an MSR; `fault` for #GP
 *      w 10a 2b -> ok          write an MSR
 *      times 64 r 10a -> 2b    a directive many times; shows the last result
 *      sweep 10a 64 -> 0       read MSRs from 10a on; shows the last result
 *      cpu 1 -> ok             the lines from here on run on this CPU
 *      aside 1 r 10a -> ok     this CPU, which waits for its turn, does it
 *                              while the next lines run
 *      join -> 2b              waits for that, and shows its result
 *      cpuid 7 0 d 1d -> 1     leaf, subleaf, register (a to d), bit
 *      inb 3fd -> 60           port, 8 bits
 *      outb 80 1 -> ok
 *      outw 80 1 -> ok         port, 16 bits
 *      inl cf8 -> ffffffff     port, 32 bits
 *      outl cf8 1 -> ok
 *      key -> 61               the next byte typed on the serial console
 *      peek 200000 -> 0        64 bits of memory
 *      poke 200000 1 -> ok
 *      await 200000 -> 1       reads it until it is not 0
 *      cx16 -> ok              `cmpxchg16b`, which not every KVM executes
 *      halt ->                 for ever, interrupts off
 *      spin ->                 for ever
 *      triple ->               triple fault
 *      exit 3 ->               exit code `(3 << 1) | 1`
 *
 * The end of the script is `exit 0`.
 */

#include "start.inc"
#include "serial.inc"
#include "msr.inc"
#include "smp.inc"

#define MULTIBOOT_MODULES 24            /* offset of mods_addr */
#define NO_CPU -1

/* EBP: the number of this CPU. Only the one that `turn` names goes on. */
main:
        test    %ebp, %ebp
        jnz     take_turn
        mov     multiboot_info, %eax
        mov     MULTIBOOT_MODULES(%rax), %eax
        mov     (%rax), %ecx            /* mod_start */
        mov     %ecx, cursor
        mov     4(%rax), %ecx           /* mod_end */
        mov     %ecx, script_end

take_turn:
        cmp     %ebp, turn
        je      next_line
        cmp     %ebp, aside_cpu
        je      go_aside
        pause
        jmp     take_turn

go_aside:
        mov     aside_cursor, %esi
        call    execute
        mov     %rax, aside_number
        mov     %edi, aside_text
        movl    $NO_CPU, aside_cpu      /* last: `join` waits for it */
        jmp     take_turn

next_line:
        mov     cursor, %esi
        cmp     script_end, %esi
        jae     script_done
        call    print_line
        mov     $arrow_text, %esi
        call    print_text

        mov     cursor, %esi
        call    execute
        mov     %rax, %rcx
        mov     %rdi, %rsi
        mov     %rcx, %rdi
        test    %esi, %esi
        jz      1f
        call    print_text
        jmp     2f
1:      call    print_hex
2:      mov     $'\n', %al
        call    print_char

        mov     cursor, %esi
3:      lodsb
        cmp     $'\n', %al
        jne     3b
        mov     %esi, cursor
        mov     next_turn, %eax
        mov     %eax, turn              /* from here on another may run */
        jmp     take_turn

script_done:
        xor     %eax, %eax
        jmp     debug_exit

/* Prints the text at RSI up to the end of the line. */
print_line:
        lodsb
        cmp     $'\n', %al
        je      1f
        call    print_char
        jmp     print_line
1:      ret

/* Runs the directive at RSI. Answers like `read_msr`: EDI = 0 and a number in
 * RAX, or EDI = a text. Directives keep RBX, RBP and R12. */
execute:
        xor     %eax, %eax              /* the word, packed into 8 bytes */
        xor     %ecx, %ecx
1:      movzbl  (%rsi), %edx
        cmp     $' ', %dl
        jbe     2f
        inc     %esi
        shl     %cl, %rdx
        or      %rdx, %rax
        add     $8, %ecx
        jmp     1b
2:      mov     $directives, %edi
3:      cmp     (%rdi), %rax
        je      4f
        add     $16, %edi
        cmp     $directives_end, %edi
        jb      3b
        mov     $unknown_text, %edi
        ret
4:      jmp     *8(%rdi)

/* RAX = the number at RSI, which moves behind it. Clobbers EDX. */
number:
        xor     %eax, %eax
1:      cmpb    $' ', (%rsi)
        jne     2f
        inc     %esi
        jmp     1b
2:      movzbl  (%rsi), %edx
        cmp     $' ', %dl
        jbe     4f
        inc     %esi
        sub     $'0', %edx
        cmp     $9, %edx
        jbe     3f
        sub     $'a' - '0' - 10, %edx
3:      shl     $4, %rax
        or      %rdx, %rax
        jmp     2b
4:      ret

do_read:
        call    number
        mov     %eax, %ecx
        jmp     read_msr

do_write:
        call    number
        mov     %eax, %ecx
        call    number
        jmp     write_msr

do_times:
        push    %rbx
        push    %r12
        call    number
        mov     %rax, %rbx
        lea     1(%rsi), %r12
1:      mov     %r12, %rsi
        call    execute
        dec     %rbx
        jnz     1b
        pop     %r12
        pop     %rbx
        ret

do_sweep:
        push    %rbx
        push    %r12
        call    number
        mov     %rax, %r12              /* MSR */
        call    number
        mov     %rax, %rbx              /* how many */
1:      mov     %r12d, %ecx
        call    read_msr
        inc     %r12
        dec     %rbx
        jnz     1b
        pop     %r12
        pop     %rbx
        ret

do_cpu:
        call    number
        mov     %eax, next_turn
        call    start_cpu
        jmp     ok

do_aside:
        call    number
        push    %rsi
        push    %rax
        call    start_cpu
        pop     %rax
        pop     %rsi
        inc     %esi
        mov     %esi, aside_cursor
        mov     %eax, aside_cpu         /* last: that CPU waits for it */
        jmp     ok

do_join:
        pause
        cmpl    $NO_CPU, aside_cpu
        jne     do_join
        mov     aside_number, %rax
        mov     aside_text, %edi
        ret

do_cpuid:
        push    %rbx
        call    number
        mov     %eax, %r8d              /* leaf */
        call    number
        mov     %eax, %r9d              /* subleaf */
        call    number
        mov     %eax, %r10d             /* register */
        call    number
        mov     %eax, %r11d             /* bit */
        mov     %r8d, %eax
        mov     %r9d, %ecx
        cpuid
        mov     %eax, registers
        mov     %ebx, registers + 4
        mov     %ecx, registers + 8
        mov     %edx, registers + 12
        xor     %eax, %eax
        bt      %r11d, registers - 4 * 0xa(, %r10, 4)
        setc    %al
        xor     %edi, %edi
        pop     %rbx
        ret

do_inb:
        call    number
        mov     %eax, %edx
        xor     %eax, %eax
        in      %dx, %al
        xor     %edi, %edi
        ret

do_outb:
        call    number
        mov     %eax, %ecx
        call    number
        mov     %ecx, %edx
        out     %al, %dx
        jmp     ok

do_outw:
        call    number
        mov     %eax, %ecx
        call    number
        mov     %ecx, %edx
        out     %ax, %dx
        jmp     ok

do_inl:
        call    number
        mov     %eax, %edx
        in      %dx, %eax
        xor     %edi, %edi
        ret

do_outl:
        call    number
        mov     %eax, %ecx
        call    number
        mov     %ecx, %edx
        out     %eax, %dx
        jmp     ok

do_key:
        call    read_char
        xor     %edi, %edi
        ret

do_peek:
        call    number
        mov     (%rax), %rax
        xor     %edi, %edi
        ret

do_poke:
        call    number
        mov     %rax, %rcx
        call    number
        mov     %rax, (%rcx)
        jmp     ok

do_await:
        call    number
        mov     %rax, %rcx
1:      pause
        mov     (%rcx), %rax
        test    %rax, %rax
        jz      1b
        xor     %edi, %edi
        ret

do_cx16:
        push    %rbx
        xor     %eax, %eax
        xor     %edx, %edx
        cmpxchg16b registers
        pop     %rbx
        jmp     ok

do_halt:
        cli
        hlt
        jmp     do_halt

do_spin:
        jmp     do_spin

do_triple:
        lidt    no_idt
        ud2

do_exit:
        call    number
        jmp     debug_exit

ok:     mov     $ok_text, %edi
        ret

        .macro  directive name
        .balign 16
        .ascii  "\name"
        .balign 8
        .quad   do_\name
        .endm

        .data
        .balign 16
directives:
        .ascii  "r\0\0\0\0\0\0\0"
        .quad   do_read
        .ascii  "w\0\0\0\0\0\0\0"
        .quad   do_write
        directive times
        directive sweep
        directive cpu
        directive aside
        directive join
        directive cpuid
        directive inb
        directive outb
        directive outw
        directive inl
        directive outl
        directive key
        directive peek
        directive poke
        directive await
        directive cx16
        directive halt
        directive spin
        directive triple
        directive exit
directives_end:

aside_cpu: .long NO_CPU

no_idt: .word   0
        .quad   0
arrow_text:   .asciz " -> "
unknown_text: .asciz "no such directive"

        .bss
        .balign 16
registers:  .skip 16                    /* EAX, EBX, ECX, EDX of cpuid */
cursor:     .skip 4
script_end: .skip 4
turn:       .skip 4
next_turn:  .skip 4
aside_cursor: .skip 4
aside_text: .skip 4
aside_number: .skip 8
