#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# In a guest with a Debian release: let apt know its backports, and prefer what
# these have.

set -eu

# shellcheck source=/dev/null
. /etc/os-release
backports=$VERSION_CODENAME-backports
for list in /etc/apt/sources.list.d/*.sources; do
    sed "s/^Suites: $VERSION_CODENAME\$/Suites: $backports/" "$list"
done >/tmp/backports
mv /tmp/backports /etc/apt/sources.list.d/backports.sources
echo "APT::Default-Release \"$backports\";" >/etc/apt/apt.conf.d/backports
