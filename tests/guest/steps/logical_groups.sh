# shellcheck shell=bash
# quick: no
# Volume groups as pools: started, stopped, adopted, and which of them are refused.
# limit: 1500
# shellcheck disable=SC2154 # work

# sources: the names of volume groups that pools could be made from.
sources() {
    busctl --json=short call org.poold1 /org/poold1 org.poold1.Manager FindSources 'sa{sv}a{sv}' logical 0 0 |
        jq -r '.data[0][]."source-name".data' | xargs
}

a_group_has_a_volume_and_a_thin_snapshot() {
    # The processor is emulated.
    configure '[timeouts]' 'refresh = "60s"' 'start = "120s"' 'stop = "60s"'
    group_xml vg disk0 disk1 | define vg --build --start
    poolctl vol create vg/lin 64M
    poolctl vol create vg/store 32M --provisioning thin-pool
    poolctl vol create vg/thin 64M --provisioning thin
    poolctl vol create vg/thin-snap --backing vg/thin
    has_volumes vg lin store thin thin-snap
}
step a_group_has_a_volume_and_a_thin_snapshot

a_group_stops_and_starts_again() {
    hold /dev/vg/lin raw
    refused Busy poolctl stop vg 2>"$work/said"
    grep -q "volume lin: qemu-system-x86, process [0-9]* uses it" "$work/said"
    test -b /dev/vg/thin
    let_go /dev/vg/lin
    poolctl stop vg
    not test -e /dev/vg/lin
    is "$(lvs --noheadings -o lv_active vg | xargs)" ""
    poolctl start vg
    test -b /dev/vg/lin
    # With what LVM passes over by itself.
    lvchange -ky -an vg/thin-snap
    poolctl stop vg
    poolctl start vg
    test -b /dev/vg/thin-snap
}
step a_group_stops_and_starts_again

an_adopted_group_is_left_as_it_was() {
    poolctl stop vg
    vgchange -ay vg
    poolctl start vg
    poolctl stop vg
    test -b /dev/vg/lin
    poolctl start vg
    poolctl stop vg --release
    not test -e /dev/vg/lin
    poolctl start vg
}
step an_adopted_group_is_left_as_it_was

groups_that_are_not_ours_are_refused() {
    poolctl stop vg
    vgexport vg
    refused Conflict poolctl start vg
    vgimport vg
    poolctl start vg
    poolctl stop vg
    # Another host's; once it is, nobody here can change it.
    vgcreate -y alien "$(disk scsi3)"
    vgchange -y --systemid other alien
    group_xml alien | define alien
    refused Conflict poolctl start alien
    poolctl undefine alien
    wipefs --all --force "$(disk scsi3)"
    settle
    is "$(sources)" vg
}
step groups_that_are_not_ours_are_refused

a_group_that_is_not_whole_is_refused() {
    group_xml broken scsi0 scsi1 | define broken --build --start
    poolctl vol create broken/v 16M
    poolctl stop broken
    unplug scsi1
    refused Inaccessible poolctl start broken
    plug_in
    poolctl start broken
    has_volumes broken v
    poolctl stop broken
    refused Busy poolctl delete broken
    poolctl delete broken --volumes
    not vgs broken
    not pvs "$(disk scsi0)"
    poolctl undefine broken
}
step a_group_that_is_not_whole_is_refused

# Another group's device that answers nothing.
a_dead_device_stops_only_its_own_group() {
    local size
    size=$(blockdev --getsz "$(disk scsi2)")
    # Where the disk itself is not taken for the physical volume.
    dmsetup create lazy --table "0 $((size - 4096)) linear $(disk scsi2) 4096"
    pvcreate -y /dev/mapper/lazy
    vgcreate dead /dev/mapper/lazy
    settle
    group_xml dead | define dead
    poolctl start dead
    dmsetup suspend lazy
    poolctl start vg
    poolctl vol create vg/beside 8M
    poolctl vol delete vg/beside
    poolctl stop vg
    refused Inaccessible poolctl refresh dead
    dmsetup resume lazy
    poolctl refresh dead
    pool_is dead active
    poolctl stop dead
    poolctl delete dead
    poolctl undefine dead
    dmsetup remove lazy
}
step a_dead_device_stops_only_its_own_group

devices_with_data_or_in_use_are_not_built_on() {
    mkfs.ext4 -q "$(disk scsi3)"
    group_xml new scsi3 | define new
    refused AlreadyBuilt poolctl build new
    mount "$(disk scsi3)" /mnt
    refused Busy poolctl build new --overwrite
    umount /mnt
    blkid -o value -s TYPE "$(disk scsi3)" | grep -q ext4
    poolctl build new --overwrite
    poolctl start new
    poolctl stop new
    poolctl delete new
    # Another group's.
    vgcreate -y others "$(disk scsi3)"
    refused AlreadyBuilt poolctl build new
    vgremove others
    pvremove "$(disk scsi3)"
    poolctl undefine new
}
step devices_with_data_or_in_use_are_not_built_on

a_group_inside_a_volume_is_not_seen() {
    poolctl start vg
    poolctl vol create vg/guest 32M
    vgcreate --config 'devices{scan_lvs=1}' inner /dev/vg/guest
    settle
    group_xml inner | define inner
    refused NotBuilt poolctl start inner
    is "$(sources)" vg
    poolctl undefine inner
    vgremove --config 'devices{scan_lvs=1}' inner
    poolctl vol delete vg/guest
}
step a_group_inside_a_volume_is_not_seen
