#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
#   build.sh TARBALL
#
# In a guest: build the packages of a source tree into /root/built, and again
# somewhere else, under another umask, time zone and language; they must be
# the same. Print what lintian says of them.

set -eu

# build DIRECTORY TARBALL
build() {
    mkdir -p "$1/source"
    tar -C "$1/source" -xf "$2"
    (cd "$1/source" && dpkg-buildpackage -us -uc -b >"$1/log" 2>&1) || {
        tail -n 40 "$1/log"
        exit 1
    }
}

build /root/built "$1"
export DEB_BUILD_OPTIONS=nocheck TZ=Asia/Tokyo LANG=C.UTF-8 LC_ALL=C.UTF-8
umask 027
build /root/elsewhere/again "$1"
for package in /root/built/*.deb; do
    cmp "$package" "/root/elsewhere/again/${package##*/}"
done
lintian --allow-root --pedantic --fail-on none --tag-display-limit 0 \
    /root/built/*.changes
