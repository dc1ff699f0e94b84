/* Prints what the boot loader told it, a line a fact, then exits with 0:
 *
 *      magic 2badb002
 *      bss 0                           zeros, as the image asks
 *      lower 27f                       KiB of memory below 1 MiB
 *      upper 7c00                      KiB from 1 MiB up
 *      command line: multiboot.elf a b
 *      module: its string
 *      its contents
 *
 * Multiboot Specification 0.6.96, section 3.3 (boot information format).
 */

#include "start.inc"
#include "serial.inc"
#include "msr.inc"

#define MEM_LOWER  4
#define MEM_UPPER  8
#define CMDLINE    16
#define MODS_COUNT 20
#define MODS_ADDR  24

        .macro  fact name, value
        mov     \value, %edi
        mov     $\name, %esi
        call    print_fact
        .endm

main:
        mov     multiboot_info, %ebx
        fact    magic_text, multiboot_magic
        fact    bss_text, untouched
        fact    lower_text, MEM_LOWER(%rbx)
        fact    upper_text, MEM_UPPER(%rbx)
        mov     $cmdline_text, %esi
        call    print_text
        mov     CMDLINE(%rbx), %esi
        call    print_text
        call    new_line

        mov     MODS_COUNT(%rbx), %ebp
        mov     MODS_ADDR(%rbx), %ebx
1:      test    %ebp, %ebp
        jz      4f
        mov     $module_text, %esi
        call    print_text
        mov     8(%rbx), %esi           /* string */
        call    print_text
        call    new_line
        mov     (%rbx), %esi            /* mod_start */
2:      cmp     4(%rbx), %esi           /* mod_end */
        jae     3f
        lodsb
        call    print_char
        jmp     2b
3:      call    new_line
        add     $16, %ebx
        dec     %ebp
        jmp     1b
4:      xor     %eax, %eax
        jmp     debug_exit

/* Prints the text at RSI and the number EDI. */
print_fact:
        call    print_text
        call    print_hex
new_line:
        mov     $'\n', %al
        jmp     print_char

        .data
magic_text:   .asciz "magic "
bss_text:     .asciz "bss "
lower_text:   .asciz "lower "
upper_text:   .asciz "upper "
cmdline_text: .asciz "command line: "
module_text:  .asciz "module: "

        .bss
untouched:    .skip 4
