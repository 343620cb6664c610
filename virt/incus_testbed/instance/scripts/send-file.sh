# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# send-file MARK PATH: writes the content of the regular file PATH, and then
# MARK.  If it can't, it exits with an errno.

set -u
[ -e "$2" ] || exit 2
[ ! -d "$2" ] || exit 21
[ -f "$2" ] || exit 22
cat <"$2" || exit 5
printf %s "$1"
