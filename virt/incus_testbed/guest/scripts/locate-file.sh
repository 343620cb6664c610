# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# locate-file PATH: prints where the regular file is that PATH leads to.  Exits
# with the errno of what is wrong with it.

set -u
[ -e "$1" ] || exit 2
[ ! -d "$1" ] || exit 21
[ -f "$1" ] || exit 22
exec readlink -f -- "$1"
