#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Install what "make MODE" needs and this machine lacks; or list it, for a
# machine that is yet to be made.
#
#   tests/bootstrap.sh demo|test|check|bench|disks|vm|list
#
# For Debian 12 and later, as root. Does nothing where nothing is missing.
# Debian 12 has Incus in backports only: these are added, from the mirror that
# apt uses already, in a file of their own, so that the machine goes on getting
# their updates. Remove the file to be rid of them.

set -eu

run='incus dnsmasq-base nftables iproute2 uidmap btrfs-progs xz-utils zstd bzip2
bubblewrap qemu-utils autopkgtest mmdebstrap debian-archive-keyring dosfstools
e2fsprogs fdisk libarchive-tools mtools python3
python3-argcomplete python3-debian python3-rich python3-sh python3-yaml'
test='dpkg-dev faketime fish git make openssl ovmf
python3-debusine python3-hypothesis python3-lxml python3-pytest
python3-pytest-xdist python3-responses python3-venv qemu-system-x86 sbuild shellcheck
squashfs-tools-ng zsh'
disks='genisoimage xfsprogs debvm'
# The machine in which virtual machines run has the others.
vm='debian-archive-keyring dosfstools e2fsprogs fdisk mmdebstrap mtools
openssh-client python3 python3-debian qemu-system-x86 qemu-utils seabios'

# What Debian 12 has too old or not at all.
# QEMU 7.2 has no "migrate" to a file, and was not tried with nested guests.
# Its mke2fs reads no tarballs.  Its btrfs knows no simple quotas.
backported='incus autopkgtest btrfs-progs e2fsprogs mmdebstrap python3-debusine qemu-system-x86'
autopkgtest_needed=5.49~
btrfs_needed=6.7~
e2fsprogs_needed=1.47.1~
qemu_needed=1:10.0~

backports_list=/etc/apt/sources.list.d/debusine-incus-backports
root=$(cd "$(dirname "$0")/.." && pwd)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

die() {
    printf 'bootstrap: %s\n' "$1" >&2
    exit 1
}

say() {
    printf 'bootstrap: %s\n' "$1" >&2
}

# quietly WHAT COMMAND...: run COMMAND; its output is shown if it fails.
quietly() {
    what=$1
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        die "$what failed: $*"
    fi
}

# missing PACKAGE...: print those that are not installed, or too old.
missing() {
    dpkg-query -W -f='${Package} ${db:Status-Status} ${Version}\n' "$@" \
        >"$log" 2>/dev/null || :
    for package in "$@"; do
        version=$(sed -n "s/^$package installed //p" "$log")
        if [ -z "$version" ]; then
            echo "$package"
            continue
        fi
        case $package in
            autopkgtest) needed=$autopkgtest_needed ;;
            btrfs-progs) needed=$btrfs_needed ;;
            e2fsprogs) needed=$e2fsprogs_needed ;;
            qemu-system-x86) needed=$qemu_needed ;;
            *) continue ;;
        esac
        if dpkg --compare-versions "$version" lt "$needed"; then
            echo "$package"
        fi
    done
}

# targets FORMAT FILTER...: what apt is set up to fetch.
targets() {
    format=$1
    shift
    apt-get indextargets --format "$format" \
        'Created-By: Packages' 'Component: main' "$@"
}

# deb822_entry FILE URI SUITE NEW: FILE's stanza for URI and SUITE, with its
# options, for NEW instead.
deb822_entry() {
    awk -v RS= -v uri="$2" -v suite="$3" -v new="$4" '
        function has(field, word, count, words, i) {
            if (!match($0, "(^|\n)" field ":[^\n]*"))
                return 0
            count = split(substr($0, RSTART, RLENGTH), words, "[ \t]+")
            for (i = 2; i <= count; i++)
                if (words[i] == word || words[i] == word "/")
                    return 1
            return 0
        }
        has("URIs", uri) && has("Suites", suite) && !has("Enabled", "no") {
            count = split($0, lines, "\n")
            for (i = 1; i <= count; i++) {
                if (lines[i] ~ /^#/)
                    continue
                sub(/^Types:.*/, "Types: deb", lines[i])
                sub(/^Suites:.*/, "Suites: " new, lines[i])
                sub(/^Components:.*/, "Components: main", lines[i])
                print lines[i]
            }
            exit
        }' "$1"
}

# one_line_entry FILE LINE SUITE NEW: FILE's entry at LINE, for NEW instead.
one_line_entry() {
    sed -n "$2{s/#.*//; s/[[:space:]]$3[[:space:]].*/ $4 main/p;}" "$1"
}

# add_backports CODENAME: let apt know the backports of the mirror it uses.
add_backports() {
    suite=$1-backports
    [ -z "$(targets 'known' "Release: $suite")" ] || return 0
    # shellcheck disable=SC2016 # apt fills these in
    target=$(targets '$(SOURCESENTRY) $(SITE)' "Release: $1" 'Origin: Debian' |
        head -n 1)
    [ -n "$target" ] ||
        die "apt has no source for '$1 main'; add one, then run this again"
    entry=${target%% *}
    file=${entry%:*}
    case $file in
        *.sources)
            list=$backports_list.sources
            new=$(deb822_entry "$file" "${target#* }" "$1" "$suite")
            ;;
        *)
            list=$backports_list.list
            new=$(one_line_entry "$file" "${entry##*:}" "$1" "$suite")
            ;;
    esac
    [ -n "$new" ] || die "$file is not understood; add $suite to apt yourself"
    printf '# Written by %s for Incus.\n%s\n' "$root/tests/bootstrap.sh" \
        "$new" >"$list"
    say "added $suite to apt, in $list"
    update -o Dir::Etc::SourceList="$list" -o Dir::Etc::SourceParts=- \
        -o APT::Get::List-Cleanup=0
}

# update OPTION...: fetch the package lists. Sources other than Debian may be
# down.
update() {
    apt-get -q -o Acquire::Retries=1 -o Acquire::http::Timeout=20 \
        -o Acquire::https::Timeout=20 "$@" update >"$log" 2>&1 </dev/null ||
        say "some of apt's sources cannot be reached; trying without them"
}

# install_packages PACKAGE...
install_packages() {
    [ "$(id -u)" = 0 ] || die "not installed: $*
Run this as root, or: apt-get install $*"
    # shellcheck source=/dev/null
    . /etc/os-release
    say "installing $*"
    old='' rest="$*"
    update # before this, apt may not know what its sources hold
    if [ "${VERSION_CODENAME-}" = bookworm ]; then
        add_backports bookworm
        rest=''
        for package in "$@"; do
            case " $backported " in
                *" $package "*) old="$old $package" ;;
                *) rest="$rest $package" ;;
            esac
        done
    fi
    # Everything else first: incusd offers the pools it finds tools for.
    # shellcheck disable=SC2086 # lists of words
    [ -z "$rest" ] || apt_install $rest
    # shellcheck disable=SC2086
    [ -z "$old" ] || apt_install -t bookworm-backports $old
}

# apt_install ARGUMENT...
apt_install() {
    quietly "installing" env DEBIAN_FRONTEND=noninteractive \
        NEEDRESTART_SUSPEND=1 apt-get -q -y -o Dpkg::Use-Pty=0 \
        --no-install-recommends install "$@"
}

# linters: the versions of tests/linters.txt, in a virtual environment.
linters() {
    venv=$root/.venv
    if ! cmp -s "$root/tests/linters.txt" "$venv/installed.txt"; then
        say "installing ruff and mypy into $venv"
        rm -rf "$venv"
        quietly "making $venv" \
            /usr/bin/python3 -m venv --system-site-packages "$venv"
        quietly "installing the linters" "$venv/bin/pip" install -q \
            --disable-pip-version-check -r "$root/tests/linters.txt"
        cp "$root/tests/linters.txt" "$venv/installed.txt"
    fi
}

case ${1-} in
    demo) wanted=$run ;;
    test | check) wanted="$run $test" ;;
    bench) wanted="$run $test python3-matplotlib" ;;
    disks) wanted=$disks ;;
    vm) wanted=$vm ;;
    list)
        # shellcheck disable=SC2086 # lists of words
        printf '%s\n' $run $test
        exit
        ;;
    *) die "usage: tests/bootstrap.sh demo|test|check|bench|disks|vm|list" ;;
esac
command -v apt-get >/dev/null || die "this is not a Debian machine"
# shellcheck disable=SC2086
absent=$(missing $wanted)
# shellcheck disable=SC2086
[ -z "$absent" ] || install_packages $absent
[ "$1" != check ] || linters
