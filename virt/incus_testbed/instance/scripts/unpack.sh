# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# unpack PATH NAME: unpacks a tar archive from standard input into PATH/NAME,
# which it makes if necessary.  If it can't, it exits with an errno: 2 PATH does
# not exist, 20 PATH is not a directory, 17 NAME exists and is not a directory,
# 5 another reason, which it prints.

set -u
exec 2>&1
[ -e "$1" ] || exit 2
cd -- "$1" 2>/dev/null || exit 20
mkdir -p -- "$2" || exit 17
tar --extract --directory="./$2" --numeric-owner --same-permissions \
    --delay-directory-restore || exit 5
