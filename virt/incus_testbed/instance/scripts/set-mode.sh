# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# set-mode MODE PATH

chmod -- "$1" "$2" || exit 5
