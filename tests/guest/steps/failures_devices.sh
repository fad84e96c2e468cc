# shellcheck shell=bash disable=SC2154
# quick: no
# limit: 1800
# What a pool of each type says when a device answers nothing, as docs/failures.md has it.
# shellcheck source=/dev/null
. "$here/failures.sh"
# The processor is emulated.
configure '[timeouts]' 'refresh = "40s"' 'start = "120s"' 'stop = "60s"'

# --- a member is missing

member_missing_logical() {
    logical_on "$(disk scsi0)" "$(disk scsi1)"
    poolctl vol create logical/one 16M
    unplug scsi1
    by_itself logical inaccessible
    sees logical poolctl stop logical
    sees logical poolctl start logical
    plug_in
    sees logical poolctl start logical
    over logical
}
member_missing_mpath() {
    two_paths
    drop_path 1
    wait_for 60 "one path is left" has_paths 1
    sees mpath poolctl vol wipe mpath/mpatha
}
member_missing_zfs() {
    zfs_on "$(disk scsi2)" "$(disk scsi3)"
    poolctl stop zfs
    unplug scsi3
    sees zfs poolctl start zfs
    plug_in
    sees zfs poolctl start zfs
    over zfs
}
cause member_missing

# --- it is suspended

# slow SERIAL: a device on the disk that can be suspended.
slow() {
    dmsetup create "slow-$1" --table "0 $(blockdev --getsz "$(disk "$1")") linear $(disk "$1") 0"
    settle
    echo "/dev/mapper/slow-$1"
}
# while_suspended POOL NAME: a refresh while it is, and what comes afterwards.
while_suspended() {
    dmsetup suspend --nolockfs --noflush "$2"
    sees "$1" poolctl refresh "$1"
    dmsetup resume "$2"
    by_itself "$1" active
}

suspended_fs() {
    fs_on "$(slow disk0)"
    while_suspended fs slow-disk0
    over fs
    dmsetup remove slow-disk0
}
suspended_disk() {
    disk_on "$(slow disk1)"
    while_suspended disk slow-disk1
    over disk
    dmsetup remove slow-disk1
}
suspended_logical() {
    logical_on "$(slow disk2)"
    poolctl vol create logical/one 16M
    while_suspended logical slow-disk2
    dmsetup suspend --noflush logical-one
    sees logical poolctl vol wipe logical/one
    dmsetup resume logical-one
    over logical
    dmsetup remove slow-disk2
}
suspended_mpath() {
    dmsetup suspend --noflush mpatha
    sees mpath poolctl vol wipe mpath/mpatha
    dmsetup resume mpatha
}
suspended_zfs() {
    zfs_on "$(slow disk3)"
    poolctl vol create zfs/one 16M
    dmsetup suspend --noflush slow-disk3
    sees zfs poolctl refresh zfs
    dmsetup resume slow-disk3
    by_itself zfs active
    over zfs
    dmsetup remove slow-disk3
}
cause suspended
