#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# guest.sh ROOT: makes a system into that of a virtual machine: in /boot/esp is
# what belongs on its EFI system partition, in /initrd.img an initrd that does
# no more than it must. A VM in an emulated machine is slow.

set -eu
root=$1
cd "$root"

echo '/dev/sda2 / ext4 rw,noatime 0 0' >etc/fstab
cat >etc/systemd/network/10-dhcp.network <<END
[Match]
Name=en*

[Network]
DHCP=yes
END
chroot . systemctl --quiet enable systemd-networkd
# Not systemd-logind: it is what hears the power button.
chroot . systemctl --quiet mask \
    apt-daily.timer apt-daily-upgrade.timer console-getty.service \
    dev-hugepages.mount dev-mqueue.mount dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer getty@tty1.service \
    modprobe@configfs.service modprobe@drm.service \
    modprobe@efi_pstore.service modprobe@fuse.service \
    serial-getty@ttyS0.service sys-fs-fuse-connections.mount \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    systemd-binfmt.service systemd-hwdb-update.service \
    systemd-journal-flush.service \
    systemd-networkd-persistent-storage.service \
    systemd-networkd-wait-online.service systemd-pstore.service \
    systemd-random-seed.service systemd-tpm2-setup-early.service \
    systemd-tpm2-setup.service systemd-update-utmp.service
install -d etc/systemd/system.conf.d
cat >etc/systemd/system.conf.d/slow.conf <<END
[Manager]
DefaultTimeoutStartSec=600
DefaultDeviceTimeoutSec=600
END
# Empty: made from what Incus gives each, without the work of a first boot.
: >etc/machine-id
chroot . /usr/lib/systemd/systemd-update-done

version=$(ls usr/lib/modules)
kernel=usr/lib/modules/$version/kernel
# udev would look for a driver of everything.
rm -rf "$kernel/sound" "$kernel/drivers/gpu" "$kernel/drivers/media" \
    "$kernel/drivers/net/wireless" "$kernel/drivers/net/ethernet" \
    "$kernel/drivers/infiniband" "$kernel/drivers/iio" \
    "$kernel/drivers/hwmon" "$kernel/drivers/staging" \
    "$kernel/drivers/isdn" "$kernel/drivers/usb" "$kernel/drivers/hid" \
    "$kernel/drivers/input/joystick" "$kernel/drivers/platform" \
    "$kernel/net/wireless" "$kernel/net/bluetooth" "$kernel/drivers/edac" \
    "$kernel"/drivers/scsi/[a-r]*
chroot . depmod "$version"

initrd=$(mktemp -d)
trap 'rm -rf "$initrd"' EXIT
mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/mod" "$initrd/root"
cp bin/busybox "$initrd/bin/busybox"
ln -s busybox "$initrd/bin/sh"
count=10
# Those for the agent, too: udev may take minutes until it comes to them.
for module in virtio_pci virtio_scsi sd_mod ext4 virtio_console 9pnet_virtio \
    9p vmw_vsock_virtio_transport virtio_net; do
    chroot . modprobe --show-depends --ignore-install \
        --set-version "$version" "$module"
done | sed -n 's/^insmod //p' | awk '!seen[$1]++' >"$initrd/modules"
while read -r file _; do
    xz -dc ".$file" >"$initrd/mod/$count.ko"
    count=$((count + 1))
done <"$initrd/modules"
cat >"$initrd/init" <<'END'
#!/bin/sh
PATH=/bin
busybox mount -t devtmpfs dev /dev
for module in /mod/*; do busybox insmod "$module"; done
until [ -b /dev/sda2 ]; do busybox sleep 0.2; done
busybox mount -t ext4 -o rw,noatime /dev/sda2 /root
busybox mount -o move /dev /root/dev
exec busybox switch_root /root /sbin/init
END
chmod 755 "$initrd/init"
rm "$initrd/modules"
cp "boot/vmlinuz-$version" vmlinuz.new
rm -f vmlinuz initrd.img
mv vmlinuz.new vmlinuz
(cd "$initrd" && find . | "$root/bin/busybox" cpio -o -H newc) 2>/dev/null |
    gzip -1 >initrd.img

install -d boot/esp/EFI/BOOT boot/esp/loader/entries
cp usr/lib/systemd/boot/efi/systemd-bootx64.efi boot/esp/EFI/BOOT/BOOTX64.EFI
cp vmlinuz initrd.img boot/esp
printf 'timeout 0\n' >boot/esp/loader/loader.conf
cat >boot/esp/loader/entries/debian.conf <<END
title Debian
linux /vmlinuz
initrd /initrd.img
options root=/dev/sda2 rw console=ttyS0 quiet
END
