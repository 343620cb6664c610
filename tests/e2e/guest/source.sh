#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
#   source.sh DIRECTORY VERSION
#
# In a guest: make a source package, of that version, of a tree that has
# version 1; print the name of its .dsc.

set -eu

work=$(mktemp -d)
cp -rT "$1" "$work/source"
cd "$work"
sed -i "1s/(1)/($2)/" source/debian/changelog
dpkg-source --build source >&2
echo "$work"/*.dsc
