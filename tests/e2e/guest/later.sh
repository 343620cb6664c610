#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
#   later.sh DIRECTORY TARGET
#
# In a guest: make later versions, of the same content, of the packages in one
# directory, in another that is not there yet.

set -eu

mkdir "$2"
for deb in "$1"/*.deb; do
    version=$(dpkg-deb --field "$deb" Version)
    dpkg-deb --raw-extract "$deb" "$2/tree"
    # They depend on each other's version, too.
    sed -i "s/$version/&+later/" "$2/tree/DEBIAN/control"
    dpkg-deb --build "$2/tree" "$2"
    rm -r "$2/tree"
done
