# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines have before a trip that does not begin with nothing."""

#: What apt installs beside incus-testbed.
TESTBED = (
    *("autopkgtest", "btrfs-progs", "bubblewrap", "bzip2", "dnsmasq-base"),
    *("incus-base", "iproute2", "mmdebstrap", "nftables"),
    *("python3-argcomplete", "python3-debian", "python3-rich", "python3-sh"),
    *("python3-yaml", "xz-utils", "zstd"),
)
#: What apt installs beside debusine-worker-incus.
WORKER = (
    *TESTBED,
    *("debusine-client", "debusine-worker"),
    *("python3-prometheus-client", "python3-psutil"),
)
