# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# make-directory UID GID MODE PARENTS PATH
#
# Makes a directory, and if PARENTS is "yes" also its missing parents, all owned
# by UID:GID.  If it can't, it exits with an errno: 2 a parent is missing, 17
# PATH exists, 20 a parent is not a directory, 5 another reason.

set -u
owner=$1:$2 mode=$3 parents=$4 path=$5
umask 022

# make MODE DIRECTORY: it must not exist yet.
make() {
    if [ -e "$2" ] || [ -L "$2" ]; then exit 17; fi
    mkdir -m "$1" -- "$2" || exit 5
    chown -- "$owner" "$2" || exit 5
}

parent=${path%/*}
set -- "$path"
while [ -n "$parent" ] && [ ! -d "$parent" ]; do
    if [ -e "$parent" ] || [ -L "$parent" ]; then exit 20; fi
    [ "$parents" = yes ] || exit 2
    set -- "$parent" "$@"
    parent=${parent%/*}
done
while [ $# -gt 1 ]; do
    make 755 "$1"
    shift
done
make "$mode" "$1"
