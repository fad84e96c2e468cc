# shellcheck shell=bash disable=SC2154
# quick: no
# limit: 900
# A pool of the type iscsi whose target has two portals, where multipathd makes one device of the paths to a unit: whoever
# uses the unit uses that.

target=iqn.2026-11.org.example:paths
path=/dev/disk/by-path/ip-127.0.0.1:3260-iscsi-$target-lun-0
map=/dev/mapper/mpatha

has_paths() { is "$(multipath -ll mpatha | grep -c ' active ready running')" "$1"; }

two_paths_to_a_unit_are_one_device() {
    lio_target $target 127.0.0.1:3260 127.0.0.2:3260
    lio_unit $target 0 unit0 64
    lio_switch $target 1
    systemctl start iscsid.socket
    multipathd_runs
    # An emulated machine logs in slowly.
    configure '[timeouts]' 'start = "2min"' 'refresh = "40s"' 'stop = "1min"'
    iscsi_pool paths $target "<host name='127.0.0.1'/><host name='127.0.0.2'/>" "" --start
    wait_for 60 "both are paths of one device" has_paths 2
    has_volumes paths unit:0:0:0
    is "$(volume paths/unit:0:0:0 path)" "$path"
    is "$(poolctl --json vol show paths/unit:0:0:0 | jq '."member-paths" | length')" 2
}
step two_paths_to_a_unit_are_one_device

data_goes_through_it() {
    define files --build --start <<XML
<pool type='dir'><name>files</name><target><path>/srv/files</path></target></pool>
XML
    goes_in_and_out paths/unit:0:0:0 4M /srv/lio/unit0
    poolctl vol clone paths/unit:0:0:0 files/copy.raw
    cmp /srv/files/copy.raw /srv/lio/unit0
    qemu_opens $map raw $((64 << 20))
}
step data_goes_through_it

what_uses_it_uses_the_unit() {
    hold $map raw
    refused Busy poolctl vol wipe paths/unit:0:0:0
    refused Busy poolctl vol upload paths/unit:0:0:0 "$work/data"
    refused Busy poolctl stop paths
    is "$(sessions)" "$target $target"
    let_go $map
}
step what_uses_it_uses_the_unit

a_path_that_is_lost_is_not_missed() {
    nft 'add table ip dead; add chain ip dead in { type filter hook input priority 0; }; add rule ip dead in ip daddr 127.0.0.2 drop'
    poolctl vol wipe paths/unit:0:0:0
    cmp -n $((4 << 20)) /dev/zero /srv/lio/unit0
    wait_for 120 "the path is told to be lost" poolctl_says_so
    pool_is paths active
    nft delete table ip dead
    wait_for 120 "it is back" not poolctl_says_so
    wait_for 60 "both are paths again" has_paths 2
}
poolctl_says_so() { poolctl show paths | grep 'no session at portal 127.0.0.2:3260'; }
step a_path_that_is_lost_is_not_missed

it_goes_with_its_paths() {
    poolctl stop paths
    is "$(sessions)" ""
    wait_for 30 "the device is gone" not test -e $map
    poolctl start paths
    wait_for 60 "both are paths of one device" has_paths 2
    goes_in_and_out paths/unit:0:0:0 4M /srv/lio/unit0
    poolctl stop paths
    poolctl undefine paths
}
step it_goes_with_its_paths
