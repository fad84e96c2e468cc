# shellcheck shell=bash
# quick: no
# The volumes of pools of the type logical, as LVM's own tools see them.
# limit: 1500
# shellcheck disable=SC2154 # work

mib() { echo $(($1 << 20)); }

# lvm_has GROUP NAME...: the volumes that LVM lists, hidden ones not, in this order.
lvm_has() {
    local group=$1
    shift
    is "$(lvs --noheadings -o lv_name "$group" 2>/dev/null | xargs)" "$*"
}
# lv GROUP/NAME FIELD: what LVM says of one.
lv() { lvs --noheadings --nosuffix --units b -o "$2" "$1" 2>/dev/null | xargs; }
group_is() { is "$(vgs --noheadings -o "$2" "$1" 2>/dev/null | xargs)" "$3"; }

a_group_is_built_and_started() {
    # The processor is emulated.
    configure '[timeouts]' 'refresh = "60s"' 'start = "120s"' 'stop = "60s"'
    group_xml vg disk0 disk1 | define vg
    pool_is vg inactive
    refused NotBuilt poolctl start vg
    poolctl build vg
    group_is vg pv_count 2
    group_is vg vg_autoactivation ""
    group_is vg vg_tags ""
    is "$(pvs --noheadings -o vg_name "$(disk disk0)" | xargs)" vg
    refused AlreadyBuilt poolctl build vg
    poolctl start vg
    pool_is vg active
    has_volumes vg
    is "$(pool_property vg capacity)" "$(vgs --noheadings --nosuffix --units b -o vg_size vg | xargs)"
}
step a_group_is_built_and_started

volumes_of_every_kind_are_made() {
    poolctl vol create vg/lin 64M
    is "$(bytes /dev/vg/lin)" "$(mib 64)"
    is "$(volume vg/lin provisioning)" thick
    is "$(volume vg/lin key)" "$(lv vg/lin lv_uuid)"
    is "$(lv vg/lin lv_tags)" ""
    qemu_opens /dev/vg/lin raw "$(mib 64)"
    refused Exists poolctl vol create vg/lin 64M
    # Of a device udev says who may use it.
    refused InvalidArgument poolctl vol create vg/mine 16M --mode 0600

    poolctl vol create vg/snap --backing vg/lin --allocation 16M
    is "$(volume vg/snap provisioning)" snapshot
    is "$(volume vg/snap origin)" lin
    is "$(volume vg/snap capacity)" "$(mib 64)"
    is "$(volume vg/snap allocation)" "$(mib 16)"
    is "$(lv vg/snap origin)" lin
    poolctl vol dump vg/snap | grep -q '<path>/dev/vg/lin</path>'

    poolctl vol create vg/sparse 256M --allocation 16M
    is "$(volume vg/sparse provisioning)" sparse
    is "$(bytes /dev/vg/sparse)" "$(mib 256)"
    is "$(lv vg/sparse lv_size)" "$(mib 16)"

    poolctl vol create vg/store 32M --provisioning thin-pool
    is "$(volume vg/store provisioning)" thin-pool
    poolctl vol create vg/thin 128M --thin-pool store
    is "$(volume vg/thin thin-pool)" store
    is "$(bytes /dev/vg/thin)" "$(mib 128)"
    cat >"$work/thin.xml" <<XML
<volume><name>thin2</name><capacity unit='M'>48</capacity>
  <provisioning xmlns='https://poold.org/xmlns/volume/1' type='thin'/></volume>
XML
    poolctl vol create vg --xml "$work/thin.xml"
    is "$(lv vg/thin2 pool_lv)" store
    poolctl vol create vg/thin-snap --backing vg/thin
    is "$(volume vg/thin-snap provisioning)" thin
    is "$(volume vg/thin-snap origin)" thin
    test -b /dev/vg/thin-snap
    has_volumes vg lin snap sparse store thin thin-snap thin2
    lvm_has vg lin snap sparse store thin thin-snap thin2
    refused NotSupported poolctl vol download vg/store "$work/nothing"
    refused NotSupported poolctl vol wipe vg/sparse
    refused NoSpace poolctl vol create vg/huge 100G
    lvm_has vg lin snap sparse store thin thin-snap thin2
}
step volumes_of_every_kind_are_made

an_encrypted_volume_is_one_for_qemu() {
    printf secret >"$work/passphrase"
    poolctl secret set --usage-name lv "$work/passphrase"
    poolctl vol create vg/locked 32M --encryption luks --secret lv
    # With its header, in extents of 4 MiB.
    is "$(bytes /dev/vg/locked)" "$(mib 36)"
    is "$(volume vg/locked capacity)" "$(mib 34)"
    qemu-img info --output=json /dev/vg/locked | jq -e '.format == "luks"'
    is "$(volume vg/locked encrypted)" true
    poolctl vol delete vg/locked
}
step an_encrypted_volume_is_one_for_qemu

content_goes_in_out_and_across() {
    goes_in_and_out vg/lin 64M /dev/vg/lin
    define files --build --start <<XML
<pool type='dir'><name>files</name><target><path>/srv/files</path></target></pool>
XML
    poolctl vol clone vg/lin files/copy.qcow2 --format qcow2
    qemu-img compare -f raw -F qcow2 /dev/vg/lin /srv/files/copy.qcow2
    poolctl vol clone files/copy.qcow2 vg/again --format raw
    cmp "$work/data" /dev/vg/again
    is "$(lv vg/again lv_tags)" ""
    poolctl vol delete vg/again
    rm "$work/data"
}
step content_goes_in_out_and_across

sizes_change() {
    poolctl vol create vg/grow 16M
    hold /dev/vg/grow raw
    poolctl vol resize vg/grow 32M
    is "$(bytes /dev/vg/grow)" "$(mib 32)"
    refused Busy poolctl vol resize vg/grow 16M --shrink
    refused Busy poolctl vol delete vg/grow
    let_go /dev/vg/grow
    refused InvalidArgument poolctl vol resize vg/grow 16M
    poolctl vol resize vg/grow 16M --shrink
    is "$(lv vg/grow lv_size)" "$(mib 16)"
    # LVM does not do that while there are snapshots.
    refused Busy poolctl vol resize vg/lin 80M
    poolctl vol resize vg/thin 160M
    is "$(bytes /dev/vg/thin)" "$(mib 160)"
    printf data | dd of=/dev/vg/grow conv=notrunc
    poolctl vol wipe vg/grow
    cmp -n "$(mib 16)" /dev/vg/grow /dev/zero
    poolctl vol delete vg/grow
    not test -e /dev/vg/grow
    lvm_has vg lin snap sparse store thin thin-snap thin2
}
step sizes_change

what_others_need_stays() {
    refused Busy poolctl vol delete vg/lin
    refused Busy poolctl vol delete vg/store
    poolctl vol delete vg/snap
    poolctl vol delete vg/sparse
    poolctl vol delete vg/thin
    # It stands alone.
    test -b /dev/vg/thin-snap
    lvm_has vg lin store thin-snap thin2
}
step what_others_need_stays

a_full_thin_pool_takes_no_more_volumes() {
    dd if=/dev/zero of=/dev/vg/thin2 bs=1M count=31 oflag=direct
    poolctl refresh vg
    is "$(volume vg/store data-used)" "$(lv vg/store data_percent | tr -d .)"
    refused NoSpace poolctl vol create vg/more 8M --provisioning thin
    refused NoSpace poolctl vol create vg/more --backing vg/thin2
    lvm_has vg lin store thin-snap thin2
    poolctl vol resize vg/store 64M
    poolctl vol create vg/more 8M --provisioning thin
    poolctl vol delete vg/more
}
step a_full_thin_pool_takes_no_more_volumes

what_is_made_outside_appears_by_itself() {
    lvcreate -y -L 8M -n outside vg
    wait_for 60 "it is a volume" volume vg/outside name
    is "$(volume vg/outside capacity)" "$(mib 8)"
    lvextend -L 16M vg/outside
    wait_for 60 "it is larger" outside_has "$(mib 16)"
    lvremove -y vg/outside
    wait_for 60 "it is gone" not poolctl vol show vg/outside
}
outside_has() { is "$(volume vg/outside capacity)" "$1"; }
step what_is_made_outside_appears_by_itself

# Clones are slow enough to be killed in the middle of.
a_volume_that_was_being_made_goes_with_the_daemon() {
    local pid
    poolctl vol create vg/source 300M
    poolctl --no-wait vol clone vg/source half
    wait_for 60 "LVM has it" test -e /dev/vg/half
    pid=$(daemon_pid)
    kill -9 "$pid"
    wait_for 60 "another daemon" not_pid "$pid"
    poolctl list
    wait_for 60 "it is gone" not lvs vg/half
    has_volumes vg lin source store thin-snap thin2
    pool_is vg active
    poolctl vol delete vg/source
}
not_pid() { [ "$(daemon_pid)" != 0 ] && [ "$(daemon_pid)" != "$1" ]; }
step a_volume_that_was_being_made_goes_with_the_daemon

a_group_is_destroyed() {
    refused Active poolctl delete vg
    poolctl stop vg
    not test -e /dev/vg/lin
    is "$(lvs --noheadings -o lv_active vg | xargs)" ""
    refused Busy poolctl delete vg
    poolctl delete vg --volumes
    not vgs vg
    not pvs "$(disk disk0)"
    refused NotBuilt poolctl start vg
    poolctl undefine vg
    not poolctl show vg
}
step a_group_is_destroyed
