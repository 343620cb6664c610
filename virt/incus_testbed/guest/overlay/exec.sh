# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# sh -c "$(cat exec.sh)" exec STATUS COMMAND [ARGUMENT...]
#
# Runs a command with the environment that a login of root would have, as the
# guest's own files set it.  STATUS takes the place of an exit status of 255,
# which some callers keep for their own failures.

unset LANG
export HOME=/root USER=root LOGNAME=root SHELL=/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
set -a
for file in /etc/environment /etc/default/locale /etc/profile; do
    # shellcheck disable=SC1090
    [ ! -r "$file" ] || . "$file" 2>/dev/null || :
done
set +a
unset file

status_for_255=$1
shift
# A program takes this shell's place, so that signals for it reach it.
case $status_for_255:$(command -v -- "$1") in
    255:/*) exec "$@" ;;
esac
"$@"
status=$?
[ "$status" -ne 255 ] || exit "$status_for_255"
exit "$status"
