#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Process 1 of the namespaces that tests/support/daemon.py makes for a private incusd.
# INCUS_DIR says where it keeps its state. When this process ends, the kernel
# ends all that incusd started, its containers too, and undoes its mounts.
# With the argument "controllers", incusd gets the machine's cgroups as they are,
# with all their controllers; then guests with systemd may not boot.

set -eu

# systemd does not boot in containers under a hybrid or version 1 layout. This
# mount namespace is ours: the machine's own mounts stay as they are.
if [ "${1-}" != controllers ] &&
    [ "$(stat --file-system --format=%T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount --recursive /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi

trap 'kill -TERM $daemon' TERM

# As systemd would, start it anew where it was killed, which tests do, or has
# crashed. What never answered is not tried again: its socket is not there.
rm -f "$INCUS_DIR/unix.socket"
status=1
while [ $status != 0 ]; do
    incusd &
    daemon=$!
    # The trap ends a wait; wait also reaps the orphans that come to process 1.
    while kill -0 $daemon 2>/dev/null; do
        status=0
        wait $daemon || status=$?
    done
    case $status in
        0 | 137) ;;
        *)
            echo "incusd ended with status $status"
            [ -S "$INCUS_DIR/unix.socket" ] || exit $status
            sleep 1
            ;;
    esac
done
