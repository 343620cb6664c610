#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# In a guest with Debian 12: let apt know backports, and prefer what it has.

set -eu

for list in /etc/apt/sources.list.d/*.sources; do
    sed 's/^Suites: bookworm$/Suites: bookworm-backports/' "$list"
done >/tmp/backports
mv /tmp/backports /etc/apt/sources.list.d/backports.sources
echo 'APT::Default-Release "bookworm-backports";' >/etc/apt/apt.conf.d/backports
