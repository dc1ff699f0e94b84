#!/bin/busybox sh
# The stock Linux guest: runs what the kernel command line says in
# script="...", or the file /script of a second archive, and powers off.

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/bin
for module in msr button pvpanic pvpanic-mmio; do
    insmod /modules/$module.ko
done

# The kernel hands what it does not know on its command line to init as
# variables.
if [ -f /script ]; then
    sh /script
elif [ -n "$script" ]; then
    sh -c "$script"
else
    setsid cttyhack sh
fi
poweroff -f
