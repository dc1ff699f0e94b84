#!/bin/busybox sh
# The nested host: loads KVM, runs /command, tells its exit code, ends.
# Serial ports: 0 console, 1 and 2 the command's output and errors, 3 progress.

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ifconfig lo 127.0.0.1 up

for module in /modules/*; do
    insmod "$module"
done
for port in 1 2 3; do
    stty -F "/dev/ttyS$port" raw -echo
done

if [ -e /dev/kvm ]; then
    echo started >/dev/ttyS3
    sh /command </dev/null >/dev/ttyS1 2>/dev/ttyS2
    echo "$?" >/dev/ttyS3
else
    echo "no /dev/kvm" >/dev/ttyS3
fi
poweroff -f
