# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# shell DIRECTORY [NAME=VALUE...]: an interactive shell there.

cd -- "$1" || cd / || exit
shift
for setting in "$@"; do
    export "${setting?}"
done
if [ -x /bin/bash ]; then exec bash -i; fi
exec sh -i
