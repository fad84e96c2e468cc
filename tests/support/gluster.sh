#!/bin/bash
# gluster.sh DIR: glusterd, with bricks on an ext4 below DIR/bricks. What it keeps is in memory that only this mount
# namespace has; it listens on every address of its network namespace.
#
# It goes to the background; its process id is in DIR/glusterd.pid. Run again after its end, it starts what was there.
set -euo pipefail

dir=$1
name=$(hostname)
if ! mountpoint -q "$dir"; then
    mkdir -p "$dir"
    mount -t tmpfs -o mode=755 tmpfs "$dir"
    truncate -s 512M "$dir/ext4"
    mkfs.ext4 -q -F "$dir/ext4"
    mkdir "$dir/bricks"
    mount -o loop "$dir/ext4" "$dir/bricks"
    for state in /var/lib/glusterd /var/log/glusterfs /run/gluster; do
        mkdir -p "$state"
        mount -t tmpfs tmpfs "$state"
    done
    mkdir -p /var/lib/glusterd/{groups,vols,peers}
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
