# shellcheck shell=bash disable=SC2154
# quick: no
# limit: 1200
# Pools of the type iscsi on a target of the kernel's own: what others do to its sessions and units, and a target that dies.

open=iqn.2026-11.org.example:open

a_target_is_there() {
    lio_simple $open '[::1]:3261' open0 16
    systemctl start iscsid.socket
    # An emulated machine logs in slowly.
    configure '[timeouts]' 'start = "2min"' 'refresh = "40s"' 'stop = "1min"'
    define files --build --start <<XML
<pool type='dir'><name>files</name><target><path>/srv/files</path></target></pool>
XML
}
step a_target_is_there

sessions_of_others_stay() {
    iscsiadm -m node -T $open -p '[::1]:3261' -o new
    iscsiadm -m node -T $open -p '[::1]:3261' --login
    iscsi_pool open $open "<host name='::1' port='3261'/>" "" --start
    has_volumes open unit:0:0:0
    is "$(find /etc/iscsi/ifaces -type f | wc -l)" 0
    poolctl stop open
    is "$(sessions)" $open
    poolctl start open
    poolctl stop open --release
    is "$(sessions)" ""
    iscsiadm -m node -T $open -p '[::1]:3261' -o delete
}
step sessions_of_others_stay

records() { find /etc/iscsi/nodes /etc/iscsi/ifaces -type f; }

a_session_whose_records_are_gone_is_ended() {
    poolctl undefine open
    iscsi_pool open $open "<host name='::1' port='3261'/>" \
        "<initiator><iqn name='iqn.2026-11.org.example:own'/></initiator>" --start
    records | xargs rm
    is "$(sessions)" $open
    poolctl stop open
    is "$(sessions)" ""
    is "$(records)" ""
}
step a_session_whose_records_are_gone_is_ended

has_capacity() { is "$(volume "$1" capacity)" "$2"; }

units_come_and_change() {
    poolctl start open
    is "$(volume open/unit:0:0:0 capacity)" $((16 << 20))
    lio_unit $open 5 open5 8
    poolctl refresh open
    has_volumes open unit:0:0:0 unit:0:0:5
    lio_no_unit $open 5
    lio_unit $open 5 other5 24
    poolctl refresh open
    wait_for 20 "the new unit has its own size" has_capacity open/unit:0:0:5 $((24 << 20))
    lio_no_unit $open 5
    poolctl refresh open
    wait_for 20 "what is no more is no volume" has_volumes open unit:0:0:0
}
step units_come_and_change

a_dead_target_makes_its_pool_inaccessible_and_no_other() {
    lio_switch $open 0
    wait_for 30 "the kernel says so" grep -q FAILED /sys/class/iscsi_session/*/state
    wait_for 60 "it is seen, whoever calls" pool_is open inaccessible
    refused Inaccessible poolctl refresh open
    poolctl refresh files
    refused Inaccessible poolctl vol wipe open/unit:0:0:0
    lio_switch $open 1
    wait_for 60 "it is back by itself" pool_is open active
    poolctl vol wipe open/unit:0:0:0
    poolctl stop open
}
step a_dead_target_makes_its_pool_inaccessible_and_no_other

what_cannot_be_reached_is_said() {
    iscsi_pool nobody $open "<host name='127.0.0.1' port='3999'/>"
    refused Inaccessible poolctl start nobody
    pool_is nobody inactive
    is "$(records)" ""
    poolctl undefine nobody
}
step what_cannot_be_reached_is_said
