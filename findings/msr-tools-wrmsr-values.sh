#!/usr/bin/env bash
# wrmsr 1.3 (Debian 12, package msr-tools) checks a register's number to its end, and values
# not at all: it takes as much of a value as strtoull does, writes that, and exits with 0.
# So what a TOML, Rust or Python programmer would write is cut short without a word:
#
#   1_000     1, not 1000
#   0b101     0, not 5
#   010       8: a leading zero is octal
#   on        0
#   0x1ffg    0x1ff
#
# Several values after one register are written to that same register in turn, so only the
# last one stays. The same word as a register is an error, in wrmsr as in rdmsr.
#
# The tools use /dev/cpu/N/msr; here it is a plain file in a mount namespace of its own, of
# which eight bytes at the register's number are what was written. It needs root for that.
#
# Seen: "1_000 -> 1 (exit 0)", "0b101 -> 0 (exit 0)", "010 -> 8 (exit 0)", "on -> 0 (exit 0)",
# "0x1ffg -> 1ff (exit 0)", "1 2 3 -> 3 (exit 0)", "register 1_0: exit 127".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
# apt drops its rights to download, where it can.
chmod 755 .
apt-get download --quiet --quiet msr-tools=1.3-5 2>/dev/null
dpkg-deb --extract ./*.deb root

cat >inside.sh <<'INSIDE'
set -euo pipefail
mount -t tmpfs tmpfs /dev
mkdir -p /dev/cpu/0
mknod -m 666 /dev/zero c 1 5
mknod -m 666 /dev/null c 1 3
# All ones, so that a 0 is one that was written.
fill() {
    head -c 4096 /dev/zero | tr '\0' '\377' >/dev/cpu/0/msr
}
failed=0
expect() {
    echo "$1"
    if [[ $1 != "$2" ]]; then
        echo "  where 1.3 gave: $2" >&2
        failed=1
    fi
}
written() {
    local code=0
    fill
    root/usr/sbin/wrmsr 0x10 "$@" || code=$?
    expect "$* -> $(root/usr/sbin/rdmsr 0x10) (exit $code)" "$expected (exit 0)"
}
expected="1_000 -> 1" written 1_000
expected="0b101 -> 0" written 0b101
expected="010 -> 8" written 010
expected="on -> 0" written on
expected="0x1ffg -> 1ff" written 0x1ffg
expected="1 2 3 -> 3" written 1 2 3
code=0
root/usr/sbin/wrmsr 1_0 1 >/dev/null 2>&1 || code=$?
expect "register 1_0: exit $code" "register 1_0: exit 127"
exit "$failed"
INSIDE
unshare --mount bash inside.sh
