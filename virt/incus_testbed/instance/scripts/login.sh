# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# sh -c "$(cat login.sh)" login
#
# Prints the environment of a login, with a NUL after each variable: the current
# environment, as the guest's own files change it.  The output of these files is
# discarded.  If one of them exits, the rest are not read, but the environment
# is still printed.

# shellcheck disable=SC1091
exec 3>&1 >/dev/null 2>&1 </dev/null
trap 'exec /usr/bin/env -0 >&3 3>&-' EXIT
set -a
[ ! -r /etc/environment ] || . /etc/environment
[ ! -r /etc/default/locale ] || . /etc/default/locale
set +a
[ ! -r /etc/profile ] || . /etc/profile
exit
