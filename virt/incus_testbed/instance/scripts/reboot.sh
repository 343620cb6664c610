# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# Asks the guest's init to reboot, and returns before it does.

if [ -d /run/systemd/system ]; then
    systemctl --no-block reboot
else
    reboot </dev/null >/dev/null 2>&1 &
fi
