#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
#   worker.sh NAME
#
# In a guest with Debusine's server NAME and its worker: set Incus up with
# Debusine's own script, as its documentation says, and let the worker in.

set -eu

# It tries all the time.  A restart in the middle of its registration would have
# it register twice.
systemctl stop debusine-worker
cat >/etc/debusine/worker/config.ini <<END
[General]
api-url = http://$1/api
END

# The script leaves the subnet to Incus, which finds a free one only where
# pings are answered.
incus network create debusinebr0 \
    ipv4.address=192.168.77.1/24 ipv4.nat=true ipv6.address=none
/usr/share/doc/debusine-worker/examples/configure-worker-incus.sh
systemctl start debusine-worker

timeout 60 sh -c 'until test -s /etc/debusine/worker/token; do sleep 0.2; done'
"$(dirname "$0")/enable.sh"
