# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# settings ID: writes standard input, which holds the variables of the next
# command, to a file.  run.pl or shell.sh with the same ID reads and removes it.

umask 077
cat >"/run/incus-testbed.$1.env"
