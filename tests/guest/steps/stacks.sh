# shellcheck shell=bash disable=SC2154
# The guest itself: what the storage of each type of pool is made of works here, without poold. When a step of a type
# fails, this file says whose fault it is.

volume_groups() {
    local pv
    pv=$(disk disk0)
    pvcreate -q "$pv"
    vgcreate -q --setautoactivation n vg "$pv"
    lvcreate -q -L 64M -n linear vg
    lvcreate -q -T -L 128M -V 1G -n thin vg/tpool
    lvcreate -q --type snapshot -L 16M -n before vg/linear
    is "$(lvs --reportformat json vg | jq -r '.report[0].lv[].lv_name' | sort | xargs)" "before linear thin tpool"
    qemu_opens /dev/vg/linear raw $((64 << 20))
    vgchange -q -an vg
    vgremove -q -ff -y vg
}

partitions() {
    local path
    path=$(disk disk1)
    parted -s "$path" mklabel gpt mkpart one 1MiB 65MiB
    settle
    qemu_opens "$path-part1" raw $((64 << 20))
}

file_systems() {
    local path kind
    path=$(disk disk2)
    for kind in ext4 xfs btrfs; do
        wipefs -qa "$path"
        "mkfs.$kind" "$path" >/dev/null
        mount -t $kind "$path" /mnt
        umount /mnt
    done
}

scsi_disks_that_come_and_go() {
    local name
    name=$(readlink -f "$(disk scsi1)")
    unplug scsi1
    not test -b "$name"
    plug_in
    disk scsi1
    is "$(scsi_debug num_tgts=1 max_luns=2 dev_size_mb=32 | wc -l)" 2
    rmmod scsi_debug
}

multipath_devices() {
    multipathd_runs
    scsi_debug vpd_use_hostno=0 add_host=2 dev_size_mb=32
    wait_for 60 "both are paths of one device" has_two_paths
    qemu_opens /dev/mapper/mpatha raw $((32 << 20))
    systemctl stop multipathd.service
    multipath -F
    rmmod scsi_debug
}

has_two_paths() { is "$(multipath -ll mpatha | grep -c ' active ready running')" 2; }

an_iscsi_target_on_the_loopback() {
    ip link set lo up
    modprobe -a iscsi_tcp iscsi_target_mod target_core_file
    systemctl start iscsid.socket
    iscsiadm -m iface
}

for stack in volume_groups partitions file_systems scsi_disks_that_come_and_go multipath_devices \
    an_iscsi_target_on_the_loopback; do
    step $stack
done
