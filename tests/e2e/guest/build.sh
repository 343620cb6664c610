#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
#   build.sh TARBALL DIRECTORY
#
# In a guest: build the packages of a source tree into a directory that is not
# there yet; print the SHA-256 sum and name of each.

set -eu

mkdir -p "$2/source"
tar -C "$2/source" -xf "$1"
cd "$2/source"
dpkg-buildpackage -us -uc >../log 2>&1 || {
    tail -n 40 ../log
    exit 1
}
cd ..
sha256sum -- *.deb
