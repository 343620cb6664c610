#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
#   worker.sh SOURCE NAME
#
# In a guest with Debusine's server NAME: do what README.md says of a worker
# with this software, from the checkout in SOURCE, and let the worker in.

set -eu

admin() {
    (cd / && runuser -u debusine-server -- debusine-admin "$@")
}

cd "$1"
make install
install -D -m 644 executor/debusine-incus.conf \
    /etc/systemd/system/debusine-worker.service.d/debusine-incus.conf
adduser debusine-worker incus-admin
incus-testbed setup
cat >/etc/debusine/worker/config.ini <<END
[General]
api-url = http://$2/api
END
systemctl daemon-reload
systemctl restart debusine-worker

timeout 60 sh -c 'until test -s /etc/debusine/worker/token; do sleep 0.2; done'
worker=$(admin list_workers --yaml | sed -n 's/^[- ]*name: //p' | tail -n 1)
admin manage_worker enable "$worker"
