# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# outcome ID: prints outcome=…, which run.pl wrote when its command ended.
# outcome ID forget: removes the file with it.

file=/run/incus-testbed.$1
if [ "${2-}" = forget ]; then
    rm -f "$file"
else
    read -r outcome 2>/dev/null <"$file"
    echo "outcome=$outcome"
fi
