#!/bin/bash
# trim.sh ROOT: what a machine that starts in seconds under software emulation does without. Nothing of it is about
# storage, D-Bus or polkit. The largest parts of what it saves: loading modules for no hardware, generators, the
# devices that udev looks at again at boot.
set -euo pipefail
root=$1
lib=$root/usr/lib

(
    cd "$lib"/modules/*/kernel
    rm -rf sound arch/x86/kvm net/{wireless,mac80211,bluetooth,batman-adv,can,tipc,sctp} \
        drivers/{gpu,media,staging,iio,infiniband,input,hid,usb,bluetooth,video,isdn,mtd,hwmon,edac,pcmcia,platform} \
        drivers/{mfd,power,leds,i2c,thunderbolt,comedi} drivers/net/{wireless,ethernet,wwan,can}
)

rm -f "$root"/etc/init.d/*
(
    cd "$lib/systemd/system-generators"
    rm -f systemd-{gpt-auto,cryptsetup,veritysetup,integritysetup,hibernate-resume,bless-boot,rc-local,sysv}-generator \
        systemd-{system-update,getty,debug,run}-generator zfs-mount-generator
)
(
    cd "$lib/udev/rules.d"
    rm -f 60-{evdev,persistent-alsa,persistent-input,persistent-v4l,sensor,serial,drm,fido-id,autosuspend,input-id,infiniband}.rules \
        70-{camera,joystick,mouse,touchpad,memory,power-switch}.rules 75-{probe_mtd,net-description}.rules \
        78-sound-card.rules 81-net-dhcp.rules 90-vconsole.rules
)
(
    cd "$lib/systemd/system"
    rm -f {multi-user,graphical}.target.wants/{getty.target,systemd-ask-password-wall.path,systemd-update-utmp*}
    cd sysinit.target.wants
    rm -f systemd-{binfmt,repart,sysusers,pcrphase*,boot-system-token,hwdb-update,machine-id-commit,firstboot}.service \
        systemd-{random-seed,journal-catalog-update,update-done,modules-load}.service systemd-ask-password-console.path \
        proc-sys-fs-binfmt_misc.automount {crypt,verity,integrity}setup.target sys-kernel-{debug,tracing}.mount \
        dev-{hugepages,mqueue}.mount ldconfig.service
)
for unit in systemd-{timesyncd,update-utmp,update-utmp-runlevel,pstore,rfkill}.service systemd-rfkill.socket \
    {getty@tty1,serial-getty@ttyS0,getty-static,console-getty}.service modprobe@{drm,efi_pstore}.service \
    {apt-daily,apt-daily-upgrade,e2scrub_all,fstrim,dpkg-db-backup,systemd-tmpfiles-clean,man-db}.timer e2scrub_reap.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Servers and what brings pools up by itself: a step starts what it needs.
for unit in smbd nmbd samba-ad-dc winbind nfs-server rpcbind.service rpcbind.socket nfs-blkmap nfs-client.target \
    rtslib-fb-targetctl targetclid.socket open-iscsi.service iscsid.service multipathd.service multipathd.socket \
    lvm2-monitor.service blk-availability.service networking zfs-import-cache zfs-import-scan zfs-mount zfs-share \
    zfs-volume-wait zfs-zed zfs-import.target zfs.target mdmonitor.service; do
    chroot "$root" systemctl --quiet disable "$unit" 2>/dev/null || true
done
rm -f "$lib"/modules-load.d/zfs*
