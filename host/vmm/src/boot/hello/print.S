# Printing on COM1, a byte at a time.

# Begins a line about an access: with the vCPU's number if several are at work, and
# then for this vCPU alone until end_line. Keeps all registers but esi.
begin_line:
    cmpl    $0, several - hello_start + LOAD
    jne     1f
    say     "  "
    ret
1:  pushal
2:  movl    $1, %eax
    xchgl   %eax, printing - hello_start + LOAD
    testl   %eax, %eax
    je      3f
    pause
    jmp     2b
3:  say     "vCPU "
    movl    NUMBER(%ebp), %eax
    xorl    %edx, %edx
    call    print_decimal
    say     ": "
    popal
    ret

# Keeps all registers but esi.
end_line:
    say     "\n"
    movl    $0, printing - hello_start + LOAD
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

# edx:eax as decimal.
print_decimal:
    pushal
    movl    %edx, %edi
    movl    %eax, %esi
    movl    $10, %ebx
    xorl    %ecx, %ecx                          # digits on the stack
1:  movl    %edi, %eax
    xorl    %edx, %edx
    divl    %ebx
    movl    %eax, %edi
    movl    %esi, %eax
    divl    %ebx
    movl    %eax, %esi
    addl    $'0', %edx
    pushl   %edx
    incl    %ecx
    orl     %edi, %eax
    jne     1b
2:  popl    %eax
    call    print_byte
    decl    %ecx
    jne     2b
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
