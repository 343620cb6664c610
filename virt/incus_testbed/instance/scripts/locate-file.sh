# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# locate-file PATH: prints the real path of the regular file PATH.  If it can't,
# it exits with the errno of the reason.

set -u
[ -e "$1" ] || exit 2
[ ! -d "$1" ] || exit 21
[ -f "$1" ] || exit 22
exec readlink -f -- "$1"
