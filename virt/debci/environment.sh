# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# What all scripts of this backend need.

# The image of a suite, by the name that debci's backend incus-lxc gives it.
# shellcheck disable=SC2034 # for the script that reads this
image=autopkgtest/${debci_distro:?}/${debci_suite:?}/${debci_arch:?}

# The home directory of the user debci is root's.
if [ ! -w "${HOME:-/}" ]; then
    export XDG_CACHE_HOME=/var/lib/debci/.cache
    export INCUS_CONF=/var/lib/debci/.config/incus
fi
