//! What documents mean, told by example.

use crate::model::{
    Adapter, FcParent, PciAddress, PoolType, Provisioning, RefreshAllocation, ScsiHost,
    SecretUsage, Usage, VolumeFormat, VolumeKind,
};
use crate::xml::*;

#[test]
fn what_nobody_knows_is_ignored() {
    let plain = "<pool type='dir'><name>p</name><uuid>70a7eb156c34ee9cbf5769e8e5ff3fb2</uuid>\
                 <target><path>/p</path></target></pool>";
    let adorned = "\u{feff}<?xml version='1.0' encoding='UTF-8'?>\n<!-- mine -->\n\
        <pool type='dir' colour='red' x:type='fs' xmlns:x='urn:x'>\
        <metadata>\ntext <name>other</name> text\n</metadata>\
        <x:name>other</x:name><name x:a='b'><![CDATA[p]]></name>\
        <uuid>\n 70a7eb15-6c34-ee9c-bf57-69e8e5ff3fb2 \n</uuid>\
        <target><path>/&#112;</path><quota>7</quota></target></pool><?end?>\n";
    assert_eq!(parse_pool(adorned).unwrap(), parse_pool(plain).unwrap());
    let state = format!("<poolstate>\n{plain}</poolstate>");
    assert_eq!(parse_pool(&state).unwrap(), parse_pool(plain).unwrap());
}

#[test]
fn the_namespace_counts_and_not_its_prefix() {
    let document = |uri: &str| {
        format!(
            "<pool type='netfs'><name>n</name><source><host name='h'/><dir path='/x'/></source>\
             <target><path>/mnt</path></target>\
             <o:mount_opts xmlns:o='{uri}'><o:option name='ro'/><option name='x'/></o:mount_opts>\
             </pool>"
        )
    };
    let pool = parse_pool(&document("http://libvirt.org/schemas/storagepool/fs/1.0")).unwrap();
    assert_eq!(pool.mount_options, ["ro"]);
    assert_eq!(parse_pool(&document("urn:other")).unwrap().mount_options, [""; 0]);
}

#[test]
fn what_libvirt_has_not_is_in_a_namespace_of_our_own() {
    let document = |attributes: &str| {
        format!(
            "<pool type='dir'><name>n</name><target><path>/mnt</path></target>\
             <p:volume-permissions xmlns:p='https://poold.org/xmlns/pool/1' {attributes}/></pool>"
        )
    };
    let pool = parse_pool(&document("mode='0640' owner='-1' group='7' label='a:b'")).unwrap();
    let stated = pool.volume_permissions.clone().unwrap();
    assert_eq!((stated.mode, stated.owner, stated.group), (Some(0o640), None, Some(7)));
    assert_eq!(stated.label.as_deref(), Some("a:b"));
    let written = write_pool(&pool, Usage::default());
    assert!(written.contains("<poold:volume-permissions xmlns:poold="), "{written}");
    assert_eq!(parse_pool(&written).unwrap(), pool);
    assert_eq!(parse_pool(&document("")).unwrap().volume_permissions, None);
    for wrong in ["mode='9'", "mode='04755'", "owner='root'"] {
        assert!(parse_pool(&document(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn how_blocks_are_provided_is_in_a_name_space_of_ours() {
    let document = |attributes: &str| {
        format!(
            "<volume><name>v</name><capacity>8</capacity>\
             <p:provisioning xmlns:p='https://poold.org/xmlns/volume/1' {attributes}/></volume>"
        )
    };
    let text = document("type='thin' pool='store'");
    let volume = parse_volume(&text, PoolType::Logical).unwrap();
    assert_eq!(volume.provisioning, Some(Provisioning::Thin));
    assert_eq!(volume.thin_pool.as_ref().map(|name| name.as_str()), Some("store"));
    let written = write_volume(&volume, PoolType::Logical);
    assert!(written.contains("<poold:provisioning xmlns:poold="), "{written}");
    assert_eq!(parse_volume(&written, PoolType::Logical).unwrap(), volume);
    assert!(parse_volume(&text, PoolType::Dir).is_err());
    for wrong in ["type='fat'", "pool='a/b'"] {
        assert!(parse_volume(&document(wrong), PoolType::Logical).is_err(), "{wrong}");
    }
}

#[test]
fn adapters_are_named_in_all_of_libvirts_ways() {
    let read = |adapter: &str| {
        let text = format!(
            "<pool type='scsi'><name>s</name><source>{adapter}</source>\
             <target><path>/dev/disk/by-path</path></target></pool>"
        );
        parse_pool(&text).map(|pool| pool.source.adapter.unwrap())
    };
    let address = PciAddress { domain: 0, bus: 0, slot: 0x1f, function: 2 };
    assert_eq!(
        read(
            "<adapter type='scsi_host'><parentaddr unique_id='1'>\
             <address domain='0x0000' bus='0x00' slot='0x1f' function='0x2'/></parentaddr></adapter>"
        )
        .unwrap(),
        Adapter::ScsiHost(ScsiHost::Parent { address, unique_id: 1 })
    );
    let wwns = "wwnn='20000000c9831b4b' wwpn='10000000c9831b4b'";
    for (attributes, expected) in [
        ("", None),
        ("parent='scsi_host5'", Some(FcParent::Name("scsi_host5".into()))),
        ("parent_fabric_wwn='20000000c9831b4c'", Some(FcParent::Fabric("20000000c9831b4c".into()))),
    ] {
        let adapter = read(&format!("<adapter type='fc_host' {wwns} {attributes} managed='no'/>"));
        let Adapter::FcHost(host) = adapter.unwrap() else { panic!("no fc_host") };
        assert_eq!(host.parent, expected);
        assert_eq!(host.managed, Some(false));
    }
    for wrong in [
        "<adapter/>",
        "<adapter type='x'/>",
        "<adapter name='host0' wwnn='20000000c9831b4b'/>",
        "<adapter type='fc_host' wwnn='1' wwpn='2'/>",
        "<adapter name='host0'><parentaddr unique_id='1'><address/></parentaddr></adapter>",
        "<adapter type='scsi_host'><parentaddr><address/></parentaddr></adapter>",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn rbd_says_how_allocation_is_found() {
    let pool = parse_pool(
        "<pool type='rbd'><source><name>rbd</name><host name='::1'/></source>\
         <refresh><volume allocation='capacity'/></refresh></pool>",
    )
    .unwrap();
    assert_eq!(pool.name.as_str(), "rbd");
    assert_eq!(pool.refresh_allocation, Some(RefreshAllocation::Capacity));
}

#[test]
fn a_volume_is_what_its_pool_makes_of_it() {
    let text = "<volume><name>v</name><capacity unit='KiB'>3</capacity></volume>";
    for (pool_type, kind, format) in [
        (PoolType::Dir, VolumeKind::File, Some(VolumeFormat::Raw)),
        (PoolType::Logical, VolumeKind::Block, None),
        (PoolType::Disk, VolumeKind::Block, Some(VolumeFormat::None)),
        (PoolType::Rbd, VolumeKind::Network, Some(VolumeFormat::Raw)),
    ] {
        let volume = parse_volume(text, pool_type).unwrap();
        assert_eq!((volume.kind, volume.format), (kind, format), "{pool_type}");
        assert_eq!((volume.capacity, volume.allocation), (Some(3072), Some(3072)));
    }
    let partition = "<volume><name>v</name><capacity>1</capacity>\
                     <target><format type='linux-swap'/></target></volume>";
    assert_eq!(
        parse_volume(partition, PoolType::Disk).unwrap().format,
        Some(VolumeFormat::LinuxSwap)
    );
    assert!(parse_volume(partition, PoolType::Dir).is_err());
    assert!(parse_volume(partition, PoolType::Logical).is_err());
}

#[test]
fn secrets_are_named_by_what_they_are_for() {
    for (usage, expected) in [
        ("", SecretUsage::None),
        ("<usage type='volume'><volume>/v</volume></usage>", SecretUsage::Volume("/v".into())),
        ("<usage type='iscsi'><target>t</target></usage>", SecretUsage::Iscsi("t".into())),
        ("<usage type='ceph'><name>c</name></usage>", SecretUsage::Ceph("c".into())),
        ("<usage type='cifs'><name>n</name></usage>", SecretUsage::Cifs("n".into())),
        ("<usage type='tls'><name>t</name></usage>", SecretUsage::Tls("t".into())),
        ("<usage type='vtpm'><name>v</name></usage>", SecretUsage::Vtpm("v".into())),
    ] {
        let secret = parse_secret(&format!("<secret private='yes'>{usage}</secret>")).unwrap();
        assert_eq!(secret.uuid, None, "which one is for others to find");
        let secret = secret.complete();
        assert_eq!(secret.usage, expected);
        assert!(secret.private && !secret.ephemeral);
    }
}

#[test]
fn canonical_is_the_document_itself_when_written_by_us() {
    let pool = write_pool(
        &parse_pool("<pool type='zfs'><name>tank</name></pool>").unwrap(),
        Usage::default(),
    );
    let volume = "<volume><name>v</name><capacity>1</capacity></volume>";
    let volume = write_volume(&parse_volume(volume, PoolType::Dir).unwrap(), PoolType::Dir);
    let secret = write_secret(&parse_secret("<secret/>").unwrap().complete());
    let source = "<source>\n  <host name='h' port='1'/>\n</source>\n".to_owned();
    let sources =
        "<sources>\n  <source>\n    <name>vg</name>\n  </source>\n</sources>\n".to_owned();
    for document in [pool, volume, secret, source, sources] {
        assert_eq!(canonical(&document, None).unwrap(), document);
    }
    let sources = "<sources><source><name>vg</name></source></sources>";
    let logical = canonical(sources, Some(PoolType::Logical)).unwrap();
    assert!(logical.contains("<format type='lvm2'/>"), "{logical}");
}

#[test]
fn an_empty_text_says_nothing_of_where_to_look() {
    assert_eq!(parse_source(" ", PoolType::Logical).unwrap(), Source::default());
    assert_eq!(parse_source("<source/>", PoolType::Logical).unwrap(), Source::default());
}

#[test]
fn capabilities_say_what_this_host_has() {
    let document = write_capabilities(|pool_type| pool_type == PoolType::Dir);
    assert!(document.contains("<pool type='dir' supported='yes'>"));
    assert_eq!(document.matches("supported='no'").count(), 13);
    assert!(document.contains("<value>hfs+</value>"));
}
