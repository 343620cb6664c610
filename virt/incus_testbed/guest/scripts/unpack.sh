# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# unpack PATH NAME: unpacks a tar archive from standard input into PATH/NAME,
# made if need be.  Exits with the errno of what is wrong: 2 there is no PATH,
# 20 it is no directory, 17 NAME is none, 5 something else, which it says.

set -u
[ -e "$1" ] || exit 2
cd -- "$1" 2>/dev/null || exit 20
mkdir -p -- "$2" || exit 17
tar --extract --directory="./$2" --numeric-owner --same-permissions \
    --delay-directory-restore || exit 5
