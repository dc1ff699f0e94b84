#!/usr/bin/env bash
# Programs that boot by Linux's x86 boot protocol and are not Linux do not fill in its header
# as Linux does. A loader that takes (setup_sects + 1) * 512 + syssize * 16 for the length of
# the file, as holds for every bzImage of Linux, refuses or truncates them:
#
#   memtest86+ 6.10, x64 and ia32   the file ends 8 bytes before: syssize is rounded up to 16
#                                   bytes, the file is not
#   memdisk of syslinux 6.04        syssize is 0, and 24744 bytes follow the setup code; the
#                                   rest of the file has to be loaded all the same
#   lnxboot.img of GRUB 2.06        there is no protected-mode part; GRUB appends it
#
# memdisk and lnxboot.img say version 2.03. The fields from 2.05 on, such as cmdline_size (2.06),
# lie within the length that the jump at 0x200 gives for the header, and mean nothing in them:
# the version alone says which fields there are.
#
# Seen: "memtest86+x64.bin: 2.12, 144320 of 144312, cmdline_size 255", "memtest86+ia32.bin: 2.12,
# 138720 of 138712, cmdline_size 255", "memdisk: 2.03, 2048 of 26792, cmdline_size 0",
# "lnxboot.img: 2.03, 1024 of 1024, cmdline_size 0".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
# apt drops its rights to download, where it can.
chmod 755 .
apt-get download --quiet --quiet memtest86+=6.10-4 \
    'syslinux-common=3:6.04~git20190206.bf6db5b4+dfsg1-3' grub-pc-bin=2.06-13+deb12u2 2>/dev/null
for package in ./*.deb; do
    dpkg-deb --extract "$package" root
done

# An unsigned little-endian number of BYTES bytes at OFFSET of FILE.
field() { od --address-radix=n --format="u$3" --skip-bytes="$2" --read-bytes="$3" "$1" | tr -d ' '; }
failed=0
expect() {
    echo "$1"
    if [[ $1 != "$2" ]]; then
        echo "  where these versions gave: $2" >&2
        failed=1
    fi
}
header() {
    local name=${1##*/} length claimed sectors minor
    length=$(stat --format=%s "$1")
    sectors=$(field "$1" $((0x1f1)) 1)
    claimed=$(((sectors + 1) * 512 + $(field "$1" $((0x1f4)) 4) * 16))
    minor=$(field "$1" $((0x206)) 1)
    printf '%s: 2.%02d, %d of %d, cmdline_size %d\n' "$name" "$minor" "$claimed" "$length" \
        "$(field "$1" $((0x238)) 4)"
}
expect "$(header root/boot/memtest86+x64.bin)" \
    "memtest86+x64.bin: 2.12, 144320 of 144312, cmdline_size 255"
expect "$(header root/boot/memtest86+ia32.bin)" \
    "memtest86+ia32.bin: 2.12, 138720 of 138712, cmdline_size 255"
expect "$(header root/usr/lib/syslinux/memdisk)" "memdisk: 2.03, 2048 of 26792, cmdline_size 0"
expect "$(header root/usr/lib/grub/i386-pc/lnxboot.img)" \
    "lnxboot.img: 2.03, 1024 of 1024, cmdline_size 0"
exit "$failed"
