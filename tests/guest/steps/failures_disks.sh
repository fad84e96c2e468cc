# shellcheck shell=bash disable=SC2154
# quick: no
# limit: 1800
# What a pool of each type says when its disk is pulled or its table lost, as docs/failures.md has it.
# shellcheck source=/dev/null
. "$here/failures.sh"
# The processor is emulated.
configure '[timeouts]' 'refresh = "40s"' 'start = "120s"' 'stop = "60s"'

# --- the partition table is overwritten

# The first of a disk's tables; gpt has another one at its end.
damage() { dd if=/dev/urandom of="$(disk "$1")" bs=512 seek=1 count=40 conv=fsync,notrunc status=none; }

damaged_table_fs() {
    fs_on "$(half disk0 1)"
    damage disk0
    sees fs poolctl refresh fs
    over fs
}
damaged_table_disk() {
    disk_on "$(disk disk1)"
    damage disk1
    by_itself disk inaccessible
    sees disk poolctl stop disk
    sees disk poolctl start disk
    sees disk poolctl build disk
    sees disk poolctl build disk --overwrite
    over disk
}
damaged_table_logical() {
    logical_on "$(half disk2 1)"
    damage disk2
    # Nobody uses the partition, so the kernel has forgotten it.
    sees logical poolctl refresh logical
    sees logical poolctl stop logical
    sees logical poolctl start logical
    poolctl undefine logical
}
damaged_table_zfs() {
    zfs_on "$(disk disk3)"
    damage disk3
    sees zfs poolctl refresh zfs
    over zfs
}
cause damaged_table

# --- the device is pulled

# pulled POOL SERIAL: while the pool is active; and it is back.
pulled() {
    unplug "$2"
    by_itself "$1" inaccessible
    sees "$1" poolctl stop "$1"
    sees "$1" poolctl start "$1"
    plug_in
    sees "$1" poolctl start "$1"
    over "$1"
}

vanishes_fs() {
    fs_on "$(disk scsi0)"
    pulled fs scsi0
}
vanishes_disk() {
    disk_on "$(disk scsi1)"
    pulled disk scsi1
}
vanishes_logical() {
    logical_on "$(disk scsi2)"
    poolctl vol create logical/one 16M
    pulled logical scsi2
}
# A disk of an adapter. It is also the last path of the multipath device.
vanishes_scsi() {
    local path
    two_paths
    drop_path 1
    wait_for 60 "one path is left" has_paths 1
    path=$(paths)
    path=$(readlink -f "/sys/class/block/${path#/dev/}" | grep -o '/host[0-9]*' | head -n 1)
    define scsi --start <<XML
<pool type='scsi'><name>scsi</name><source><adapter type='scsi_host' name='${path#/}'/></source>
<target><path>/dev</path></target></pool>
XML
    poolctl vol show scsi/unit:0:0:0
    echo 1 >"/sys/block/$(basename "$(paths)")/device/delete"
    wait_for 60 "it is no volume" has_volumes scsi ''
    by_itself scsi active
    sees scsi poolctl refresh scsi
    has_volumes scsi unit:0:0:0
}
vanishes_mpath() {
    wait_for 60 "the path is found again" has_paths 1
    hold /dev/mapper/mpatha raw
    echo 1 >"/sys/block/$(basename "$(paths)")/device/delete"
    wait_for 60 "no path is left" has_paths 0
    sees mpath poolctl vol wipe mpath/mpatha --force
    let_go /dev/mapper/mpatha
}
vanishes_zfs() {
    zfs_on "$(disk scsi3)"
    poolctl vol create zfs/one 16M
    unplug scsi3
    by_itself zfs inaccessible
    sees zfs poolctl vol create zfs/two 16M
    sees zfs poolctl stop zfs
}
cause vanishes
