# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# scratch PATH
#
# Makes autopkgtest's scratch directory, at PATH or, if that is empty, at a new
# path, and prints the path.  Every user may write to it: all users in the
# testbed belong to the test.

set -e
path=${1:-$(/bin/mktemp --directory --tmpdir autopkgtest.XXXXXX)}
/bin/mkdir --parents -- "$path"
/bin/chmod 777 -- "$path"
echo "$path"
