# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# wait-reboot OLD_BOOT_ID SECONDS
#
# In the old boot, sleeps: the guest's shutdown ends this script.  In the next
# one, says so at once.

read -r boot </proc/sys/kernel/random/boot_id
echo "boot=$boot"
[ "$boot" != "$1" ] || sleep "$2"
