use super::*;
use crate::backend::tests::fixture;
use crate::model::{FcHost, FcParent, PciAddress, Target};
use std::fs;

/// A sysfs with two hosts of one PCI device, the second an HBA that can have vHBAs.
fn sysfs() -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    let pci = "devices/pci0000:00/0000:00:1f.2";
    for (host, unique) in [(0, 1), (4, 2)] {
        let scsi = base.path().join(format!("{pci}/host{host}/scsi_host/host{host}"));
        fs::create_dir_all(&scsi).unwrap();
        fs::write(scsi.join("unique_id"), format!("{unique}\n")).unwrap();
        fs::write(scsi.join("scan"), "").unwrap();
        link(base.path(), "scsi_host", &scsi, host);
    }
    let fc = base.path().join(format!("{pci}/host4/fc_host/host4"));
    fs::create_dir_all(&fc).unwrap();
    for (file, text) in [
        ("node_name", "0x20000000c9831b4b\n"),
        ("port_name", "0x10000000c9831b4b\n"),
        ("port_state", "Online\n"),
        ("fabric_name", "0x2001000dec9877c1\n"),
        ("npiv_vports_inuse", "0\n"),
        ("max_npiv_vports", "255\n"),
        ("vport_create", ""),
        ("vport_delete", ""),
    ] {
        fs::write(fc.join(file), text).unwrap();
    }
    link(base.path(), "fc_host", &fc, 4);
    base
}

fn link(base: &Path, class: &str, to: &Path, host: u32) {
    let directory = base.join("class").join(class);
    fs::create_dir_all(&directory).unwrap();
    std::os::unix::fs::symlink(to, directory.join(format!("host{host}"))).unwrap();
}

fn named(name: &str) -> Adapter {
    Adapter::ScsiHost(ScsiHost::Name(name.to_owned()))
}

fn on_pci(slot: u32, unique_id: u32) -> Adapter {
    let address = PciAddress { domain: 0, bus: 0, slot, function: 2 };
    Adapter::ScsiHost(ScsiHost::Parent { address, unique_id })
}

fn vhba(parent: Option<FcParent>) -> FcHost {
    let (wwnn, wwpn) = ("20000000c9831b4c".to_owned(), "10000000c9831b4c".to_owned());
    FcHost { wwnn, wwpn, parent, managed: None }
}

#[test]
fn adapters_are_found_by_name_and_by_where_they_are() {
    let base = sysfs();
    let hosts = Hosts::at(&base.path().join("class"));
    for (adapter, host) in [
        (named("host0"), 0),
        (named("scsi_host4"), 4),
        (on_pci(0x1f, 1), 0),
        (on_pci(0x1f, 2), 4),
        (
            Adapter::FcHost(FcHost {
                wwnn: "20000000C9831B4B".to_owned(),
                wwpn: "0x10000000c9831b4b".to_owned(),
                parent: None,
                managed: None,
            }),
            4,
        ),
    ] {
        assert_eq!(hosts.find(&adapter).unwrap(), host, "{adapter:?}");
    }
    for adapter in [named("host1"), on_pci(0x1f, 3), on_pci(3, 1), Adapter::FcHost(vhba(None))] {
        let error = hosts.find(&adapter).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Inaccessible, "{adapter:?}: {error}");
    }
}

#[test]
fn a_vhba_is_made_on_the_adapter_that_is_meant() {
    let by_wwn = FcParent::Wwn { wwnn: "20000000c9831b4b".into(), wwpn: "10000000c9831b4b".into() };
    for parent in [
        None,
        Some(FcParent::Name("scsi_host4".into())),
        Some(by_wwn),
        Some(FcParent::Fabric("2001000dec9877c1".into())),
    ] {
        let base = sysfs();
        let hosts = Hosts::at(&base.path().join("class"));
        let world = std::sync::Arc::default();
        let ctx = fixture::context(&world);
        ctx.limits.cancel.cancel();
        let mut told = None;
        // Nothing makes it appear here.
        let made = hosts.create(&vhba(parent), &ctx, |at| {
            told = Some(at.to_owned());
            Ok(())
        });
        assert_eq!(made.unwrap_err().kind(), ErrorKind::Cancelled);
        let asked = told.unwrap().join("vport_create");
        assert_eq!(fs::read_to_string(asked).unwrap(), "10000000c9831b4c:20000000c9831b4c");
    }
    let base = sysfs();
    let hosts = Hosts::at(&base.path().join("class"));
    let ctx = fixture::context(&std::sync::Arc::default());
    let on_none = vhba(Some(FcParent::Name("host0".into())));
    let error = hosts.create(&on_none, &ctx, |_| panic!("nothing is to be done")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inaccessible, "{error}");
}

#[test]
fn definitions_that_could_never_start_are_refused() {
    let scsi = Scsi::default();
    let mut pool = fixture::definition(PoolType::Scsi, Path::new("/dev/disk/by-path"));
    for (adapter, target, fine) in [
        (Some(named("scsi_host3")), "/dev/disk/by-path", true),
        (Some(named("scsi_host3")), "/dev", true),
        (Some(named("sda")), "/dev/disk/by-path", false),
        (None, "/dev/disk/by-path", false),
        (Some(named("host3")), "/srv", false),
        (Some(named("host3")), "/dev/../srv", false),
        (Some(Adapter::FcHost(vhba(None))), "/dev/disk/by-path", true),
        (
            Some(Adapter::FcHost(FcHost { wwpn: "10:0".into(), ..vhba(None) })),
            "/dev/disk/by-path",
            false,
        ),
    ] {
        pool.source.adapter = adapter.clone();
        pool.target = Some(Target { path: target.to_owned(), permissions: None });
        let checked = scsi.check_definition(&pool);
        assert_eq!(checked.is_ok(), fine, "{adapter:?} {target}: {checked:?}");
        let kind = checked.err().map(|error| error.kind());
        assert!(kind.is_none_or(|kind| kind == ErrorKind::InvalidArgument));
    }
}

#[test]
fn events_of_the_adapters_disks_concern_it() {
    let scsi = Scsi::default();
    let path = "DEVPATH=/devices/pci0000:00/0000:00:1f.2/host3/target3:0:0/3:0:0:1/block/sdb";
    let event = DeviceEvent::of(["SUBSYSTEM=block", path]);
    let mut pool = fixture::definition(PoolType::Scsi, Path::new("/dev/disk/by-path"));
    for (adapter, concerned) in [
        (named("host3"), true),
        (named("scsi_host33"), false),
        (on_pci(0x1f, 1), true),
        (on_pci(3, 1), false),
        (Adapter::FcHost(vhba(None)), true),
    ] {
        pool.source.adapter = Some(adapter.clone());
        assert_eq!(scsi.concerned(&pool, &event), concerned, "{adapter:?}");
    }
}
