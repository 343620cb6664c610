# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# wait-reboot OLD_BOOT_ID SECONDS
#
# In the old boot it sleeps, until the guest's shutdown ends it.  In the next
# boot it reports that at once.

read -r boot </proc/sys/kernel/random/boot_id
echo "boot=$boot"
[ "$boot" != "$1" ] || sleep "$2"
