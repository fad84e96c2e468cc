#!/bin/bash
# gluster.sh: glusterd, with bricks on an ext4 below /run/gluster/test/bricks. What it keeps is in memory that only
# this mount namespace has; it listens on every address of its network namespace. Run again, it starts what was there.
set -euo pipefail

dir=/run/gluster/test
name=$(hostname)
if ! [ -d "$dir" ]; then
    for state in /var/lib/glusterd /var/log/glusterfs /run/gluster; do
        mkdir -p "$state"
        mount -t tmpfs -o mode=755 tmpfs "$state"
    done
    mkdir -p /var/lib/glusterd/{groups,vols,peers} "$dir"
    truncate -s 512M "$dir/ext4"
    mkfs.ext4 -q -F "$dir/ext4"
    mkdir "$dir/bricks"
    mount -o loop "$dir/ext4" "$dir/bricks"
    # A brick's server has a name: of addresses and "localhost" none is taken.
    cp /etc/hosts "$dir/hosts"
    echo "127.0.0.1 $name" >>"$dir/hosts"
    mount --bind "$dir/hosts" /etc/hosts
fi
glusterd --pid-file "$dir/glusterd.pid" -L WARNING
for _ in $(seq 300); do
    gluster --mode=script pool list >/dev/null 2>&1 && exit
    sleep 0.1
done
echo "gluster.sh: glusterd does not answer" >&2
exit 1
