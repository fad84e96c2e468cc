# shellcheck shell=bash disable=SC2154
# limit: 1200
# Pools of the type iscsi on targets of the kernel's own: logging in, data, passwords.

# One that only poold's initiator may use, at two portals, and one that everybody may.
main=iqn.2026-11.org.example:main open=iqn.2026-11.org.example:open
initiator=iqn.2026-11.org.example:poold
password=Correct.Horse.7

by_path() { echo "/dev/disk/by-path/ip-$1-iscsi-$2-lun-$3"; }
chap() { echo "<auth type='chap' username='alice'><secret usage='$1'/></auth>"; }

# What iscsiadm is called with and complains of, whoever calls it. The first login after /var/tmp/stumble is made is one that
# failed in passing at san2, which cannot be had for the asking.
watch_iscsiadm() {
    mv /usr/sbin/iscsiadm /usr/sbin/iscsiadm.real
    cat >/usr/sbin/iscsiadm <<'SH'
#!/bin/sh
echo "$@" >>/var/tmp/arguments
case "$*" in
*--login)
    if rm /var/tmp/stumble 2>/dev/null; then
        /usr/sbin/iscsiadm.real "$@" -p 127.0.0.1:3260
        echo "iscsiadm: Could not login to [iface: $6, target: $4, portal: san2,3260]." >&2
        echo "iscsiadm: initiator reported error (5 - encountered iSCSI login failure)" >&2
        exit 5
    fi
    ;;
esac
/usr/sbin/iscsiadm.real "$@" 2>/var/tmp/complaint.$$
status=$?
tee -a /var/tmp/complaints </var/tmp/complaint.$$ >&2
exit $status
SH
    chmod +x /usr/sbin/iscsiadm
}

targets_are_there() {
    lio_target $main 127.0.0.1:3260 127.0.0.2:3260
    lio_unit $main 0 main0 64
    lio_unit $main 1 main1 64
    lio_unit $main 2 main2 32
    lio_only $main $initiator alice $password 0 1 2
    lio_switch $main 1
    lio_target $open '[::1]:3261'
    lio_unit $open 0 open0 16
    lio_switch $open 1
    systemctl start iscsid.socket
    watch_iscsiadm
    # An emulated machine logs in slowly.
    configure '[timeouts]' 'start = "2min"' 'refresh = "40s"' 'stop = "1min"'
}
step targets_are_there

targets_are_found_behind_a_portal() {
    busctl --json=short call org.poold1 /org/poold1 org.poold1.Manager FindSourcesXml 'ssa{sv}' iscsi \
        "<source><host name='127.0.0.1'/></source>" 0 | jq -r '.data[0]' | tee "$work/sources"
    is "$(xmllint --xpath "/sources/source/device/@path" "$work/sources" | xargs)" "path=$main path=$open"
    is "$(xmllint --xpath "/sources/source/host/@name" "$work/sources" | xargs)" "name=127.0.0.1 name=127.0.0.2 name=::1"
    is "$(find /etc/iscsi/nodes /etc/iscsi/send_targets -type f 2>/dev/null | wc -l)" 0
}
step targets_are_found_behind_a_portal

units_are_volumes_over_both_portals() {
    printf %s $password | poolctl secret set --usage-type iscsi --usage-name main
    iscsi_pool main $main "<host name='127.0.0.1'/><host name='127.0.0.2' port='3260'/>" \
        "<initiator><iqn name='$initiator'/></initiator>$(chap main)" --start
    pool_is main active
    has_volumes main unit:0:0:0 unit:0:0:1 unit:0:0:2
    is "$(sessions)" "$main $main"
    is "$(volume main/unit:0:0:1 path)" "$(by_path 127.0.0.1:3260 $main 1)"
    is "$(volume main/unit:0:0:1 key)" "$(/lib/udev/scsi_id --replace-whitespace --whitelisted "$(by_path 127.0.0.2:3260 $main 1)")"
    is "$(volume main/unit:0:0:2 capacity)" $((32 << 20))
    is "$(pool_property main capacity)" $((160 << 20))
    poolctl vol show "$(by_path 127.0.0.1:3260 $main 0)"
    qemu_opens "$(volume main/unit:0:0:1 path)" raw $((64 << 20))
    is "$(find /etc/iscsi/nodes -type f -perm /077 | wc -l)" 0
    is "$(sed -n 's/^node.startup = //p' "$(find /etc/iscsi/nodes -type f | head -n 1)")" manual
}
step units_are_volumes_over_both_portals

data_goes_in_and_out_and_across() {
    define files --build --start <<XML
<pool type='dir'><name>files</name><target><path>/srv/files</path></target></pool>
XML
    goes_in_and_out main/unit:0:0:1 4M /srv/lio/main1
    poolctl vol clone main/unit:0:0:2 files/copy.qcow2 --format qcow2
    qemu-img compare -f raw -F qcow2 "$(by_path 127.0.0.2:3260 $main 2)" /srv/files/copy.qcow2
    poolctl vol wipe main/unit:0:0:1
    cmp -n $((4 << 20)) /dev/zero /srv/lio/main1
    refused NotSupported poolctl vol create main/new 1M
    refused NotSupported poolctl vol delete main/unit:0:0:1
}
step data_goes_in_and_out_and_across

one_that_is_in_use_is_not_stopped_away() {
    hold "$(by_path 127.0.0.2:3260 $main 1)" raw
    refused Busy poolctl stop main 2>"$work/said"
    grep qemu "$work/said"
    is "$(sessions)" "$main $main"
    let_go "$(by_path 127.0.0.2:3260 $main 1)"
    poolctl stop main
    is "$(sessions)" ""
}
step one_that_is_in_use_is_not_stopped_away

a_portal_that_does_not_answer_leaves_the_others() {
    nft 'add table ip dead; add chain ip dead in { type filter hook input priority 0; }; add rule ip dead in ip daddr 127.0.0.2 drop'
    poolctl start main
    pool_is main active
    is "$(sessions)" $main
    has_volumes main unit:0:0:0 unit:0:0:1 unit:0:0:2
    poolctl show main | grep 'no session at portal 127.0.0.2:3260'
    grep -A 1 'portal: 127.0.0.2,3260\]\.$' /var/tmp/complaints | grep 'initiator reported error (8 - '
}
step a_portal_that_does_not_answer_leaves_the_others

has_paths() { is "$(poolctl --json vol show main/unit:0:0:1 | jq '."member-paths" | length')" "$1"; }
has_sessions() { is "$(sessions)" "$*"; }

it_is_logged_in_at_when_it_answers() {
    hold "$(by_path 127.0.0.1:3260 $main 1)" raw
    nft delete table ip dead
    wait_for 120 "there is a session" has_sessions $main $main
    wait_for 30 "it is another path to the unit" has_paths 2
    not grep 'no session' <(poolctl show main)
    let_go "$(by_path 127.0.0.1:3260 $main 1)"
    iscsiadm -m node -T $main -p 127.0.0.2:3260 --logout
    wait_for 120 "so it is after a logout by hand" has_sessions $main $main
    iscsiadm -m node -T $main --logout
    wait_for 120 "and when nothing is left" has_sessions $main $main
    wait_for 30 "the pool serves" pool_is main active
    has_volumes main unit:0:0:0 unit:0:0:1 unit:0:0:2
    poolctl stop main
    is "$(sessions)" ""
    not test -e /run/lock/iscsi/lock.write
}
step it_is_logged_in_at_when_it_answers

a_login_that_failed_in_passing_is_tried_again_at_its_portal() {
    echo '127.0.0.2 san2' >>/etc/hosts
    touch /var/tmp/stumble
    poolctl undefine main
    iscsi_pool main $main "<host name='127.0.0.1'/><host name='san2'/>" \
        "<initiator><iqn name='$initiator'/></initiator>$(chap main)" --start
    not test -e /var/tmp/stumble
    is "$(grep -c -e '-p san2:3260 --login' /var/tmp/arguments)" 1
    is "$(sessions)" "$main $main"
    not grep 'no session' <(poolctl show main)
    poolctl stop main
    is "$(sessions)" ""
}
step a_login_that_failed_in_passing_is_tried_again_at_its_portal

wrong_passwords_are_refused_at_once() {
    printf %s Wrong.Horse.77 | poolctl secret set --usage-type iscsi --usage-name main
    refused AuthenticationFailed poolctl start main
    pool_is main inactive
    is "$(sessions)" ""
    poolctl secret delete main
    refused NotFound poolctl start main
}
step wrong_passwords_are_refused_at_once

nothing_tells_a_password() {
    local place
    is "$(find /etc/iscsi/nodes /etc/iscsi/ifaces -type f | wc -l)" 0
    grep -q -- '--login' /var/tmp/arguments
    journalctl --quiet >"$work/journal"
    for place in /var/tmp/arguments "$work/journal" /etc /run /var/lib/poold; do
        not grep -rqsI -e $password -e Wrong.Horse.77 "$place"
    done
    not grep -q $password <(poolctl dump main; poolctl show main; poolctl --json job list)
}
step nothing_tells_a_password
