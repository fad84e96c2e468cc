# shellcheck shell=bash disable=SC2154
# quick: no
# limit: 1800
# What a pool of each type says when a program or room is missing, as docs/failures.md has it.
# shellcheck source=/dev/null
. "$here/failures.sh"
# The processor is emulated.
configure '[timeouts]' 'refresh = "40s"' 'start = "120s"' 'stop = "60s"'

# --- a program is not there, or does not end

# without PROGRAM COMMAND...: it is not there meanwhile.
without() {
    local path
    path=$(readlink -f "$(command -v "$1")")
    shift
    mv "$path" "$path.away"
    "$@"
    mv "$path.away" "$path"
}

tool_missing_fs() {
    fs_on "$(disk disk0)"
    without blkid sees fs poolctl refresh fs
    poolctl stop fs
    without blkid sees fs poolctl start fs
    without mkfs.ext4 sees fs poolctl build fs --overwrite
    sees fs poolctl start fs
}
tool_missing_disk() {
    disk_on "$(disk disk1)"
    without parted sees disk poolctl refresh disk
    poolctl stop disk
    without parted sees disk poolctl build disk --overwrite
    sees disk poolctl start disk
}
tool_missing_logical() {
    logical_on "$(disk disk2)"
    poolctl vol create logical/one 16M
    without lvm sees logical poolctl refresh logical
    sees logical poolctl refresh logical
    without lvm sees logical poolctl vol create logical/two 16M
    poolctl stop logical
    without lvm sees logical poolctl start logical
    sees logical poolctl start logical
}
tool_missing_zfs() {
    zfs_on "$(disk disk3)"
    without zpool sees zfs poolctl refresh zfs
    sees zfs poolctl refresh zfs
}
cause tool_missing

# hanging PROGRAM COMMAND...: it does not end meanwhile, and takes no notice of a request to end.
hanging() {
    local path
    path=$(readlink -f "$(command -v "$1")")
    shift
    mv "$path" "$path.away"
    printf '%s\n' '#!/bin/sh' 'trap "" TERM INT' 'while :; do sleep 1; done' >"$path"
    chmod 755 "$path"
    "$@"
    mv "$path.away" "$path"
}

tool_hangs_fs() {
    poolctl stop fs
    hanging blkid sees fs poolctl start fs
}
tool_hangs_disk() {
    poolctl stop disk
    hanging parted sees disk poolctl build disk --overwrite
}
tool_hangs_logical() {
    hanging lvm sees logical poolctl refresh logical
}
tool_hangs_zfs() {
    hanging zpool sees zfs poolctl refresh zfs
}
configure '[timeouts]' 'refresh = "10s"' 'start = "10s"'
cause tool_hangs
configure '[timeouts]' 'refresh = "40s"' 'start = "120s"' 'stop = "60s"'

# --- no room

full_fs() {
    sees fs poolctl start fs
    sees fs poolctl vol create fs/large 2G --allocation 2G
}
full_disk() {
    # What was there went before parted hung.
    sees disk poolctl start disk
    sees disk poolctl start disk --build
    sees disk poolctl vol create "disk/$(basename "$(readlink -f "$(disk disk1)")")1" 2G
}
full_logical() {
    sees logical poolctl refresh logical
    sees logical poolctl vol create logical/large 2G
}
full_zfs() {
    sees zfs poolctl refresh zfs
    sees zfs poolctl vol create zfs/large 100G
}
cause full

thin_full_fs() {
    over fs
    fs_on "$(small scsi0)"
    poolctl vol create fs/thin 200M
    head -c 100M /dev/zero >"$work/zeros"
    sees fs poolctl vol upload fs/thin "$work/zeros"
}
thin_full_logical() {
    poolctl vol create logical/store 16M --provisioning thin-pool
    poolctl vol create logical/thin 64M --provisioning thin
    dd if=/dev/zero of=/dev/logical/thin bs=1M count=16 oflag=direct status=none
    sees logical poolctl vol create logical/more 8M --provisioning thin
    sees logical poolctl vol wipe logical/thin
}
thin_full_zfs() {
    over zfs
    zfs_on "$(small scsi1)"
    poolctl vol create zfs/thin 200M --provisioning thin
    head -c 100M /dev/zero >"$work/zeros"
    sees zfs poolctl vol upload zfs/thin "$work/zeros"
}
# small SERIAL: a partition of 96 MiB.
small() {
    parted -s "$(disk "$1")" mklabel gpt mkpart small 1MiB 97MiB
    settle
    echo "$(disk "$1")-part1"
}
cause thin_full
