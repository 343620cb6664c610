#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
#   worker.sh DIRECTORY NAME
#
# In a guest with Debusine's server NAME: do what README.md says of a worker,
# with the packages in DIRECTORY, and let the worker in.

set -eu

admin() {
    (cd / && runuser -u debusine-server -- debusine-admin "$@")
}

export DEBIAN_FRONTEND=noninteractive
apt-get -qy update >&2
apt-get -qy install "$1"/*.deb >&2
incus-testbed setup
cat >/etc/debusine/worker/config.ini <<END
[General]
api-url = http://$2/api
END
systemctl restart debusine-worker

timeout 60 sh -c 'until test -s /etc/debusine/worker/token; do sleep 0.2; done'
worker=$(admin list_workers --yaml | sed -n 's/^[- ]*name: //p' | tail -n 1)
admin manage_worker enable "$worker"
