# shellcheck shell=bash disable=SC2154
# quick: no
# A server that is frozen (its packets are dropped) or away, beside what the cells of the matrix show: threads, a forced
# stop, a directory pool on a dead share, an address that appears.
# limit: 900

share() { # NAME HOST
    cat <<XML
<pool type='netfs'><name>$1</name>
<source><host name='$2'/><dir path='/export/plain'/><format type='nfs'/></source>
<target><path>/srv/$1</path></target></pool>
XML
}

freeze() {
    nft add table inet frozen
    nft add chain inet frozen in '{ type filter hook input priority 0; }'
    nft add rule inet frozen in tcp dport 2049 drop
}
thaw() { nft delete table inet frozen; }

# Every call on another pool is answered, whatever this one is.
others_answer() {
    local i
    for i in 1 2 3 4 5; do
        poolctl vol create "other/$i" 1M
        poolctl vol delete "other/$i"
    done
    poolctl list
    poolctl refresh other
}

a_server_and_two_pools() {
    ip link set lo up
    mkdir -p /export/plain
    echo '/export/plain 127.0.0.1(rw,sync,no_subtree_check,no_root_squash) 192.0.2.7(rw,sync,no_subtree_check,no_root_squash)' >/etc/exports
    systemctl start rpcbind.service nfs-server.service
    # The first mount loads modules, for half a minute on a busy machine.
    mount -t nfs4 127.0.0.1:/export/plain /mnt
    umount /mnt
    share dead 127.0.0.1 | define dead --build --start
    poolctl vol create dead/one 1M
    dir_make other 1
}

a_pool_on_a_frozen_server_says_so_and_comes_back() {
    local threads
    freeze
    refused TimedOut poolctl refresh dead
    pool_is dead inaccessible
    poolctl show dead | grep 'did not end in'
    others_answer
    # Whoever asks again is told at once, and costs no other thread.
    threads=$(threads)
    for _ in 1 2 3 4 5; do refused Inaccessible poolctl refresh dead; done
    refused Inaccessible poolctl vol create dead/two 1M
    [ "$(threads)" -le $((threads + 1)) ]
    # What was known is still there to be read.
    has_volumes dead one
    thaw
    wait_for 180 "it is back" pool_is dead active
    poolctl vol create dead/two 1M
    has_volumes dead one two
}

threads() { unit poold.service TasksCurrent; }

a_forced_stop_ends_it() {
    freeze
    refused TimedOut poolctl refresh dead
    poolctl stop dead --force
    pool_is dead inactive
    not findmnt /srv/dead
    others_answer
    thaw
    wait_for 60 "no thread hangs" poolctl start dead
    has_volumes dead one two
}

a_directory_pool_on_a_dead_share_counts_too() {
    mkdir -p /mnt/share
    mount -t nfs4 127.0.0.1:/export/plain /mnt/share
    define images --build --start <<XML
<pool type='dir'><name>images</name><target><path>/mnt/share</path></target></pool>
XML
    freeze
    refused TimedOut poolctl refresh images
    pool_is images inaccessible
    others_answer
    thaw
    wait_for 180 "it is back" pool_is images active
    poolctl stop images
    poolctl undefine images
    umount /mnt/share
    poolctl stop dead
    poolctl undefine dead
}

# Only the address can have woken it: the next try by itself is far away.
an_address_that_appears_wakes_who_waits_for_it() {
    configure '[timeouts]' 'retry-first = "20min"' 'retry-longest = "20min"'
    ip route add unreachable 192.0.2.0/24
    share far 192.0.2.7 | define far --build
    poolctl autostart far
    refused Inaccessible poolctl autostart
    ip address add 192.0.2.7/32 dev lo
    wait_for 180 "it is active" pool_is far active
    poolctl stop far
    poolctl undefine far
}

step a_server_and_two_pools
step a_pool_on_a_frozen_server_says_so_and_comes_back
step a_forced_stop_ends_it
step a_directory_pool_on_a_dead_share_counts_too
step an_address_that_appears_wakes_who_waits_for_it
