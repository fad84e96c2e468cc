# shellcheck shell=bash disable=SC2154
# Pools of the type netfs, on servers in this guest by the loopback interface.

nfs_pool() { # NAME EXPORT [TARGET'S PERMISSIONS]
    cat <<XML
<pool type='netfs'><name>$1</name>
<source><host name='127.0.0.1'/><dir path='$2'/><format type='nfs'/></source>
<target><path>/srv/$1</path>${3-}</target></pool>
XML
}

an_nfs_server_runs() {
    ip link set lo up
    mkdir -p /export/{plain,squashed,refused}
    chown alice:alice /export/squashed
    chmod 700 /export/squashed
    cat >/etc/exports <<EXPORTS
/export/plain 127.0.0.1(rw,sync,no_subtree_check,no_root_squash)
/export/squashed 127.0.0.1(rw,sync,no_subtree_check,root_squash)
/export/refused 192.0.2.1(rw,sync,no_subtree_check)
EXPORTS
    systemctl start rpcbind.service nfs-server.service
    # The first mount loads modules, for half a minute on a busy machine.
    configure '[timeouts]' 'start = "2min"'
    for version in 4 3; do
        mount -t nfs -o "vers=$version" 127.0.0.1:/export/plain /mnt
        umount /mnt
    done
    is "$(showmount --no-headers --exports 127.0.0.1 | wc -l)" 3
}

exports_are_found() {
    busctl --json=short call org.poold1 /org/poold1 org.poold1.Manager FindSources 'sa{sv}a{sv}' netfs 1 hosts as 1 127.0.0.1 0 |
        jq -r '.data[0][].dir.data' | sort >"$work/found"
    is "$(xargs <"$work/found")" "/export/plain /export/refused /export/squashed"
    busctl --json=short call org.poold1 /org/poold1 org.poold1.Manager FindSourcesXml 'ssa{sv}' netfs \
        "<source><host name='127.0.0.1'/></source>" 0 | jq -r '.data[0]' >"$work/found"
    is "$(xmllint --xpath 'count(/sources/source[host/@name="127.0.0.1" and format/@type="nfs"]/dir)' "$work/found")" 3
}

# all_operations POOL DIRECTORY OWNER: each operation, and what the server has of it in its own directory.
all_operations() {
    local pool=$1 dir=$2 owner=$3 option
    mountpoint "/srv/$pool"
    for option in nodev nosuid noexec; do [[ ,$(findmnt -n -o OPTIONS "/srv/$pool"), == *,$option,* ]]; done
    poolctl vol create "$pool/raw" 16M
    is "$(stat -c '%U %a %s' "$dir/raw")" "$owner 600 $((16 << 20))"
    poolctl vol create "$pool/image.qcow2" 64M --format qcow2
    qemu_opens "$dir/image.qcow2" qcow2 $((64 << 20))
    goes_in_and_out "$pool/raw" 16M "$dir/raw"
    poolctl vol clone "$pool/raw" copy
    cmp "$dir/copy" "$work/data"
    poolctl vol clone "$pool/raw" copy.qcow2 --format qcow2
    is "$(stat -c %U "$dir/copy.qcow2")" "$owner"
    qemu-img compare -f raw -F qcow2 "$dir/raw" "$dir/copy.qcow2"
    poolctl vol create "$pool/overlay.qcow2" --format qcow2 --backing "$pool/copy.qcow2" --backing-format qcow2
    refused Busy poolctl vol delete "$pool/copy.qcow2"
    poolctl vol resize "$pool/raw" 32M
    is "$(stat -c %s "$dir/raw")" $((32 << 20))
    poolctl vol resize "$pool/image.qcow2" 128M
    qemu_opens "$dir/image.qcow2" qcow2 $((128 << 20))
    poolctl vol wipe "$pool/copy"
    cmp -n $((16 << 20)) "$dir/copy" /dev/zero
    has_volumes "$pool" copy copy.qcow2 image.qcow2 overlay.qcow2 raw
    # What another host writes is seen by a refresh.
    runuser -u "$owner" -- touch "$dir/by-another-host"
    poolctl refresh "$pool"
    poolctl vol show "$pool/by-another-host"
    for name in overlay.qcow2 copy copy.qcow2 image.qcow2 raw by-another-host; do poolctl vol delete "$pool/$name"; done
    has_volumes "$pool"
    is "$(ls -A "$dir")" ""
    poolctl stop "$pool"
    not mountpoint "/srv/$pool"
    poolctl delete "$pool"
    not test -e "/srv/$pool"
    poolctl undefine "$pool"
}

an_nfs_pool_does_all() {
    nfs_pool plain /export/plain | define plain --build --start
    is "$(findmnt -n -o FSTYPE,SOURCE /srv/plain | xargs)" "nfs4 127.0.0.1:/export/plain"
    all_operations plain /export/plain root
}

on_an_export_that_trusts_no_root_all_is_done_as_the_access_uid() {
    # Nobody but its owner may even look into it.
    nfs_pool squashed /export/squashed | define squashed
    refused Inaccessible poolctl start squashed
    poolctl undefine squashed
    nfs_pool squashed /export/squashed \
        "<permissions><mode>0700</mode><owner>$(id -u alice)</owner><group>$(id -g alice)</group></permissions>" |
        define squashed --build --start
    all_operations squashed /export/squashed alice
    # What poold keeps is root's all the same.
    is "$(find /var/lib/poold /run/poold /etc/poold ! -user root)" ""
}

an_older_version_is_spoken_when_it_is_asked_for() {
    nfs_pool three /export/plain | sed "s/<format/<protocol ver='3'\/><format/" | define three --build --start
    is "$(findmnt -n -o FSTYPE /srv/three)" nfs
    poolctl vol create three/raw 1M
    poolctl vol clone three/raw copy.qcow2 --format qcow2
    poolctl vol delete three/raw three/copy.qcow2
    poolctl stop three
    poolctl undefine three
}

only_the_same_export_is_adopted() {
    mkdir -p /srv/adopted
    mount -t nfs4 127.0.0.1:/export/squashed /srv/adopted
    nfs_pool adopted /export/plain | define adopted
    refused Conflict poolctl start adopted
    umount /srv/adopted
    mount -t nfs4 127.0.0.1:/export/plain /srv/adopted
    poolctl start adopted
    poolctl stop adopted
    mountpoint /srv/adopted
    poolctl start adopted
    poolctl stop adopted --release
    not mountpoint /srv/adopted
}

what_is_unmounted_behind_its_back_is_seen_and_so_is_its_return() {
    poolctl start adopted
    poolctl vol create adopted/one 1M
    umount /srv/adopted
    wait_for 60 "it is seen" pool_is adopted inaccessible
    poolctl show adopted | grep 'not mounted'
    refused Inaccessible poolctl vol create adopted/two 1M
    mount -t nfs4 127.0.0.1:/export/plain /srv/adopted
    wait_for 60 "it is back" pool_is adopted active
    has_volumes adopted one
    poolctl vol delete adopted/one
    poolctl stop adopted
    poolctl undefine adopted
}

what_a_server_refuses_is_said_at_once() {
    nfs_pool refused /export/refused | define refused
    refused Inaccessible poolctl start refused
    poolctl show refused | grep -i 'access denied'
    nfs_pool missing /export/missing | define missing
    refused Inaccessible poolctl start missing
    poolctl undefine refused
    poolctl undefine missing
}

options_beyond_the_common_ones_need_an_administrator() {
    local document
    document="<pool type='netfs' xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'><name>o</name>
<source><host name='127.0.0.1'/><dir path='/export/plain'/><format type='nfs'/></source><target><path>/srv/o</path></target>
<fs:mount_opts><fs:option name='soft'/><fs:option name='OPTION'/></fs:mount_opts></pool>"
    refused InvalidArgument define o <<<"${document/OPTION/suid}"
    define o --build --start <<<"${document/OPTION/timeo=50}"
    [[ ,$(findmnt -n -o OPTIONS /srv/o), == *,soft,*timeo=50,* ]]
    poolctl stop o
    poolctl undefine o
}

step an_nfs_server_runs
step exports_are_found
long step an_nfs_pool_does_all
step on_an_export_that_trusts_no_root_all_is_done_as_the_access_uid
long step an_older_version_is_spoken_when_it_is_asked_for
step only_the_same_export_is_adopted
step what_is_unmounted_behind_its_back_is_seen_and_so_is_its_return
step what_a_server_refuses_is_said_at_once
long step options_beyond_the_common_ones_need_an_administrator
