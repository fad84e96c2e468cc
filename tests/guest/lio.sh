# shellcheck shell=bash
# Targets of the kernel's own (LIO), made by configfs alone: its tools take seconds for each command here. They are reached
# by the loopback interface, and are gone after a reboot unless `lio_keep` says otherwise. Sourced by support.sh.

lio=/sys/kernel/config/target

# lio_target IQN PORTAL...: a target at these portals that lets everybody in. Off until `lio_switch`.
lio_target() {
    local portal tpg=$lio/iscsi/$1/tpgt_1
    modprobe -a target_core_mod target_core_file iscsi_target_mod iscsi_tcp
    ip link set lo up
    mkdir -p "$lio/iscsi" "$tpg"
    for portal in "${@:2}"; do mkdir "$tpg/np/$portal"; done
    echo 0 >"$tpg/attrib/authentication"
    echo 0 >"$tpg/attrib/demo_mode_write_protect"
    echo 1 >"$tpg/attrib/generate_node_acls"
}

# lio_unit IQN NUMBER NAME MIB, lio_no_unit IQN NUMBER: a unit whose content is the file of that name, which stays.
lio_unit() {
    local unit=$lio/iscsi/$1/tpgt_1/lun/lun_$2 store=$lio/core/fileio_0/$3
    mkdir -p /srv/lio "$store" "$unit"
    truncate -s "$4M" "/srv/lio/$3"
    echo "fd_dev_name=/srv/lio/$3,fd_dev_size=$(($4 << 20))" >"$store/control"
    echo "$3" >"$store/wwn/vpd_unit_serial"
    echo 1 >"$store/enable"
    ln -s "$store" "$unit/unit"
}
lio_no_unit() {
    rm "$lio/iscsi/$1/tpgt_1/lun/lun_$2/unit"
    rmdir "$lio/iscsi/$1/tpgt_1/lun/lun_$2"
}

# lio_only IQN INITIATOR USER PASSWORD NUMBER...: lets only this one in, who proves who it is, to these units.
lio_only() {
    local number tpg=$lio/iscsi/$1/tpgt_1 acl=$lio/iscsi/$1/tpgt_1/acls/$2
    echo 0 >"$tpg/attrib/generate_node_acls"
    mkdir "$acl"
    for number in "${@:5}"; do
        mkdir "$acl/lun_$number"
        ln -s "$tpg/lun/lun_$number" "$acl/lun_$number/unit"
    done
    # A line break would be part of them.
    printf %s "$3" >"$acl/auth/userid"
    printf %s "$4" >"$acl/auth/password"
    echo 1 >"$tpg/attrib/authentication"
}

# lio_switch IQN 1|0: on, or off, which cuts all sessions and refuses new ones.
lio_switch() { echo "$2" >"$lio/iscsi/$1/tpgt_1/enable"; }

# lio_simple IQN PORTAL NAME MIB: a target that is on, with one unit.
lio_simple() {
    lio_target "$1" "$2"
    lio_unit "$1" 0 "$3" "$4"
    lio_switch "$1" 1
}

# lio_keep COMMAND...: runs it now and at each boot.
lio_keep() {
    local here
    here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
    if [ ! -e /usr/local/lib/lio ]; then
        { cat "$here/lio.sh"; echo 'set -eu'; } >/usr/local/lib/lio
        cat >/etc/systemd/system/lio.service <<UNIT
[Unit]
After=local-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash /usr/local/lib/lio
[Install]
WantedBy=multi-user.target
UNIT
        systemctl --quiet --no-reload enable lio.service
    fi
    echo "$*" >>/usr/local/lib/lio
    "$@"
}

# --- the other end

# sessions: the targets that somebody is logged in to, once for each session.
sessions() { cat /sys/class/iscsi_session/*/targetname 2>/dev/null | sort | xargs; }

# iscsi_pool NAME IQN HOSTS [MORE [OPTION...]]: defines it from libvirt's document.
iscsi_pool() {
    local name=$1 iqn=$2 hosts=$3 more=${4:-}
    shift "$(($# < 4 ? 3 : 4))"
    define "$name" "$@" <<XML
<pool type='iscsi'><name>$name</name>
<source>$hosts<device path='$iqn'/>$more</source><target><path>/dev/disk/by-path</path></target></pool>
XML
}
