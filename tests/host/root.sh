#!/bin/bash
# Builds the Debian root that the host tier boots, and the systemd-nspawn that boots it, once:
# both are kept in the cache, under the hash of what they are made from. Prints the directory.
#
# mmdebstrap is all that the machine needs. systemd-container is only unpacked: installing it could
# upgrade the machine's own systemd.
set -euo pipefail

SUITE=bookworm
MIRROR=${POOLD_MIRROR:-http://deb.debian.org/debian}
# procps has /bin/kill, for ExecReload=; qemu-utils a process that holds an image as a guest does.
PACKAGES=systemd,systemd-sysv,dbus,polkitd,libpam-systemd,procps,qemu-utils

# shellcheck source=/dev/null
. "$(dirname "$(readlink -f "$0")")/../support/cache.sh"
cache=${POOLD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/poold}
dir=$cache/host-$(digest "$0" <<<"$MIRROR $(dpkg --print-architecture)")

# apt downloads as a user of its own, which cannot write here; root can.
download() {
    (cd "$1" && apt-get -o APT::Sandbox::User=root download systemd-container libsystemd-shared >&2)
}

build() {
    local work=$1
    mkdir "$work/deb"
    download "$work/deb" || { apt-get update >&2 && download "$work/deb"; }
    for deb in "$work"/deb/*.deb; do dpkg-deb -x "$deb" "$work/tools"; done
    rm -r "$work/deb"
    mmdebstrap --quiet --mode=root --variant=minbase --include="$PACKAGES" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$SUITE" "$work/root" "$MIRROR" >&2
    rm -f "$work/root/etc/resolv.conf"
    echo poold-test >"$work/root/etc/hostname"
    # No mirror is asked from within.
    ln -s /dev/null "$work/root/etc/systemd/system/apt-daily.timer"
    ln -s /dev/null "$work/root/etc/systemd/system/apt-daily-upgrade.timer"
    # The journal outlives a reboot.
    mkdir -p "$work/root/var/log/journal"
    chroot "$work/root" useradd --create-home --shell /bin/bash alice
}

cached "$dir" build
echo "$dir"
