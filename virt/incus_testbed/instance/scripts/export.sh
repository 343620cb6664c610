# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# export: stops the services, then writes the root file system as a tar archive.
#
# It is read below a second mount of it, where nothing else is mounted: there
# are the folders that proc, sys and tmpfs hide.  Where that mount is not
# allowed, the archive has these folders as the running system shows them.

set -u
if [ -d /run/systemd/system ]; then
    if ! timeout 120 systemctl isolate rescue.target >&2 </dev/null; then
        echo "The services do not stop." >&2
        exit 1
    fi
fi
unset TAR_OPTIONS
# shellcheck disable=SC2016
exec unshare --mount sh -c '
    if mount --bind / /mnt; then cd /mnt; else cd /; fi
    exec tar --create --file=- --numeric-owner --one-file-system \
        --xattrs --xattrs-include="*" --warning=no-file-ignored \
        --pax-option=delete=atime,delete=ctime --anchored \
        --exclude="./lost+found" --exclude="./tmp/*" --exclude="./var/tmp/*" \
        --exclude="./var/cache/apt/*.bin" --exclude="./var/log/apt/*" \
        --exclude="./var/log/alternatives.log" --exclude="./var/log/dpkg.log" \
        --exclude="./var/log/journal/*" .
'
