# shellcheck shell=bash disable=SC2154
# needs: zfs
# The guest has ZFS: without poold, as in stacks.sh.

zpools() {
    modprobe zfs
    zpool create -O volmode=dev tank "$(disk disk3)"
    zfs create -V 64M tank/one
    settle
    qemu_opens /dev/zvol/tank/one raw $((64 << 20))
    zpool destroy tank
}
step zpools
