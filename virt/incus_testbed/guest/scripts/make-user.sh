# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# make-user NAME: prints uid=UID of the user, who is made, with a home, where
# there is none of that name.

set -u
export DEBIAN_FRONTEND=noninteractive

if ! id -u -- "$1" >/dev/null 2>&1; then
    if ! [ -x /usr/sbin/useradd ]; then
        apt-get --quiet update && apt-get --quiet --yes install passwd
    fi >&2 </dev/null
    # Status 9: somebody was quicker.
    /usr/sbin/useradd --create-home -- "$1" || [ $? = 9 ]
fi >&2
echo "uid=$(id -u -- "$1")"
