#!/bin/bash
# zfs.sh: builds OpenZFS's modules for the guest's kernel and keeps them; the next image has them. About four minutes, once.
# shellcheck disable=SC2154 # from image/cache.sh
set -euo pipefail
# shellcheck source=/dev/null
. "$(dirname "$(readlink -f "$0")")/image/cache.sh"

# zfs-dkms is unpacked only: its installation would build for the kernel that runs here.
build() {
    local work=$1 kernel root=$1/root version
    kernel=$(kernel_version)
    # shellcheck disable=SC2016 # for mmdebstrap's shell
    mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
        --include="build-essential,linux-headers-$kernel,dkms,kmod,python3,file,perl,libelf-dev,zstd" \
        --aptopt='APT::Install-Recommends "false"' --dpkgopt='force-unsafe-io' \
        --customize-hook='chroot "$1" sh -c "cd /var/tmp && apt-get -q -o APT::Sandbox::User=root download zfs-dkms && dpkg-deb -x zfs-dkms_*.deb /"' \
        "$SUITE" "$root" "${SOURCES[@]}" || {
        echo "The mirror may have no headers of $kernel any more: rm -r $rootfs and try again."
        return 1
    }
    version=$(basename "$root"/usr/src/zfs-*) version=${version#zfs-}
    # In namespaces of its own, so that /proc goes with it.
    # shellcheck disable=SC2016
    unshare --mount --propagation private sh -c 'mount -t proc proc "$1/proc" && shift && exec "$@"' sh "$root" \
        chroot "$root" dkms build -m zfs -v "$version" -k "$kernel" -j "$(nproc)"
    mv "$root/var/lib/dkms/zfs/$version/$kernel/x86_64/module"/*.ko "$work/"
    rm -rf --one-file-system "$root"
}

cached "$rootfs" "$guest/image/rootfs.sh" >&2
cached "$(zfs_modules)" build >&2
zfs_modules
