# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# settings ID: keeps what comes on standard input, the variables of a command
# that is to start, where run.pl or shell.sh of that ID takes and removes it.

umask 077
cat >"/run/incus-testbed.$1.env"
