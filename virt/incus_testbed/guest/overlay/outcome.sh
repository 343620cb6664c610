# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# outcome ID: prints outcome=…, what run.pl wrote of how its command ended.

read -r outcome 2>/dev/null <"/run/incus-testbed.$1"
echo "outcome=$outcome"
