# What a quiet loop counts, and what it says of it.
#
# The time between two reads, from the end of one to the end of the next, in cycles of the
# TSC, goes into a bucket: one for each time below 16, then eight for each power of two,
# and the last one for all that 32 bits do not hold.

begin_counts:
    leal    COUNTS(%ebp), %edi
    movl    $((COUNTS_END - COUNTS) / 4), %ecx
    xorl    %eax, %eax
    rep stosl
    movl    $1, COUNTING(%ebp)
    ret

count_write:
    addl    $1, WRITES(%ebp)
    adcl    $0, WRITES + 4(%ebp)
    jmp     count_fault

# Keeps all registers.
count_read:
    pushal
    rdtsc
    movl    %eax, %esi
    movl    %edx, %edi
    subl    LAST(%ebp), %eax
    sbbl    LAST + 4(%ebp), %edx
    movl    %esi, LAST(%ebp)
    movl    %edi, LAST + 4(%ebp)
    movl    READS(%ebp), %ecx
    orl     READS + 4(%ebp), %ecx
    je      5f                                  # no read before it
    cmpl    LONGEST + 4(%ebp), %edx
    jb      2f
    ja      1f
    cmpl    LONGEST(%ebp), %eax
    jbe     2f
1:  movl    %eax, LONGEST(%ebp)
    movl    %edx, LONGEST + 4(%ebp)
2:  testl   %edx, %edx
    je      3f
    movl    $-1, %eax
3:  movl    %eax, %edx
    cmpl    $16, %eax
    jb      4f
    bsrl    %eax, %ecx
    subl    $3, %ecx
    shrl    %cl, %edx                           # 8 to 15
    leal    (%edx,%ecx,8), %edx
4:  addl    $1, BUCKETS(%ebp,%edx,4)
    sbbl    $0, BUCKETS(%ebp,%edx,4)            # never beyond 32 bits
5:  addl    $1, READS(%ebp)
    adcl    $0, READS + 4(%ebp)
    popal

count_fault:
    cmpl    $0, FAULTED(%ebp)
    je      1f
    addl    $1, FAULTS(%ebp)
    adcl    $0, FAULTS + 4(%ebp)
1:  ret

# Says what was counted.
say_counts:
    movl    $0, COUNTING(%ebp)
    call    begin_line
    movl    READS(%ebp), %eax
    movl    READS + 4(%ebp), %edx
    call    print_decimal
    say     " reads, "
    movl    WRITES(%ebp), %eax
    movl    WRITES + 4(%ebp), %edx
    call    print_decimal
    say     " writes, "
    movl    FAULTS(%ebp), %eax
    movl    FAULTS + 4(%ebp), %edx
    call    print_decimal
    say     " #GPs; cycles from read to read: 99 % within "
    call    usual
    xorl    %edx, %edx
    call    print_decimal
    say     ", longest "
    movl    LONGEST(%ebp), %eax
    movl    LONGEST + 4(%ebp), %edx
    call    print_decimal
    jmp     end_line

# The end of the bucket at which 99 of 100 times are reached: eax.
usual:
    xorl    %eax, %eax
    xorl    %edx, %edx
    xorl    %ecx, %ecx
1:  addl    BUCKETS(%ebp,%ecx,4), %eax
    adcl    $0, %edx
    incl    %ecx
    cmpl    $BUCKET_COUNT, %ecx
    jb      1b
    movl    %eax, %esi                          # all, less a hundredth of them
    movl    %edx, %edi
    movl    $100, %ebx
    movl    %edi, %eax
    xorl    %edx, %edx
    divl    %ebx
    movl    %eax, %ecx
    movl    %esi, %eax
    divl    %ebx
    subl    %eax, %esi
    sbbl    %ecx, %edi
    movl    $-1, %ecx
2:  incl    %ecx
    subl    BUCKETS(%ebp,%ecx,4), %esi
    sbbl    $0, %edi
    js      3f
    movl    %esi, %eax
    orl     %edi, %eax
    jne     2b
3:  movl    %ecx, %eax
    subl    $16, %ecx
    jb      4f
    andl    $7, %eax
    addl    $9, %eax
    shrl    $3, %ecx
    incl    %ecx
    shll    %cl, %eax
    decl    %eax
4:  ret
