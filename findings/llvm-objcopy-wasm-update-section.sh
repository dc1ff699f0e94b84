#!/usr/bin/env bash
# llvm-objcopy 14.0.6 (Debian 12, package llvm-14) on a WebAssembly module:
#
#   --update-section NAME=FILE   exits with 0 and leaves the old contents, also where
#                                the module has no section of that name
#   --add-section NAME=FILE      adds a second section beside one of the same name
#   --dump-section NAME=FILE     rewrites the module, although nothing changes in it:
#                                sizes become LEB128 of five bytes, so its digest differs
#
# For ELF the same options replace, refuse and leave alone. What works is
# --remove-section NAME --add-section NAME=FILE, as the last step before a module is
# signed or pinned by its digest.
#
# Seen: "update: old", "update of a missing section: exit 0", "add: 2 sections",
# "dump: rewritten", "remove and add: new".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
# apt drops its rights to download, where it can.
chmod 755 .
apt-get download --quiet --quiet llvm-14=1:14.0.6-12 libllvm14=1:14.0.6-12 2>/dev/null
for package in ./*.deb; do
    dpkg-deb --extract "$package" root
done
export LD_LIBRARY_PATH=$folder/root/usr/lib/llvm-14/lib:$folder/root/usr/lib/x86_64-linux-gnu
objcopy=$folder/root/usr/lib/llvm-14/bin/llvm-objcopy
"$objcopy" --version | grep -q 'version 14.0.6'

# A memory section, and a custom section "note" with the contents "old".
printf '\0asm\1\0\0\0\5\3\1\0\1\0\10\4noteold' >module.wasm
printf new >contents

count() { grep -a -o note "$1" | wc -l; }
failed=0
expect() {
    echo "$1"
    if [[ $1 != "$2" ]]; then
        echo "  where 14.0.6 gave: $2" >&2
        failed=1
    fi
}

cp module.wasm update.wasm
"$objcopy" --update-section note=contents update.wasm
expect "update: $(tail -c 3 update.wasm)" "update: old"

cp module.wasm missing.wasm
code=0
"$objcopy" --update-section nothere=contents missing.wasm || code=$?
expect "update of a missing section: exit $code" "update of a missing section: exit 0"

cp module.wasm add.wasm
"$objcopy" --add-section note=contents add.wasm
expect "add: $(count add.wasm) sections" "add: 2 sections"

cp module.wasm dump.wasm
"$objcopy" --dump-section note=dumped dump.wasm
cmp -s module.wasm dump.wasm && state=untouched || state=rewritten
expect "dump: $state" "dump: rewritten"

cp module.wasm both.wasm
"$objcopy" --remove-section note --add-section note=contents both.wasm
expect "remove and add: $(tail -c 3 both.wasm)" "remove and add: new"

exit "$failed"
