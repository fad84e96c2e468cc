# shellcheck shell=bash disable=SC2154
# What the steps that are about all types of pools know of each. A row is three functions and a word in TYPES:
#
#   TYPE_make POOL N  defines, builds and starts a pool on the first or second (N) storage of its own, with a raw volume:
#                     made there, or a disk that is there
#   TYPE_path POOL    the path of that volume
#   TYPE_name POOL    its name
#
# The first storage must be there again after a reboot. Each type has disks of its own; scsi3 is nobody's. Of types in
# SINGLE a host has one pool.

TYPES=(dir fs netfs logical disk scsi mpath iscsi zfs)
# shellcheck disable=SC2034 # of steps
SINGLE=(mpath)

dir_make() {
    define "$1" --build --start <<XML
<pool type='dir'><name>$1</name><target><path>/srv/$1</path></target></pool>
XML
    poolctl vol create "$1/one" 64M
}
dir_path() { echo "/srv/$1/one"; }
dir_name() { echo one; }

fs_make() {
    define "$1" --build --start <<XML
<pool type='fs'><name>$1</name>
<source><device path='$(half disk0 "$2")'/><format type='ext4'/></source><target><path>/srv/$1</path></target></pool>
XML
    mountpoint "/srv/$1"
    poolctl vol create "$1/one" 64M
}
fs_path() { echo "/srv/$1/one"; }
fs_name() { echo one; }

# On a server in this guest, which comes up again with it.
netfs_make() {
    ip link set lo up
    mkdir -p "/export/$1"
    echo "/export/$1 127.0.0.1(rw,sync,no_subtree_check,no_root_squash)" >>/etc/exports
    # A host that is its own client must not end its server before it has unmounted.
    mkdir -p /etc/systemd/system/nfs-server.service.d
    printf '[Unit]\nBefore=remote-fs-pre.target\n' >/etc/systemd/system/nfs-server.service.d/order.conf
    systemctl --quiet enable rpcbind.service nfs-server.service
    systemctl start rpcbind.service nfs-server.service
    exportfs -r
    # The first mount loads modules, for half a minute on a busy machine.
    mount -t nfs "127.0.0.1:/export/$1" /mnt
    umount /mnt
    define "$1" --build --start <<XML
<pool type='netfs'><name>$1</name>
<source><host name='127.0.0.1'/><dir path='/export/$1'/><format type='nfs'/></source><target><path>/srv/$1</path></target></pool>
XML
    mountpoint "/srv/$1"
    poolctl vol create "$1/one" 64M
}
netfs_path() { echo "/srv/$1/one"; }
netfs_name() { echo one; }

# half SERIAL N: the first or second half of a disk.
half() {
    local path
    path=$(disk "$1")
    if [ ! -b "$path-part2" ]; then
        parted -s "$path" mklabel gpt mkpart one 1MiB 512MiB mkpart two 512MiB 1023MiB
        settle
    fi
    echo "$path-part$2"
}

logical_make() {
    define "$1" --build --start <<XML
<pool type='logical'><name>$1</name>
<source><device path='$(half disk1 "$2")'/><name>vg-$1</name></source></pool>
XML
    poolctl vol create "$1/one" 64M
}
logical_path() { echo "/dev/vg-$1/one"; }
logical_name() { echo one; }

iscsi_make() {
    lio_keep lio_simple "$(iscsi_target "$1")" "127.0.0.1:328$2" "$1" 64
    define "$1" --start <<XML
<pool type='iscsi'><name>$1</name><source><host name='127.0.0.1' port='328$2'/><device path='$(iscsi_target "$1")'/></source>
<target><path>/dev/disk/by-path</path></target></pool>
XML
}
iscsi_target() { echo "iqn.2026-11.org.example:$1"; }
iscsi_path() { echo /dev/disk/by-path/ip-127.0.0.1:328?-iscsi-"$(iscsi_target "$1")"-lun-0; }
iscsi_name() { echo unit:0:0:0; }

disk_make() {
    local disks=(disk2 disk3) path
    path=$(disk "${disks[$2 - 1]}")
    define "$1" --build --start <<XML
<pool type='disk'><name>$1</name><source><device path='$path'/><format type='gpt'/></source><target><path>/dev</path></target></pool>
XML
    poolctl vol create "$1/$(basename "$(readlink -f "$path")")1" 64M
}
disk_path() { echo "/dev/$(disk_name "$1")"; }
disk_name() { poolctl --json vol list "$1" | jq -r '.[0].name'; }

# Two adapters with one disk, in memory, from now on and after each boot.
adapters_in_memory() {
    [ ! -e /etc/systemd/system/adapters.service ] || return 0
    # Before iSCSI's sessions, which are adapters too: theirs have the numbers after it.
    cat >/etc/systemd/system/adapters.service <<UNIT
[Unit]
Before=poold.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/modprobe scsi_debug delay=0 vpd_use_hostno=0 add_host=2 dev_size_mb=64
[Install]
WantedBy=multi-user.target
UNIT
    systemctl --quiet --no-reload enable adapters.service
    systemctl start adapters.service
    settle
}

scsi_make() {
    local host
    if [ "$2" = 1 ]; then
        adapters_in_memory
        host=$(echo /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*)
    else
        host=$(dirname "$(grep -l virtio_scsi /sys/class/scsi_host/host*/proc_name)")
    fi
    define "$1" --start <<XML
<pool type='scsi'><name>$1</name><source><adapter type='scsi_host' name='$(basename "$host")'/></source>
<target><path>/dev</path></target></pool>
XML
}
scsi_path() { echo "/dev/$(basename /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block/*)"; }
scsi_name() { echo unit:0:0:0; }

mpath_make() {
    adapters_in_memory
    multipathd_runs LIO-ORG
    systemctl --quiet --no-reload enable multipathd.service
    define "$1" --start <<XML
<pool type='mpath'><name>$1</name><target><path>/dev/mapper</path></target></pool>
XML
}
mpath_path() { echo /dev/mapper/mpatha; }
mpath_name() { echo mpatha; }

zfs_make() {
    modprobe zfs
    define "$1" --build --start <<XML
<pool type='zfs'><name>$1</name><source><device path='$(half scsi0 "$2")'/><name>tank-$1</name></source></pool>
XML
    poolctl vol create "$1/one" 64M
}
zfs_path() { echo "/dev/zvol/tank-$1/one"; }
zfs_name() { echo one; }

# each STEP [FUNCTION [ARGUMENT...]]: the step for each type, STEP.TYPE, with the type as the last argument.
each() {
    local type name=$1
    [ $# = 1 ] || shift
    for type in "${TYPES[@]}"; do step "$name.$type" where_there_is_it "$@" "$type"; done
}
where_there_is_it() {
    if [ "${*: -1}" = zfs ] && ! modinfo -n zfs; then skip "no ZFS modules: make test-vm-zfs builds them"; fi
    "$@"
}

# is_usable TYPE POOL: the pool is active, its volume listed, and of use to a real QEMU.
is_usable() {
    local path volume
    pool_is "$2" active
    volume=$2/$("$1_name" "$2")
    # What others make comes when they have made it.
    wait_for 60 "its volume is there" poolctl vol show "$volume"
    path=$("$1_path" "$2")
    is "$(volume "$volume" path)" "$path"
    qemu_opens "$path" raw "$(volume "$volume" capacity)"
}
