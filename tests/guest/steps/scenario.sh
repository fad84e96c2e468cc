# shellcheck shell=bash disable=SC2154
# limit: 1800
# Everything that is done with a pool of each type, from its document to its end; after each step the host's own tools
# have to agree, and a real QEMU opens a volume by its path.
#
#   TYPE_tool POOL    a line for each volume that a tool of the host's sees, NAME BYTES
#   TYPE_gone POOL    a tool says that nothing of the deleted pool is left

# Types that make volumes; those of others are disks that are there.
MAKERS=(dir fs netfs logical disk zfs)

dir_tool() { find "/srv/$1" -mindepth 1 -type f -printf '%f %s\n'; }
fs_tool() { findmnt --noheadings "/srv/$1" >&2 && find "/srv/$1" -mindepth 1 -type f -printf '%f %s\n'; }
netfs_tool() { find "/export/$1" -mindepth 1 -type f -printf '%f %s\n'; }
logical_tool() { lvs --noheadings --units b --nosuffix --separator ' ' -o lv_name,lv_size "vg-$1" | sed 's/^ *//'; }
disk_tool() {
    local node
    node=$(readlink -f "$(disk disk2)")
    parted -sm "$node" unit B print | sed -n "s,^\([0-9]*\):[^:]*:[^:]*:\([0-9]*\)B:.*,$(basename "$node")\1 \2,p"
}
scsi_tool() { echo "unit:0:0:0 $(lsblk -bdno SIZE "$(scsi_path "$1")")"; }
iscsi_tool() { echo "unit:0:0:0 $(lsblk -bdno SIZE "$(iscsi_path "$1")")"; }
mpath_tool() { multipath -ll mpatha >&2 && echo "mpatha $(($(dmsetup table mpatha | cut -d ' ' -f 2) * 512))"; }
zfs_tool() { zfs list -Hp -t volume -o name,volsize -r "tank-$1" | sed "s,^tank-$1/,,; s/\t/ /"; }

dir_gone() { not test -e "/srv/$1"; }
fs_gone() { not mountpoint "/srv/$1"; }
netfs_gone() { not mountpoint "/srv/$1"; }
logical_gone() { not vgs "vg-$1"; }
disk_gone() { is "$(blkid -p "$(disk disk2)" || true)" ''; }
zfs_gone() { not zpool list "tank-$1" && not zpool import -d /dev/disk/by-id "tank-$1"; }

# agrees TYPE POOL: the tool sees the very volumes that the pool lists.
agrees() {
    settle
    "$1_tool" "$2" | sort >"$work/tool"
    poolctl --json vol list "$2" | jq -r '.[] | "\(.name) \(.capacity)"' | sort | diff "$work/tool" -
}

# another TYPE POOL: a name for a second volume; partitions are named by the kernel.
another() {
    case $1 in
        disk) disk_name "$2" | sed 's/1$/2/' ;;
        *) echo two ;;
    esac
}

all_is_done_and_the_tools_agree() {
    local type=$1 pool=all-$1 makes='' one two path bytes
    [[ " ${MAKERS[*]} " != *" $type "* ]] || makes=yes
    [ -e /srv/copies ] || define copies --build --start <<XML
<pool type='dir'><name>copies</name><target><path>/srv/copies</path></target></pool>
XML
    "${type}_make" "$pool" 1
    wait_for 60 "its volume is there" poolctl vol list "$pool"
    one=$pool/$("${type}_name" "$pool")
    path=$(poolctl vol path "$one")
    agrees "$type" "$pool"
    qemu_opens "$path" raw "$(volume "$one" capacity)"
    if [ "$makes" ]; then
        poolctl vol resize "$one" 96M
        agrees "$type" "$pool"
    else
        refused NotSupported poolctl vol resize "$one" 96M
    fi

    bytes=$(volume "$one" capacity)
    head -c 8M /dev/urandom >"$work/content"
    truncate -s "$bytes" "$work/content"
    poolctl vol upload "$one" "$work/content"
    cmp -n "$bytes" "$work/content" "$path"
    poolctl vol download "$one" - | cmp - "$work/content"
    poolctl vol clone "$one" "copies/$type.qcow2" --format qcow2
    qemu-img compare -q -f raw -F qcow2 "$path" "/srv/copies/$type.qcow2"
    if [ "$makes" ]; then
        two=$pool/$(another "$type" "$pool")
        poolctl vol clone "copies/$type.qcow2" "$two" --format raw
        agrees "$type" "$pool"
        cmp -n "$bytes" "$work/content" "$(poolctl vol path "$two")"
        poolctl vol delete "$two"
        agrees "$type" "$pool"
    fi
    poolctl vol wipe "$one"
    cmp -n "$bytes" "$path" /dev/zero
    if [ "$makes" ]; then
        poolctl vol delete "$one"
    else
        refused NotSupported poolctl vol delete "$one"
    fi
    agrees "$type" "$pool"

    poolctl stop "$pool"
    if [ "$makes" ]; then
        poolctl delete "$pool"
        "${type}_gone" "$pool"
    else
        refused NotSupported poolctl delete "$pool"
    fi
    poolctl undefine "$pool"
    poolctl vol delete "copies/$type.qcow2"
}

each all_is_done_and_the_tools_agree
