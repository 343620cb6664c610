# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# Prints what a virt server must know about a guest, one key=value on each line:
# its shell, its boot_id and its first normal user (Debian Policy 9.2.2:
# dynamically allocated accounts have a uid from 1000 to 59999).

if [ -x /bin/bash ]; then echo shell=bash; else echo shell=sh; fi

read -r boot </proc/sys/kernel/random/boot_id
echo "boot=$boot"

lowest=60000
user=
while IFS=: read -r name _ uid _; do
    if [ "$uid" -ge 1000 ] && [ "$uid" -lt "$lowest" ]; then
        lowest=$uid user=$name
    fi
done </etc/passwd 2>/dev/null
echo "user=$user"
