#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# host.sh ROOT KEY: makes a system into the machine that runs Incus, and lets
# the owner of the public key in as root.

set -eu
root=$1

install -d -m 700 "$root/root/.ssh"
install -m 600 "$2" "$root/root/.ssh/authorized_keys"
echo vm-host >"$root/etc/hostname"
printf '127.0.0.1 localhost vm-host\n::1 localhost\n' >"$root/etc/hosts"
echo '/dev/vda / ext4 rw,noatime 0 0' >"$root/etc/fstab"
cat >"$root/etc/systemd/network/10-dhcp.network" <<END
[Match]
Name=en*

[Network]
DHCP=yes
END
printf '%s\n' kvm_amd vhost_vsock vhost_net tun btrfs loop \
    >"$root/etc/modules-load.d/vm-host.conf"

# Everything takes long in emulation.
install -d "$root/etc/systemd/system.conf.d"
cat >"$root/etc/systemd/system.conf.d/slow.conf" <<END
[Manager]
DefaultTimeoutStartSec=600
DefaultDeviceTimeoutSec=600
END

# The virtual disk is all that its initrd has to find.
install -d "$root/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=3\n' \
    >"$root/etc/initramfs-tools/conf.d/vm-host"
printf '%s\n' virtio_blk virtio_pci ext4 >"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u

chroot "$root" systemctl --quiet enable systemd-networkd systemd-resolved
chroot "$root" systemctl --quiet mask \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer fstrim.timer systemd-networkd-wait-online.service
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
