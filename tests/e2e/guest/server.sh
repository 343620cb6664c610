#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
#   server.sh NAME
#
# In a guest with Debusine's packages and no database: set up its server under
# the host name NAME, and print the token of an administrator.

set -eu

name=$1

admin() {
    # It complains where it can't read the directory it starts in.
    (cd / && runuser -u debusine-server -- debusine-admin "$@")
}

echo "127.0.1.1 $name" >>/etc/hosts
cat >/etc/debusine/server/local.py <<END
from .selected import *

DEBUSINE_FQDN = "$name"
ALLOWED_HOSTS = ["*"]
END
rm -f /etc/nginx/sites-enabled/*
cat >/etc/nginx/sites-enabled/debusine <<END
server {
    listen 80 default_server;
    server_name $name;
    include /etc/nginx/snippets/debusine.conf;
}
END

(cd / && runuser -u postgres -- createuser debusine-server)
(cd / && runuser -u postgres -- createdb --owner debusine-server debusine)
systemctl start debusine-server-migrate
systemctl restart nginx debusine-server debusine-server-celery \
    debusine-server-scheduler debusine-server-provisioner \
    debusine-server-periodic-tasks

admin create_user admin admin@example.org >/dev/null
admin group create debusine/Admins
admin group members debusine/Admins --add admin
admin workspace grant_role debusine/System owner Admins
admin create_token admin
