#!/bin/bash
# image.sh: builds the guest once and keeps it; prints its directory, which has
#
#   root.ext4 vmlinux initrd    what boots
#   frozen/                     the booted machine: its memory, and its disk over root.ext4
#   kernel zfs                  the kernel's version; whether ZFS's modules are in it (yes or no)
#
# image/cache.sh says what else is kept. Needs what `scripts/setup.sh guest` installs, and root.
# shellcheck disable=SC2154 # from image/cache.sh
set -euo pipefail
# shellcheck source=/dev/null
. "$(dirname "$(readlink -f "$0")")/image/cache.sh"

configure() {
    local root=$1
    cp -r "$guest/image/etc/." "$root/etc/"
    install -m 755 "$guest/image/agent" "$root/usr/local/sbin/test-agent"
    chroot "$root" systemctl --quiet enable test-agent.service
    ln -sf /lib/systemd/system/graphical.target "$root/etc/systemd/system/default.target"
    echo poold-test >"$root/etc/hostname"
    printf '127.0.0.1 localhost poold-test\n::1 localhost\n' >"$root/etc/hosts"
    echo 'LABEL=root / ext4 noatime 0 1' >"$root/etc/fstab"
    echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
    rm -f "$root/etc/resolv.conf" "$root"/var/lib/apt/lists/*_* "$root"/var/cache/apt/*.bin
    # Their password is their name.
    chroot "$root" useradd --create-home --shell /bin/bash alice
    printf '%s:%s\n' root root alice alice | chroot "$root" chpasswd
}

initrd() {
    local root=$1 kernel=$2 dir=$3 module
    mkdir -p "$dir"/{bin,proc,dev,new,modules}
    cp "$(command -v busybox)" "$dir/bin/busybox"
    install -m 755 "$guest/image/init" "$dir/init"
    for module in virtio_pci virtio_blk ext4; do
        chroot "$root" modprobe -S "$kernel" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++' | while read -r module; do
        cp "$root$module" "$dir/modules/"
        basename "$module" >>"$dir/modules/order"
    done
    (cd "$dir" && find . | LC_ALL=C sort | cpio --quiet -o -H newc)
}

build() {
    local work=$1 zfs=$2 kernel root=$1/root size
    kernel=$(kernel_version)
    cp -a --reflink=auto "$rootfs/root" "$root"
    mkdir -p "$root/usr/lib/modules"
    cp -a "$rootfs/linux/lib/modules/$kernel" "$root/usr/lib/modules/"
    "$guest/image/trim.sh" "$root"
    echo no >"$work/zfs"
    if [ "$zfs" ]; then
        install -D -m 644 -t "$root/usr/lib/modules/$kernel/updates/zfs" "$zfs"/*.ko
        echo yes >"$work/zfs"
    fi
    chroot "$root" depmod "$kernel"
    configure "$root"
    initrd "$root" "$kernel" "$work/initrd.d" >"$work/initrd"
    "$guest/image/vmlinux.py" "$rootfs/linux/boot/vmlinuz-$kernel" "$work/vmlinux"
    cp "$rootfs/kernel" "$work/kernel"
    size=$(du -sm "$root" | cut -f1)
    truncate -s $((size * 5 / 4 + 2048))M "$work/root.ext4"
    mkfs.ext4 -q -F -L root -m 0 -O ^has_journal,^metadata_csum -E lazy_itable_init=0,root_owner=0:0 \
        -d "$root" "$work/root.ext4"
    rm -rf --one-file-system "$root" "$work/initrd.d"
    mkdir "$work/frozen"
    # By a relative name, so that the directory can be moved.
    (cd "$work/frozen" && qemu-img create -q -f qcow2 -b ../root.ext4 -F raw root.qcow2)
    "$guest/machine.py" freeze "$work"
}

cached "$rootfs" "$guest/image/rootfs.sh" >&2
zfs=$(zfs_modules)
[ -d "$zfs" ] || zfs=
mapfile -t inputs < <(find "$guest"/{image.sh,hardware.py,image/trim.sh,image/agent,image/init,image/etc} -type f | LC_ALL=C sort)
image=$cache/image-$(digest "${inputs[@]}" <<<"$rootfs $zfs $(qemu-system-x86_64 --version)")
cached "$image" build "$zfs" >&2
echo "$image"
