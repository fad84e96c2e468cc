#!/bin/bash
# ceph.sh DIR ADDRESSES: a Ceph cluster of one monitor at these (v2:127.0.0.1:PORT,v1:127.0.0.1:PORT,v2:[::1]:PORT, of which
# the first is its tools') and one OSD that keeps all in memory, with cephx and the user client.libvirt. What it wrote is below DIR.
#
# The daemons go to the background; their process ids are in DIR/run/*.pid. The OSD writes out what it has when SIGTERM
# ends it. There is no manager, so the cluster does
# not know how full it is.
set -euo pipefail

dir=$1 addresses=$2
mkdir -p "$dir"/{mon,osd,run}
cd "$dir"
fsid=$(cat /proc/sys/kernel/random/uuid)

# The short intervals are what makes it start in two seconds instead of eight.
cat >ceph.conf <<END
[global]
fsid = $fsid
mon host = ${addresses%%,*}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr1 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon osd initial require min compat client = mimic
paxos propose interval = 0.05
paxos min wait = 0.01
mon tick interval = 1
mon data avail crit = 1
mon data avail warn = 1
client mount timeout = 60
run dir = $dir/run
log file = $dir/run/\$name.log
pid file = $dir/run/\$name.pid
admin socket = $dir/run/\$name.asok
keyring = $dir/\$name.keyring
[mon.a]
host = localhost
ms bind ipv6 = true
ms bind msgr1 = true
mon data = $dir/mon
keyring = $dir/mon.keyring
[osd]
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd max object name len = 256
osd max object namespace len = 64
osd fast shutdown = false
[client]
admin socket =
log file =
rbd default features = 61
END

admin=(--cap mon 'allow *' --cap osd 'allow *')
ceph-authtool --create-keyring mon.keyring --gen-key -n mon. --cap mon 'allow *'
ceph-authtool --create-keyring client.admin.keyring --gen-key -n client.admin "${admin[@]}"
ceph-authtool --create-keyring client.libvirt.keyring --gen-key -n client.libvirt \
    --cap mon 'profile rbd' --cap osd 'profile rbd'
for keyring in client.admin client.libvirt; do
    ceph-authtool mon.keyring --import-keyring "$keyring.keyring"
done
monmaptool --create --fsid "$fsid" --addv a "[$addresses]" monmap
ceph-mon -c ceph.conf --mkfs -i a --monmap monmap --keyring mon.keyring
ceph-mon -c ceph.conf -i a

uuid=$(cat /proc/sys/kernel/random/uuid)
key=$(ceph-authtool --gen-print-key)
echo "{\"cephx_secret\": \"$key\"}" | ceph -c ceph.conf osd new "$uuid" -i -
ceph-authtool --create-keyring osd.0.keyring -n osd.0 --add-key "$key"
ceph-osd -c ceph.conf -i 0 --mkfs --osd-uuid "$uuid"
ceph-osd -c ceph.conf -i 0
