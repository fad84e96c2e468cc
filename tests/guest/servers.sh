# shellcheck shell=bash disable=SC2034,SC2154
# The types of pool whose servers run in a guest, for matrix.sh: a row is
#
#   TYPE_servers        starts its servers
#   TYPE_address FAULT  the address of the one that this will happen to
#   TYPE_host FAULT     the command that runs another on that server's host; nothing for this one
#   TYPE_pool POOL HOST makes what the pool needs on the server, and defines it
#   TYPE_volume POOL    the name of a volume of the active pool with room for 8 MiB, made where there is none
#   TYPE_quick          what is tried with --quick: when the server is stopped, frozen, replaced by garbage

# share_pool POOL HOST DIR FORMAT
share_pool() {
    define "$1" --build <<XML
<pool type='netfs'><name>$1</name><source><host name='$2'/><dir path='$3'/><format type='$4'/></source>
<target><path>/srv/$1</path></target></pool>
XML
}
share_volume() {
    poolctl vol create "$1/one" 8M >&2
    echo one
}

# fault_number FAULT: each has a server, or an address, of its own.
fault_number() {
    case $1 in
        stopped) echo 1 ;;
        frozen) echo 2 ;;
        garbage) echo 3 ;;
    esac
}

# --- NFS of the kernel's own, on hosts of their own: a client knows two addresses of one server to be one.

nfs_quick=(active job start)
nfs_servers() {
    local fault
    modprobe -a nfsd nfsv4
    for fault in stopped frozen garbage; do
        nfs_place "$fault"
        nfs_serve "$fault"
    done
}
nfs_address() { echo "10.0.$(fault_number "$1").2"; }
nfs_host() { echo "ip netns exec server$(fault_number "$1")"; }
nfs_pool() {
    mkdir -p "/export/$1"
    share_pool "$1" "$2" "/$1" nfs
}
nfs_volume() { share_volume "$1"; }

# nfs_place FAULT: the host, without a server.
nfs_place() {
    local number
    number=$(fault_number "$1")
    ip netns add "server$number"
    ip link add "server$number" type veth peer name eth0 netns "server$number"
    ip address add "10.0.$number.1/24" dev "server$number"
    ip link set "server$number" up
    ip -n "server$number" address add "10.0.$number.2/24" dev eth0
    ip -n "server$number" link set eth0 up
    ip -n "server$number" link set lo up
}

# nfs_serve FAULT: the server, of version 4 alone.
nfs_serve() {
    local number
    number=$(fault_number "$1")
    mkdir -p /export
    echo '/export 10.0.0.0/16(rw,sync,no_subtree_check,no_root_squash,fsid=0)' >/etc/exports
    # shellcheck disable=SC2016
    unshare --uts ip netns exec "server$number" bash -ec '
        hostname "server$0"
        mount -t nfsd nfsd /proc/fs/nfsd
        exportfs -r
        rpc.mountd --no-nfs-version 3
        # Nobody has anything to reclaim.
        echo 10 >/proc/fs/nfsd/nfsv4gracetime
        rpc.nfsd --no-nfs-version 3 2
    ' "$number"
}

# --- CIFS: Samba

cifs_quick=(job active start)
cifs_servers() {
    ip link set lo up
    mkdir -p /export
    cat >/etc/samba/smb.conf <<CONF
[global]
map to guest = Bad User
disable spoolss = yes
load printers = no
[open]
path = /export
guest only = yes
read only = no
CONF
    systemctl start smbd.service
    # The first mount loads modules for half a minute.
    mount -t cifs -o guest //127.0.0.1/open /mnt
    umount /mnt
}
cifs_address() { echo "127.0.1.$(fault_number "$1")"; }
cifs_host() { :; }
cifs_pool() {
    mkdir "/export/$1"
    chown nobody "/export/$1"
    share_pool "$1" "$2" "open/$1" cifs
}
cifs_volume() { share_volume "$1"; }

# --- iSCSI: the kernel's own target, with one for each pool, as a session of one is none of another's

iscsi_quick=(start job active)
iscsi_servers() { systemctl start iscsid.socket; }
iscsi_address() { echo "127.0.2.$(fault_number "$1")"; }
iscsi_host() { :; }
iscsi_pool() {
    iscsi_serve "$1"
    define "$1" <<XML
<pool type='iscsi'><name>$1</name><source><host name='$2'/><device path='iqn.2026-11.org.example:$1'/></source>
<target><path>/dev/disk/by-path</path></target></pool>
XML
}
iscsi_serve() { lio_simple "iqn.2026-11.org.example:$1" 0.0.0.0:3260 "$1" 64; }
iscsi_volume() { echo unit:0:0:0; }
iscsi_is_down() {
    local session
    session=$(grep -lx "iqn.2026-11.org.example:$1" /sys/class/iscsi_session/*/targetname) || return
    not grep -q LOGGED_IN "${session%/*}/state"
}
