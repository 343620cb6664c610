#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
#   vary.sh COMMAND...
#
# In a guest: run a command as another user with another home directory, shell
# and umask, in another language and time zone, more than a year later, with
# another Python first on PATH, and have Debian's tools build with other options.

set -eu

useradd --create-home --shell /bin/bash other
localedef --inputfile=tr_TR --charmap=UTF-8 tr_TR.UTF-8

# Like one that is not Debian's, it has none of the modules that are needed.
foreign=/usr/local/foreign
mkdir $foreign
for python in /usr/bin/python3*; do
    ln -s /usr/bin/false "$foreign/${python##*/}"
done

umask 027
exec runuser -u other -- env -i --chdir=/home/other \
    HOME=/home/other USER=other SHELL=/bin/bash PATH=$foreign:/usr/bin:/bin \
    LC_ALL=tr_TR.UTF-8 LANGUAGE=tr TZ=Pacific/Kiritimati \
    DEB_BUILD_OPTIONS='nocheck parallel=7' \
    faketime '+400 days +7 hours' "$@"
