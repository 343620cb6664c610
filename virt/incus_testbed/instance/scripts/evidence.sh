# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# evidence: prints the guest's own information on why it is not ready.

# told TITLE COMMAND...: the command's output, if it has any.
told() {
    title=$1
    shift
    lines=$(timeout 10 "$@" 2>/dev/null)
    if [ -n "$lines" ]; then printf '%s\n%s\n' "$title" "$lines"; fi
}

[ -d /run/systemd/system ] || exit 0
told "Failed units:" systemctl list-units --state=failed --plain --no-legend \
    --no-pager
told "Jobs that have not ended:" systemctl list-jobs --no-legend --no-pager
told "cloud-init:" cloud-init status --long
told "Warnings in its journal:" journalctl --boot --priority=warning \
    --lines=20 --no-pager --quiet --output=short-monotonic
