# shellcheck shell=bash
# Where the parts of the guest are kept, each under the hash of what it is made from:
#
#   rootfs-KEY   the packages in a directory, and the kernel that Debian had then   (1 min, 900 MB)
#   zfs-KEY      ZFS modules for that kernel; only zfs.sh makes them                (4 min, 9 MB)
#   image-KEY    disk image, kernel, initrd and the frozen machine                  (1 min, 900 MB)
#
# Sourced, by image.sh, zfs.sh and run.sh.

guest=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
# shellcheck source=/dev/null
. "$guest/../support/cache.sh"

SUITE=bookworm
MIRROR=${POOLD_MIRROR:-http://deb.debian.org/debian}
SOURCES=(
    "deb $MIRROR $SUITE main contrib"
    "deb $MIRROR $SUITE-updates main contrib"
    "deb $MIRROR-security $SUITE-security main contrib"
)

cache=${POOLD_GUEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/poold/guest}
rootfs=$cache/rootfs-$(digest "$guest"/image/{packages,rootfs.sh} <<<"${SOURCES[*]} $(dpkg --print-architecture)")

# The kernel is known once the rootfs is there, and so is what depends on it.
kernel_version() { cat "$rootfs/kernel"; }
zfs_modules() {
    echo "$cache/zfs-$(digest "$guest/zfs.sh" <<<"${SOURCES[*]} $(kernel_version)")"
}
