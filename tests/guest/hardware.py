"""The guest's hardware: a command line for QEMU. A frozen machine goes on only in the very same hardware, so this file is
part of the image's key."""

MEMORY = "1024"
# Room on the disk "job", of which a tar is the beginning.
JOB_SIZE = 256 << 20
# Spare disks by their serial numbers, which are also their names in /dev/disk/by-id/{virtio-,scsi-0QEMU_QEMU_HARDDISK_}*.
VIRTIO_DISKS = ["disk0", "disk1", "disk2", "disk3"]
SCSI_DISKS = ["scsi0", "scsi1", "scsi2", "scsi3"]
DISK_SIZE = 1 << 30

# Neither needed nor wanted under software emulation, or slow.
KERNEL = (
    "root=/dev/vda quiet loglevel=3 console=ttyS0 mitigations=off nokaslr audit=0 selinux=0 init_on_alloc=0"
    " random.trust_cpu=on systemd.show_status=0 no_timer_check tsc=reliable 8250.nr_uarts=1 net.ifnames=0 panic=-1"
)


def command(image, work, root, job, freeze=False, incoming=None):
    """QEMU's command line. Sockets, console and spare disks are in `work`; the disk `root` is qcow2, `job` raw."""

    def drive(name, path, kind, options, device):
        return [
            "-drive",
            f"file={path},format={kind},if=none,id={name},{options}",
            "-device",
            f"{device},drive={name},serial={name}",
        ]

    def port(name):
        return [
            "-chardev",
            f"socket,path={work}/{name},server=on,wait=off,id={name}",
            "-device",
            f"virtserialport,chardev={name},name={name}",
        ]

    qemu = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none"]
    qemu += ["-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "Nehalem", "-smp", "2", "-m", MEMORY]
    qemu += ["-kernel", f"{image}/vmlinux", "-initrd", f"{image}/initrd"]
    qemu += ["-append", KERNEL + (" freeze " if freeze else " ")]
    qemu += drive("root", root, "qcow2", "cache=unsafe", "virtio-blk-pci")
    qemu += drive("job", job, "raw", "readonly=on", "virtio-blk-pci")
    qemu += ["-object", "rng-random,filename=/dev/urandom,id=rng", "-device", "virtio-rng-pci,rng=rng"]
    qemu += ["-device", "virtio-serial-pci", *port("output"), *port("control")]
    qemu += ["-serial", f"file:{work}/console", "-qmp", f"unix:{work}/qmp,server=on,wait=off"]
    for disk in VIRTIO_DISKS:
        qemu += drive(disk, f"{work}/{disk}", "raw", "cache=unsafe,discard=unmap", "virtio-blk-pci")
    qemu += ["-device", "virtio-scsi-pci,id=hba"]
    for lun, disk in enumerate(SCSI_DISKS):
        qemu += drive(disk, f"{work}/{disk}", "raw", "cache=unsafe,discard=unmap", f"scsi-hd,bus=hba.0,scsi-id=0,lun={lun}")
    if incoming:
        qemu += ["-incoming", f"exec:cat {incoming}"]
    return qemu
