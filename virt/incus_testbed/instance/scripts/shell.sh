# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# shell DIRECTORY TERMINAL ID: starts an interactive shell in DIRECTORY, with
# the variables from the file that settings.sh wrote, which is a script that
# exports them.

cd -- "$1" || cd / || exit
export TERM="$2"
# shellcheck disable=SC1090
. "/run/incus-testbed.$3.env"
rm -f "/run/incus-testbed.$3.env"
if [ -x /bin/bash ]; then exec bash -i; fi
exec sh -i
