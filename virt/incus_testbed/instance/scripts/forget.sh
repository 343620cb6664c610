# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# forget: removes what would make all instances of an image the same machine.
#
# The SSH host keys stay: an image that has them had them before, and Debian
# makes none at boot.

set -eu
for file in /etc/machine-id /var/lib/dbus/machine-id; do
    # A link to the other one is not followed.
    if [ -f "$file" ] && ! [ -L "$file" ]; then
        : >"$file"
    fi
done
rm -f /var/lib/systemd/random-seed /var/lib/systemd/credential.secret \
    /var/lib/dhcp/*.leases /var/lib/NetworkManager/*.lease \
    /var/lib/NetworkManager/secret_key
if command -v cloud-init >/dev/null; then
    cloud-init clean --logs >/dev/null
fi
