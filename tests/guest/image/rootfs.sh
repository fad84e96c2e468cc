#!/bin/bash
# rootfs.sh WORK: Debian with the guest's packages in WORK/root, its newest kernel in WORK/linux, the kernel's version
# in WORK/kernel.
# shellcheck disable=SC2154 # from cache.sh
set -euo pipefail
work=$1
# shellcheck source=/dev/null
. "$(dirname "$0")/cache.sh"

packages=$(grep -v '^#' "$guest/image/packages" | tr -s ' \n' ',,')

# The kernel is unpacked only: the guest has an initrd of its own. apt knows the sources while mmdebstrap is at work.
cat >"$work/kernel.sh" <<'SH'
#!/bin/sh
set -eu
name=$(chroot "$1" apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: //p')
chroot "$1" sh -c "cd /var/tmp && apt-get -q -o APT::Sandbox::User=root download $name"
dpkg-deb -x "$1"/var/tmp/linux-image-*.deb "$2/linux"
rm "$1"/var/tmp/linux-image-*.deb
echo "${name#linux-image-}" >"$2/kernel"
SH
chmod 755 "$work/kernel.sh"

mmdebstrap --quiet --mode=root --variant=minbase --format=directory --include="${packages%,}" \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt='force-unsafe-io' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --customize-hook="$work/kernel.sh \"\$1\" '$work'" \
    "$SUITE" "$work/root" "${SOURCES[@]}"
rm "$work/kernel.sh"
