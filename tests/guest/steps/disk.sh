# shellcheck shell=bash disable=SC2154
# quick: no
# Pools of the type disk on disks of the guest's own, with udev. (What can be done with each kind of table is the bus tier's.)
# limit: 1200

# disk_pool NAME SERIAL FORMAT [OPTION...]
disk_pool() {
    local name=$1 path
    path=$(disk "$2")
    local format=$3
    shift 3
    define "$name" "$@" <<XML
<pool type='disk'><name>$name</name>
  <source><device path='$path'/><format type='$format'/></source>
  <target><path>/dev</path></target>
</pool>
XML
}

# node SERIAL: the kernel's name of a disk.
node() { basename "$(readlink -f "$(disk "$1")")"; }

# The partitions are the volumes for parted, for the kernel and for udev.
agrees() {
    local pool=$1 serial=$2 name number
    local kernel parted
    name=$(node "$serial")
    settle
    kernel=$(find "/sys/block/$name/" -mindepth 2 -maxdepth 2 -name partition -printf '%h\n' | xargs -rn1 basename | sort | xargs)
    parted=$(parted -sm "/dev/$name" unit B print | sed -n "s/^\([0-9]*\):.*/$name\1/p" | sort | xargs)
    is "$kernel" "$parted"
    # shellcheck disable=SC2086
    has_volumes "$pool" $parted
    for number in ${parted//$name/}; do
        is "$(readlink -f "$(disk "$serial")-part$number")" "/dev/$name$number"
    done
}

a_disk_is_labelled_divided_and_emptied() {
    local name pool=gpt
    name=$(node scsi0)
    disk_pool "$pool" scsi0 gpt --build --start
    pool_is "$pool" active
    refused InvalidArgument poolctl vol create "$pool/data" 64M
    poolctl vol create "$pool/${name}1" 64M
    poolctl vol create "$pool/${name}2" 64M
    agrees "$pool" scsi0
    qemu_opens "/dev/${name}1" raw $((64 << 20))
    poolctl vol resize "$pool/${name}2" 96M
    is "$(bytes "/dev/${name}2")" $((96 << 20))
    agrees "$pool" scsi0

    goes_in_and_out "$pool/${name}1" 64M "/dev/${name}1"
    define copies --build --start <<XML
<pool type='dir'><name>copies</name><target><path>/srv/copies</path></target></pool>
XML
    poolctl vol clone "$pool/${name}1" copies/copy.qcow2 --format qcow2
    poolctl vol clone copies/copy.qcow2 "$pool/${name}3"
    cmp "$work/data" "/dev/${name}3"
    poolctl vol wipe "$pool/${name}1"
    cmp -n $((64 << 20)) /dev/zero "/dev/${name}1"
    poolctl vol delete "$pool/${name}2"
    agrees "$pool" scsi0
    is "$(xmllint --xpath 'count(//freeExtent)' - < <(poolctl dump "$pool"))" 2

    poolctl stop "$pool"
    refused Busy poolctl delete "$pool"
    poolctl delete "$pool" --volumes
    is "$(blkid -p "/dev/$name" || true)" ""
    poolctl undefine "$pool"
    poolctl stop copies
    poolctl delete copies --volumes
    poolctl undefine copies
}
step a_disk_is_labelled_divided_and_emptied

a_disk_with_running_guests_gets_new_volumes() {
    local name before pool=busy
    name=$(node scsi1)
    disk_pool "$pool" scsi1 dos --build --start
    poolctl vol create "$pool/${name}1" 64M
    mkfs.ext4 -q "/dev/${name}1"
    mkdir -p "$work/mounted"
    mount "/dev/${name}1" "$work/mounted"
    poolctl vol create "$pool/${name}2" 64M
    hold "/dev/${name}2" raw
    before=$(stat -c %i "/dev/${name}1" "/dev/${name}2")
    poolctl vol create "$pool/${name}3" 64M
    poolctl vol delete "$pool/${name}3"
    agrees "$pool" scsi1
    is "$(stat -c %i "/dev/${name}1" "/dev/${name}2")" "$before"
    touch "$work/mounted/still-there"
    held "/dev/${name}2"
    refused Busy poolctl vol delete "$pool/${name}1"
    refused Busy poolctl vol delete "$pool/${name}2" --force
    # The machine's own disk grows under it.
    poolctl vol resize "$pool/${name}2" 128M
    is "$(bytes "/dev/${name}2")" $((128 << 20))
    held "/dev/${name}2"

    poolctl stop "$pool"
    refused Busy poolctl build "$pool" --overwrite
    refused Busy poolctl delete "$pool" --volumes
    let_go "/dev/${name}2"
    umount "$work/mounted"
    settle
    poolctl build "$pool" --overwrite
    poolctl start "$pool"
    has_volumes "$pool"
    poolctl stop "$pool"
    poolctl delete "$pool"
    poolctl undefine "$pool"
}
step a_disk_with_running_guests_gets_new_volumes

what_parted_does_appears_by_itself() {
    local name pool=seen
    name=$(node scsi2)
    disk_pool "$pool" scsi2 gpt --build --start
    parted -s "/dev/$name" mkpart outside 10MiB 20MiB
    wait_for 30 "its partition is a volume" has_volumes "$pool" "${name}1"
    parted -s "/dev/$name" rm 1
    wait_for 30 "it is gone" has_volumes "$pool"
    # Each reading is no event that makes the next one.
    settle
    sleep 2
    local last
    last=$(pool_property "$pool" last-refresh)
    sleep 3
    is "$(pool_property "$pool" last-refresh)" "$last"
    unplug scsi2
    wait_for 30 "it is inaccessible" pool_is "$pool" inaccessible
    plug_in
    wait_for 30 "it is back" pool_is "$pool" active
    poolctl stop "$pool"
    poolctl delete "$pool"
    poolctl undefine "$pool"
}
step what_parted_does_appears_by_itself

a_creation_that_is_killed_leaves_nothing() {
    local name pool=killed left
    name=$(node scsi3)
    disk_pool "$pool" scsi3 gpt --build --start
    poolctl vol create "$pool/${name}1" 64M
    head -c 400M /dev/zero >"$work/large"
    define files --build --start <<XML
<pool type='dir'><name>files</name><target><path>/srv/files</path></target></pool>
XML
    poolctl vol create files/large.raw 400M --allocation 400M
    # Somewhere in the copying, after the partition was made.
    poolctl vol clone files/large.raw "$pool/${name}2" &
    wait_for 30 "its partition is made" test -b "/dev/${name}2"
    kill -9 "$(daemon_pid)"
    wait || true
    wait_for 60 "it is taken back" not test -e "/sys/class/block/${name}2"
    wait_for 30 "the pool is active" pool_is "$pool" active
    agrees "$pool" scsi3
    left=$(find /var/lib/poold/jobs -name '*.jsonl' | wc -l)
    is "$left" 0
    poolctl stop files
    poolctl delete files --volumes
    poolctl undefine files
    poolctl stop "$pool"
    poolctl delete "$pool" --volumes
    poolctl undefine "$pool"
}
step a_creation_that_is_killed_leaves_nothing

# Nothing of the usual size fits: a table counts in sectors, and so does the kernel's BLKPG in bytes.
a_disk_with_large_sectors() {
    local name pool=large
    name=$(basename "$(scsi_debug num_tgts=1 sector_size=4096 dev_size_mb=128)")
    is "$(blockdev --getss "/dev/$name")" 4096
    define "$pool" --build --start <<XML
<pool type='disk'><name>$pool</name><source><device path='/dev/$name'/><format type='gpt'/></source>
  <target><path>/dev</path></target></pool>
XML
    poolctl vol create "$pool/${name}1" 32M
    poolctl vol create "$pool/${name}2" 16M
    is "$(bytes "/dev/${name}1")" $((32 << 20))
    is "$(parted -sm "/dev/$name" unit B print | sed -n 's/^1:[^:]*:[^:]*:\([0-9]*\)B.*/\1/p')" $((32 << 20))
    poolctl vol resize "$pool/${name}2" 32M
    is "$(bytes "/dev/${name}2")" $((32 << 20))
    partprobe "/dev/$name"
    settle
    is "$(bytes "/dev/${name}1") $(bytes "/dev/${name}2")" "$((32 << 20)) $((32 << 20))"
    qemu_opens "/dev/${name}1" raw $((32 << 20))
    poolctl stop "$pool"
    poolctl delete "$pool" --volumes
    poolctl undefine "$pool"
    settle
    modprobe -r scsi_debug
}
step a_disk_with_large_sectors

# The format lvm2: no table and no volumes, for a volume group to be made on it.
a_disk_that_is_a_physical_volume() {
    local pool=pv
    disk_pool "$pool" disk0 lvm2
    refused NotBuilt poolctl start "$pool"
    poolctl build "$pool"
    is "$(pvs --noheadings -o pv_name,vg_name "$(disk disk0)" | xargs)" "$(readlink -f "$(disk disk0)")"
    refused AlreadyBuilt poolctl build "$pool"
    poolctl start "$pool"
    has_volumes "$pool"
    refused NotSupported poolctl vol create "$pool/vda1" 16M
    poolctl stop "$pool"
    vgcreate -q --setautoactivation n on-it "$(disk disk0)"
    # LVM refuses what is in a group.
    refused ToolFailed poolctl delete "$pool"
    vgremove -q on-it
    poolctl delete "$pool"
    not pvs "$(disk disk0)"
    poolctl undefine "$pool"
}
step a_disk_that_is_a_physical_volume

a_multipath_map_is_a_disk_too() {
    local name=mpatha-part1 device=/dev/mapper/mpatha-part1
    scsi_debug num_tgts=1 vpd_use_hostno=0 add_host=2 dev_size_mb=64
    multipathd_runs
    wait_for 60 "there is a map" test -e /dev/mapper/mpatha
    define mp --build --start <<XML
<pool type='disk'><name>mp</name><source><device path='/dev/mapper/mpatha'/><format type='gpt'/></source>
  <target><path>/dev</path></target></pool>
XML
    poolctl vol create "mp/$name" 32M
    is "$(bytes "$device")" $((32 << 20))
    is "$(volume "mp/$name" path)" "$device"
    poolctl vol resize "mp/$name" 40M
    is "$(bytes "$device")" $((40 << 20))
    qemu_opens "$device" raw $((40 << 20))
    hold "$device" raw
    refused Busy poolctl vol delete "mp/$name"
    let_go "$device"
    poolctl vol delete "mp/$name"
    wait_for 30 "its map is gone" not test -e "$device"
    poolctl stop mp
    poolctl delete mp
    poolctl undefine mp
    systemctl stop multipathd
}
step a_multipath_map_is_a_disk_too
