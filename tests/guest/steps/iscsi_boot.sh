# shellcheck shell=bash disable=SC2154
# quick: no
# A pool of a volume group on units of an iSCSI target, and one of a file system on a volume of that, over a reboot.
# boot: cold
# limit: 1200

iqn=iqn.2026-11.org.example:stack
unit=/dev/disk/by-path/ip-127.0.0.1:3270-iscsi-$iqn-lun-0

three_pools_are_made_on_one_another() {
    configure '[timeouts]' 'start = "2min"' 'refresh = "40s"' 'stop = "40s"'
    lio_keep lio_simple $iqn 127.0.0.1:3270 stack 256
    define target --start <<XML
<pool type='iscsi'><name>target</name>
<source><host name='127.0.0.1' port='3270'/><device path='$iqn'/></source><target><path>/dev/disk/by-path</path></target></pool>
XML
    define group --build --start <<XML
<pool type='logical'><name>group</name><source><device path='$unit'/><name>stack</name></source></pool>
XML
    poolctl vol create group/files 128M
    define files --build --start <<XML
<pool type='fs'><name>files</name>
<source><device path='/dev/stack/files'/><format type='ext4'/></source><target><path>/srv/files</path></target></pool>
XML
    poolctl vol create files/one 16M
    for pool in target group files; do poolctl autostart $pool; done
}
step three_pools_are_made_on_one_another

what_others_stand_on_is_not_stopped() {
    refused Busy poolctl stop target 2>"$work/said"
    grep 'stack-files' "$work/said"
    refused Busy poolctl stop group
    mountpoint /srv/files
}
step what_others_stand_on_is_not_stopped

reboot

# Nobody calls poold before its log says so.
all_are_active_without_a_call() {
    local pool
    for pool in target group files; do
        wait_for 180 "its log says so" says "pool-start of pool $pool is done"
    done
    not says calls
    qemu_opens /srv/files/one raw $((16 << 20))
}
# Not by a pipe that grep would leave while the journal is still being written to it.
says() {
    journalctl --quiet --boot -u poold.service -o cat >"$work/journal"
    grep -q "$1" "$work/journal"
}
step all_are_active_without_a_call

they_stop_in_order() {
    refused Busy poolctl stop target
    poolctl stop files
    poolctl stop group
    poolctl stop target
    not test -e "$unit"
    is "$(find /etc/iscsi/nodes /etc/iscsi/ifaces -type f | wc -l)" 0
}
step they_stop_in_order
