#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
#   repository.sh DIRECTORY
#
# In a guest: let apt install the packages in a directory by their names, and ask
# nothing.

set -eu

cd "$1"
cat >/etc/apt/apt.conf.d/99unattended <<'END'
APT::Get::Assume-Yes "true";
Dpkg::Use-Pty "false";
quiet "1";
END
for deb in *.deb; do
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" \
        "$(stat --format=%s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
done >Packages
cat >/etc/apt/sources.list.d/packages.sources <<END
Types: deb
URIs: file:$1
Suites: ./
Trusted: yes
END
apt-get update
