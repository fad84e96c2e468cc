# shellcheck shell=bash disable=SC2154
# quick: no
# needs: zfs
# limit: 900
# Pools of the type zfs: a zpool of its own, and a dataset of somebody else's.

zpool_pool() { # NAME SOURCE [OPTION...]
    local name=$1 source=$2
    shift 2
    define "$name" "$@" <<XML
<pool type='zfs'><name>$name</name><source><name>$source</name>$(devices)</source></pool>
XML
}
devices() { for disk in ${DISKS-}; do echo "<device path='$(disk "$disk")'/>"; done; }
imported() { zpool list -H -o name "$1"; }

a_zpool_is_built_of_what_is_empty() {
    modprobe zfs
    mkfs.ext4 -q "$(disk disk0)"
    DISKS="disk0 disk1" zpool_pool tank tank
    refused NotBuilt poolctl start tank
    refused AlreadyBuilt poolctl build tank
    mount "$(disk disk0)" /mnt
    refused Busy poolctl build tank --overwrite
    umount /mnt
    poolctl build tank --overwrite
    # Built, not started.
    not imported tank
    poolctl start tank
    imported tank
    is "$(zpool get -H -o value cachefile tank)" none
    not mountpoint /tank
    pool_is tank active
    has_volumes tank ''
}
step a_zpool_is_built_of_what_is_empty

volumes_are_thick_and_thin() {
    poolctl vol create tank/thick 64M
    poolctl vol create tank/thin 256M --allocation 0
    has_volumes tank thick thin
    is "$(volume tank/thick provisioning) $(volume tank/thin provisioning)" "thick thin"
    poolctl vol create tank/said 64M --provisioning thin
    is "$(zfs get -Hp -o value refreservation tank/said)" 0
    is "$(volume tank/said provisioning)" thin
    refused InvalidArgument poolctl vol create tank/other 64M --provisioning sparse
    poolctl vol delete tank/said
    is "$(bytes /dev/zvol/tank/thick)" $((64 << 20))
    is "$(volume tank/thin capacity)" "$(zfs get -Hp -o value volsize tank/thin)"
    is "$(zfs get -Hp -o value refreservation tank/thin)" 0
    not is "$(zfs get -Hp -o value refreservation tank/thick)" 0
    is "$(zfs get -H -o value volmode tank/thick)" dev
    is "$(volume tank/thick path)" /dev/zvol/tank/thick
    qemu_opens /dev/zvol/tank/thick raw $((64 << 20))
    refused Exists poolctl vol create tank/thick 1M
    refused NoSpace poolctl vol create tank/large 100G
    not zfs list tank/large
    refused InvalidArgument poolctl vol create tank/image 1M --format qcow2
}
step volumes_are_thick_and_thin

data_goes_in_out_and_across() {
    define files --build --start <<XML
<pool type='dir'><name>files</name><target><path>/srv/files</path></target></pool>
XML
    goes_in_and_out tank/thick 64M /dev/zvol/tank/thick
    poolctl vol clone tank/thick files/copy.qcow2 --format qcow2
    poolctl vol clone files/copy.qcow2 tank/back
    cmp "$work/data" /dev/zvol/tank/back
    # In the same zpool blocks are shared.
    poolctl vol clone tank/thick tank/shared
    cmp "$work/data" /dev/zvol/tank/shared
    [ "$(zfs get -Hp -o value used tank/shared)" -lt $((1 << 20)) ]
    refused Busy poolctl vol delete tank/thick
    poolctl vol delete tank/shared
    # Nothing is left of the snapshot that it was made of.
    is "$(zfs list -H -t snapshot -o name)" ''
    zfs snapshot tank/back@one
    zfs snapshot tank/back@two
    zfs clone tank/back@two tank/theirs
    refused Busy poolctl vol delete tank/back
    refused Busy poolctl vol delete tank/back --snapshots
    is "$(zfs list -H -t snapshot -o name tank/back | wc -l)" 2
    zfs destroy tank/theirs
    poolctl vol delete tank/back --snapshots
    is "$(zfs list -H -t snapshot -o name)" ''
}
step data_goes_in_out_and_across

sizes_change() {
    hold /dev/zvol/tank/thick raw
    poolctl vol resize tank/thick 96M
    is "$(bytes /dev/zvol/tank/thick)" $((96 << 20))
    refused Busy poolctl vol resize tank/thick 32M --shrink
    refused Busy poolctl vol wipe tank/thick
    refused Busy poolctl vol delete tank/thick
    refused Busy poolctl stop tank
    let_go /dev/zvol/tank/thick
    # Somebody else made it larger; what the pool knew does not count.
    zfs set volsize=128M tank/thick
    refused InvalidArgument poolctl vol resize tank/thick 100M
    refused InvalidArgument poolctl vol resize tank/thick 32M
    poolctl vol resize tank/thick 32M --shrink
    is "$(zfs get -Hp -o value volsize tank/thick)" $((32 << 20))
    poolctl vol wipe tank/thick
    cmp -n $((32 << 20)) /dev/zero /dev/zvol/tank/thick
}
step sizes_change

what_others_make_appears() {
    zfs create -s -V 16M tank/outside
    wait_for 20 "it is a volume" poolctl vol show tank/outside
    zfs destroy tank/outside
    wait_for 20 "it is none" not poolctl vol show tank/outside
}
step what_others_make_appears

encrypted_volumes_are_larger_than_they_say() {
    printf secret | poolctl secret set --usage-name zvol -
    poolctl vol create tank/locked 32M --encryption luks --secret zvol
    is "$(volume tank/locked capacity)" $((32 << 20))
    is "$(volume tank/locked encrypted)" true
    blkid -p "$(volume tank/locked path)" | grep crypto_LUKS
    poolctl vol delete tank/locked
}
step encrypted_volumes_are_larger_than_they_say

a_stop_exports_what_was_imported() {
    poolctl stop tank
    not imported tank
    poolctl start tank
    has_volumes tank thick thin
    poolctl stop tank
    # One that somebody imported is left to them.
    zpool import -N tank
    poolctl start tank
    poolctl stop tank
    imported tank
    poolctl start tank
    poolctl stop tank --release
    not imported tank
}
step a_stop_exports_what_was_imported

# A zpool that another host had imported last is not taken from it.
a_zpool_of_another_host_is_refused() {
    local path
    path=$(disk disk3)
    parted -s "$path" mklabel gpt mkpart one 1MiB 97MiB mkpart two 101MiB 197MiB
    settle
    cat /sys/module/spl/parameters/spl_hostid >"$work/hostid"
    echo 12345 >/sys/module/spl/parameters/spl_hostid
    zpool create -o cachefile=none -m none foreign "$path-part1"
    zpool sync foreign
    # As it is on the disk while the other host uses it.
    dd if="$path-part1" of="$path-part2" bs=1M conv=fsync status=none
    zpool destroy foreign
    cat "$work/hostid" >/sys/module/spl/parameters/spl_hostid
    define foreign <<XML
<pool type='zfs'><name>foreign</name><source><name>foreign</name><device path='$path-part2'/></source></pool>
XML
    refused Conflict poolctl start foreign
    not imported foreign
    poolctl undefine foreign
    wipefs --all --force --quiet "$path-part1" "$path-part2" "$path"
}
step a_zpool_of_another_host_is_refused

a_dataset_is_a_pool_in_somebodys_zpool() {
    zpool_pool images tank/images
    refused Inaccessible poolctl build images
    zpool import -N tank
    refused NotBuilt poolctl start images
    poolctl build images --start || { poolctl build images; poolctl start images; }
    poolctl vol create images/one 16M
    is "$(bytes /dev/zvol/tank/images/one)" $((16 << 20))
    poolctl stop images
    imported tank
    refused Busy poolctl delete images
    poolctl delete images --volumes
    not zfs list tank/images
    imported tank
    zfs list tank/thick
    poolctl undefine images
    zpool export tank
}
step a_dataset_is_a_pool_in_somebodys_zpool

a_daemon_that_is_killed_leaves_no_half_volume() {
    poolctl start tank
    head -c 128M /dev/zero | tr '\0' x >/srv/files/large.raw
    wait_for 20 "it is a volume" poolctl vol show files/large.raw
    poolctl vol clone files/large.raw tank/half --no-wait
    wait_for 20 "it is being made" zfs list tank/half
    systemctl kill -s KILL poold
    wait_for 60 "it is gone" not zfs list tank/half
    wait_for 60 "poold is back" poolctl vol show tank/thick
    zfs list tank/thick
    poolctl vol delete files/large.raw
}
step a_daemon_that_is_killed_leaves_no_half_volume

a_zpool_is_destroyed_with_its_volumes() {
    pool_is tank inactive || poolctl stop tank
    refused Busy poolctl delete tank
    not imported tank
    poolctl delete tank --volumes
    not imported tank
    not zpool import -d /dev/disk/by-id tank
    poolctl undefine tank
}
step a_zpool_is_destroyed_with_its_volumes
