# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# apt VERB [VARIABLE=VALUE ...]: runs apt-get VERB without questions, with these
# variables in its environment.  Prints the end of what it said only if it
# fails, and exits with its status.

set -u
verb=$1
shift
set -- env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@" \
    apt-get --quiet=2 --yes \
    --option=APT::Update::Error-Mode=any \
    --option=Acquire::Retries=3 \
    --option=DPkg::Lock::Timeout=300 \
    --option=Dpkg::Options::=--force-confdef \
    --option=Dpkg::Options::=--force-confold \
    --option=Dpkg::Options::=--force-unsafe-io
if [ "$verb" = autoremove ]; then
    set -- "$@" --purge
fi
said=$("$@" "$verb" 2>&1 </dev/null) && exit 0
status=$?
printf '%s\n' "$said" | tail -n 15 | cut -c -300
exit "$status"
