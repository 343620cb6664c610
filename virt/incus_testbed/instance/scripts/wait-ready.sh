#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# wait-ready SECONDS [FILE ...]: waits, inside a guest, until it has booted and
# its network is up.  Run as `sh -c "$(cat wait-ready.sh)" wait-ready SECONDS`.
#
# Prints the final state, also when the time is over:
#   state=STATE        of the system: running, degraded, starting, …
#   failed=UNIT …      the units that failed
#   dates=SECONDS …    when those of the files that are there were changed
#   network=online     a default route, and a name server to ask
#   network=nameless   a default route, but no name server
#   network=none       no network card
#   network=offline    none of these
# Exits 0 when the system is running or degraded and the network not offline,
# 1 otherwise.  Needs a POSIX shell, and the programs readlink, sleep, stat and
# timeout.

set -u
limit=$1
shift
# Seconds to wait for a name server after the route.  Both come at once, unless
# no program in the image asks for a name server.
grace=30

# remaining: whether time is left; sets left, in whole seconds.
deadline=
remaining() {
    read -r up _ </proc/uptime
    up=${up%.*}
    deadline=${deadline:-$((up + limit))}
    left=$((deadline - up))
    [ "$left" -gt 0 ]
}

# systemd_state: sets state; waits for a final one if systemctl supports that.
systemd_state() {
    if [ ! -S /run/systemd/private ]; then
        state=starting
        return
    fi
    state=$(timeout "$left" systemctl is-system-running --wait 2>/dev/null)
    # systemd before 240 does not know --wait, and fails without a message
    if [ -z "$state" ]; then
        state=$(timeout "$left" systemctl is-system-running 2>/dev/null)
    fi
}

# script_state: sets state for an init that only runs scripts.  The state is
# "starting" while one of the two programs that run all scripts exists.
script_state() {
    state=running
    if [ -x /sbin/runlevel ]; then
        case $(/sbin/runlevel 2>/dev/null) in
        *' '[0-9]) ;;
        *) state=starting ;;
        esac
    fi
    for process in /proc/[0-9]*; do
        command=
        read -r command <"$process/cmdline" || :
        case $command in
        *etc/init.d/rc* | *openrc*) state=starting ;;
        esac
    done 2>/dev/null
}

# system_state: sets state, for any init.  Looks at init's file, because its
# process name is "init" at first, also for systemd.
system_state() {
    case $(readlink /proc/1/exe) in
    */systemd | */systemd\ *) systemd_state ;; # " (deleted)" by an upgrade
    '' | */lxc* | */incus*) state=starting ;; # the program that starts init
    *) script_state ;;
    esac
}

# is_settled: whether the state is final.  Before systemd's bus is up, the state
# is "unknown" or "offline".
is_settled() {
    case $state in
    running | degraded | maintenance) return 0 ;;
    esac
    return 1
}

# is_card DIRECTORY: whether /sys/class/net/NAME is a NIC to the outside:
# Ethernet, and either hardware or one end of a pair.
is_card() {
    [ -d "$1" ] || return 1
    read -r type <"$1/type" && read -r index <"$1/ifindex" &&
        read -r peer <"$1/iflink" || return 1
    [ "$type" = 1 ] || return 1
    [ -e "$1/device" ] || { [ "$peer" != 0 ] && [ "$peer" != "$index" ]; }
}

# has_card: whether the guest has any.
has_card() {
    for card in /sys/class/net/*; do
        if is_card "$card"; then return 0; fi
    done
    return 1
}

# has_route: whether there is a default route, by IPv4 or IPv6.
has_route() {
    while read -r _ destination _ _ _ _ _ mask _; do
        if [ "$destination$mask" = 0000000000000000 ]; then return 0; fi
    done </proc/net/route
    [ -r /proc/net/ipv6_route ] || return 1
    while read -r destination length _ _ _ _ _ _ _ device; do
        if [ "$destination/$length" = 00000000000000000000000000000000/00 ] &&
            [ "$device" != lo ]; then
            return 0
        fi
    done </proc/net/ipv6_route
    return 1
}

# has_server FILE: whether the file names a DNS server.
has_server() {
    [ -r "$1" ] || return 1
    while read -r key server _; do
        case $key$server in
        nameserver127.0.0.53) has_server /run/systemd/resolve/resolv.conf ;;
        nameserver?*) return 0 ;;
        *) continue ;;
        esac
        return
    done <"$1"
    return 1
}

# network_state: sets network.
network_state() {
    if ! has_card; then
        network=none
    elif ! has_route; then
        network=offline
    elif has_server /etc/resolv.conf; then
        network=online
    else
        network=nameless
    fi
}

# is_pending: whether the network may still become better.
nameless_since=
is_pending() {
    case $network in
    offline) return 0 ;;
    nameless)
        nameless_since=${nameless_since:-$up}
        [ $((up - nameless_since)) -lt "$grace" ]
        ;;
    *) return 1 ;;
    esac
}

state=starting
while remaining; do
    system_state
    if is_settled; then break; fi
    sleep 0.02
done
network_state
while [ "$state" != maintenance ] && remaining && is_pending; do
    sleep 0.02
    network_state
done

failed=
if [ "$state" = degraded ]; then
    failed=$(systemctl list-units --state=failed --plain --no-legend \
        --no-pager 2>/dev/null | while read -r unit _; do
        printf '%s ' "$unit"
    done)
fi

echo "state=${state:-starting}"
echo "failed=${failed% }"
dates=
for date in $(stat -c %Y "$@" 2>/dev/null); do
    dates="$dates $date"
done
echo "dates=${dates# }"
echo "network=$network"
case $state-$network in
*-offline) exit 1 ;;
running-* | degraded-*) exit 0 ;;
esac
exit 1
