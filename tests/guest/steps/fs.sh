# shellcheck shell=bash disable=SC2154
# quick: no
# Pools of the type fs: its formats on this kernel. (Refusals, adoption and what
# dies half-way are the bus tier's.)
# limit: 1500

# on_blank_disk FORMAT: a pool of that format on a disk that is blank.
on_blank_disk() {
    wipefs --all --force --quiet "$(disk disk0)"
    define data <<XML
<pool type='fs'><name>data</name><source><device path='$(disk disk0)'/><format type='$1'/></source>
<target><path>/srv/data</path></target></pool>
XML
}

# used [WORD]: the pool is started, its mount is as every pool's, and a real QEMU has a volume on it.
used() {
    local options
    poolctl start data
    options=,$(findmnt -n -o OPTIONS /srv/data),
    for word in nodev nosuid noexec; do [[ $options == *,$word,* ]] || { echo "no $word: $options"; return 1; }; done
    if [ "${1-}" != read-only ]; then
        poolctl vol create data/one 64M
        qemu_opens /srv/data/one raw $((64 << 20))
        poolctl vol delete data/one
    fi
    poolctl stop data
    not findmnt /srv/data
}

end() {
    poolctl delete data
    not test -e /srv/data
    poolctl undefine data
}

is_built_and_mounted() {
    on_blank_disk "$1"
    refused NotBuilt poolctl start data
    poolctl build data
    refused AlreadyBuilt poolctl build data
    is "$(blkid -p -o value -s TYPE "$(disk disk0)")" "$1"
    used
    end
    echo "built and mounted" >&3
}

# No pool can build it, but one that is there is mounted.
is_mounted() {
    local format=$1
    shift
    on_blank_disk "$format"
    refused NotSupported poolctl build data
    "$@"
    used "$([ "$format" = auto ] || echo read-only)"
    end
    echo "mounted, not built: $(why_not_built "$format")" >&3
}
make_btrfs() { modprobe btrfs; mkfs.btrfs -q "$(disk disk0)"; }
make_iso() {
    mkdir -p "$work/content"
    echo text >"$work/content/file"
    genisoimage -quiet -R -o "$work/iso" "$work/content"
    dd if="$work/iso" of="$(disk disk0)" bs=1M conv=fsync status=none
}
make_ntfs() { mkfs.ntfs --quiet --fast "$(disk disk0)"; }
why_not_built() {
    on_blank_disk "$1" >&2
    poolctl build data 2>&1 | sed -n 's/.*: //p'
    poolctl undefine data >&2
}

# is_refused FORMAT ERROR: it cannot be built; the note says why.
is_refused() {
    local why
    on_blank_disk "$1"
    poolctl build data 2>"$work/why" && return 1
    cat "$work/why"
    refused "$2" poolctl build data
    why=$(sed 's/^poolctl: pool data: //' "$work/why")
    poolctl undefine data
    rmdir /srv/data 2>/dev/null || true
    echo "refused: $why" | tr '\n' ' ' >&3
}

for format in gfs2 ocfs2 udf vfat xfs ext2 ext3 ext4; do
    step "format_$format" is_built_and_mounted "$format"
done
step format_auto is_mounted auto make_btrfs
step format_auto_ntfs is_mounted auto make_ntfs
step format_iso9660 is_mounted iso9660 make_iso
step format_gfs is_refused gfs NotSupported
step format_vmfs is_refused vmfs NotSupported
step format_hfs+ is_refused hfs+ ToolMissing

# As after a boot without it; nobody calls poold when it comes.
a_pool_waits_for_its_disk() {
    local disk
    disk=$(disk scsi0)
    define late --build --autostart <<XML
<pool type='fs'><name>late</name><source><device path='$disk'/><format type='ext4'/></source>
<target><path>/srv/late</path></target></pool>
XML
    unplug scsi0
    poolctl autostart || true
    wait_for 30 "it waits" pool_waits_for late "device $disk"
    plug_in
    wait_for 60 "the pool is active" pool_is late active
    poolctl vol create late/one 16M
    qemu_opens /srv/late/one raw $((16 << 20))

    # And one that is pulled while it is mounted.
    unplug scsi0
    wait_for 30 "it is inaccessible" pool_is late inaccessible
    poolctl stop late
    plug_in
    poolctl start late
    qemu_opens /srv/late/one raw $((16 << 20))
    poolctl stop late
    poolctl undefine late
}
step a_pool_waits_for_its_disk
