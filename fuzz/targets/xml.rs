//! Documents of pools, volumes, secrets and sources. The first byte chooses the type of the pool. What is read is written,
//! and read again as what it was.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use poold::model::{PoolType, Usage};
use poold::xml;

fuzz_target!(init: seeds::write_if_asked(seeds), |data: &[u8]| {
    let [choice, text @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let pool_type = PoolType::ALL[usize::from(*choice) % PoolType::ALL.len()];
    if let Ok(pool) = xml::parse_pool(text) {
        let written = xml::write_pool(&pool, Usage::default());
        assert_eq!(xml::parse_pool(&written).ok(), Some(pool), "{written}");
    }
    if let Ok(mut volume) = xml::parse_volume(text, pool_type) {
        // Read only: a wish for the creation.
        volume.nocow = false;
        let written = xml::write_volume(&volume, pool_type);
        assert_eq!(xml::parse_volume(&written, pool_type).ok(), Some(volume), "{written}");
    }
    if let Ok(secret) = xml::parse_secret(text) {
        let secret = secret.complete();
        let written = xml::write_secret(&secret);
        let read = xml::parse_secret(&written).map(|draft| draft.complete());
        assert_eq!(read.ok(), Some(secret), "{written}");
    }
    let _ = xml::parse_source(text, pool_type);
    if let Ok(sources) = xml::parse_sources(text, pool_type) {
        let written = xml::write_sources(&sources, pool_type);
        assert!(xml::parse_sources(&written, pool_type).is_ok(), "{written}");
    }
    if let Ok(document) = xml::canonical(text, Some(pool_type)) {
        assert_eq!(xml::canonical(&document, Some(pool_type)).ok(), Some(document));
    }
});

/// Documents that use what there is.
fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "<pool type='dir'><name>p</name><uuid>00000000-0000-0000-0000-000000000007</uuid><target><path>/srv/p</path>\
         <permissions><mode>0711</mode><owner>1</owner><group>2</group><label>l</label></permissions></target></pool>",
        "<pool type='netfs'><name>n</name><source><host name='h'/><dir path='/e'/><format type='nfs'/>\
         <protocol ver='4.2'/></source><target><path>/srv/n</path></target></pool>",
        "<pool type='logical'><name>v</name><source><device path='/dev/sda'/><name>vg</name><format type='lvm2'/></source>\
         <target><path>/dev/vg</path></target></pool>",
        "<pool type='iscsi'><name>i</name><source><host name='h' port='3260'/><device path='iqn.2026-11.org.example:x'/>\
         <auth type='chap' username='u'><secret usage='s'/></auth></source><target><path>/dev/disk/by-path</path></target></pool>",
        "<pool type='rbd' xmlns:rbd='http://libvirt.org/schemas/storagepool/rbd/1.0'><name>r</name><source><host name='h'/>\
         <name>pool</name><auth type='ceph' username='u'><secret uuid='00000000-0000-0000-0000-000000000007'/></auth></source>\
         <rbd:config_opts><rbd:option name='a' value='b'/></rbd:config_opts></pool>",
        "<pool type='scsi'><name>s</name><source><adapter type='fc_host' parent='scsi_host5' wwnn='20000000c9831b4b' \
         wwpn='10000000c9831b4b'/></source><target><path>/dev/disk/by-path</path></target></pool>",
        "<volume type='file'><name>d.qcow2</name><key>/k</key><capacity unit='GiB'>4</capacity><allocation>0</allocation>\
         <target><path>/srv/d</path><format type='qcow2'/><permissions><mode>0600</mode></permissions>\
         <timestamps><atime>1.2</atime></timestamps><compat>1.1</compat><clusterSize unit='KiB'>64</clusterSize><nocow/>\
         <features><lazy_refcounts/></features><encryption format='luks'><secret type='passphrase' usage='s'/>\
         <cipher name='aes' size='256' mode='xts' hash='sha256'/><ivgen name='plain64'/></encryption></target>\
         <backingStore><path>/srv/b</path><format type='raw'/></backingStore></volume>",
        "<secret ephemeral='no' private='yes'><description>d</description><usage type='volume'><volume>/v</volume></usage></secret>",
        "<source><host name='h'/><dir path='/e'/><format type='auto'/></source>",
        "<sources><source><host name='h'/><dir path='/e'/></source><source><name>x</name></source></sources>",
        "<?xml version='1.0'?><!-- c --><pool type=\"fs\"><name>&lt;&#65;&amp;</name><source><device path='/dev/x'/></source>\
         <target><path><![CDATA[/srv/x]]></path></target></pool>",
    ];
    let with = |choice: usize| move |text: &&str| [&[choice as u8], text.as_bytes()].concat();
    (0..PoolType::ALL.len()).flat_map(|choice| texts.iter().map(with(choice))).collect()
}
