# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# make-user NAME: prints uid=UID of the user.  If there is no such user, makes
# one with a home directory.

set -u
export DEBIAN_FRONTEND=noninteractive

if ! id -u -- "$1" >/dev/null 2>&1; then
    if ! [ -x /usr/sbin/useradd ]; then
        apt-get --quiet update && apt-get --quiet --yes install passwd
    fi >&2 </dev/null
    # Status 9: another process has just made the user.
    /usr/sbin/useradd --create-home -- "$1" || [ $? = 9 ]
fi >&2
echo "uid=$(id -u -- "$1")"
