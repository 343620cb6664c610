# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# receive-file UID GID MODE PATH: writes standard input to the file PATH.  If it
# can't, it exits with an errno: 2 or 20 about the directory above it, 21 PATH is
# a directory, 5 another reason, which it prints.

set -u
exec 2>&1
parent=${4%/*}
[ -e "${parent:-/}" ] || exit 2
[ -d "${parent:-/}" ] || exit 20
[ ! -d "$4" ] || exit 21
umask 077
cat >"$4" || exit 5
chown -- "$1:$2" "$4" || exit 5
chmod -- "$3" "$4" || exit 5
