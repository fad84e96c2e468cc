#!/bin/bash
# setup.sh TIER...: installs what the tiers named need and this machine lacks. Tiers: build run unit bus host guest lint bench fuzz.
#
# Asks nothing and changes nothing when all is there. On a distribution without apt-get it says what to install.
set -euo pipefail

# tiers | a program or file that shows it is there | Debian package
needs='
build,run,unit,bus,host,guest,lint,bench,fuzz | cc      | gcc
build,run,unit,bus,host,guest,lint,bench,fuzz | /usr/include/stdio.h | libc6-dev
run,bus,bench                      | dbus-daemon               | dbus-daemon
run,bus,bench                      | busctl                    | systemd
run,bus,bench                      | /usr/lib/polkit-1/polkitd | polkitd
run,unit,bus,guest,bench,fuzz      | qemu-img                  | qemu-utils
bus,guest                          | qemu-system-x86_64        | qemu-system-x86
unit,bus                           | bximage                   | bximage
unit,bus                           | create_compressed_fs      | cloop-utils
unit,bus                           | genisoimage               | genisoimage
unit,bus,guest,bench               | mkfs.ext4                 | e2fsprogs
unit,bus                           | parted                    | parted
bus                                | sfdisk                    | fdisk
unit,bus                           | cryptsetup                | cryptsetup-bin
unit,bus                           | mkfs.vfat                 | dosfstools
bus,bench                          | mkfs.xfs                  | xfsprogs
bus,bench                          | mkfs.btrfs                | btrfs-progs
bus                                | pvcreate                  | lvm2
bus                                | ceph-mon                  | ceph-mon
bus                                | ceph-osd                  | ceph-osd
bus                                | rbd                       | ceph-common
bus                                | qemu-storage-daemon       | qemu-system-common
bus                                | /usr/share/doc/qemu-block-extra | qemu-block-extra
bus                                | glusterd                  | glusterfs-server
bus                                | /usr/sbin/ip              | iproute2
bus                                | ganesha.nfsd              | nfs-ganesha
bus                                | /usr/share/doc/nfs-ganesha-vfs | nfs-ganesha-vfs
bus                                | rpcbind                   | rpcbind
bus                                | showmount                 | nfs-common
bus                                | mount.cifs                | cifs-utils
bus                                | tgtd                      | tgt
bus                                | iscsi-ls                  | libiscsi-bin
fuzz                               | c++                       | g++
run,bus,bench                      | setpriv                   | util-linux
bus                                | systemd-socket-activate   | systemd
bus,bench                          | bindfs                    | bindfs
bus                                | mergerfs                  | mergerfs
unit,bus,lint                      | xmllint                   | libxml2-utils
unit                               | bzcat                     | bzip2
host,guest                         | mmdebstrap                | mmdebstrap
guest                              | cpio                      | cpio
guest                              | /usr/share/doc/busybox-static | busybox-static
bus,guest                          | /usr/bin/python3          | python3
lint                               | shellcheck                | shellcheck
'

usage() {
    sed -n '2s/^# //p' "$0" >&2
    exit 2
}

present() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

[ $# -gt 0 ] || usage
for tier in "$@"; do
    case $tier in
    build | run | unit | bus | host | guest | lint | bench | fuzz) ;;
    *) usage ;;
    esac
done

# Packages that have what the tiers need and is not here.
missing() {
    local tier tiers thing package
    packages=()
    for tier in "$@"; do
        while IFS='|' read -r tiers thing package; do
            thing=${thing// /} package=${package// /} tiers=,${tiers// /},
            [[ $tiers == *",$tier,"* ]] || continue
            present "$thing" || [[ " ${packages[*]-} " == *" $package "* ]] || packages+=("$package")
        done <<<"$(grep '|' <<<"$needs")"
    done
}
missing "$@"

if ! command -v cargo >/dev/null; then
    echo "setup: no cargo on PATH; install a Rust toolchain (https://rustup.rs)" >&2
    exit 1
fi
[ ${#packages[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "setup: please install what these Debian packages hold, then try again: ${packages[*]}" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup: neither root nor sudo; as root: apt-get install ${packages[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    echo "setup: installing ${packages[*]}" >&2
    local command=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}")
    # A machine that never ran `apt-get update` knows no packages; one that did needs no second one.
    if ! "${command[@]}" >"$log" 2>&1; then
        "${as_root[@]}" apt-get update -qq >"$log" 2>&1 || true
        if ! "${command[@]}" >>"$log" 2>&1; then
            tail -20 "$log" >&2
            echo "setup: apt-get could not install ${packages[*]}" >&2
            exit 1
        fi
    fi
}
install
# One package may have pushed out another of another release (qemu-utils and qemu-system-x86 go together).
missing "$@"
[ ${#packages[@]} = 0 ] || install
