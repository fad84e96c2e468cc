//! Recorded reports are read as what they are.

use super::*;

#[test]
fn a_group_and_its_volumes_are_read() {
    let group = group(RECORDED, "vgt").unwrap().unwrap();
    assert_eq!(group.usage.capacity, 2139095040);
    assert_eq!((group.usage.available, group.extent), (2051014656, 4 << 20));
    assert_eq!(room(RECORDED, "vgt").unwrap(), Some(group.usage));
    assert_eq!(room(RECORDED, "other").unwrap(), None);
    assert!(!group.standing.partial() && group.missing.is_empty());
    assert_eq!(group.targets, BTreeSet::from(["snapshot", "thin-pool", "zero"]));
    let names: Vec<_> = group.volumes.iter().map(|volume| &*volume.name).collect();
    assert_eq!(names, ["lin", "snap", "sparse", "str", "th", "ths", "tp"]);
    let of = |name: &str| group.volume(name).unwrap();
    for (name, provisioning, size, allocation) in [
        ("lin", Provisioning::Thick, 20 << 20, 20 << 20),
        ("snap", Provisioning::Snapshot, 20 << 20, 8 << 20),
        ("sparse", Provisioning::Sparse, 100 << 20, 8 << 20),
        ("th", Provisioning::Thin, 100 << 20, 15 << 20),
        ("tp", Provisioning::ThinPool, 16 << 20, 16 << 20),
    ] {
        let volume = of(name);
        assert_eq!(volume.provisioning, provisioning, "{name}");
        assert_eq!((volume.size, volume.allocation), (size, allocation), "{name}");
        assert!(volume.active && volume.damage.is_none(), "{name}");
    }
    assert_eq!(of("snap").origin.as_deref(), Some("lin"));
    assert_eq!(of("sparse").origin, None);
    assert_eq!(of("ths").origin.as_deref(), Some("th"));
    assert_eq!(of("ths").thin_pool.as_deref(), Some("tp"));
    assert_eq!((of("tp").data_used, of("tp").metadata_used), (Some(9375), Some(1104)));
    assert_eq!(of("lin").data_used, None);
    assert_eq!(of("lin").tags, ["poold.y"]);
    let places: Vec<_> =
        of("str").extents.iter().map(|place| (&*place.device, place.start, place.end)).collect();
    assert_eq!(places, [("/dev/vdc", 20 << 20, 32 << 20), ("/dev/vdd", 0, 12 << 20)]);
    assert!(of("tp").extents.is_empty());
}

#[test]
fn what_is_no_report_is_said() {
    assert_eq!(group(RECORDED, "other").unwrap(), None);
    for json in [&b""[..], b"{}", b"[]", b"{\"report\":1}"] {
        assert_eq!(group(json, "vgt").unwrap_err().kind(), ErrorKind::ToolFailed);
    }
    let damaged = String::from_utf8(RECORDED.to_vec()).unwrap().replace("20971520", "20.1m");
    assert_eq!(group(damaged.as_bytes(), "vgt").unwrap_err().kind(), ErrorKind::ToolFailed);
}

#[test]
fn volumes_that_cannot_be_relied_on_say_why() {
    let text = String::from_utf8(RECORDED.to_vec()).unwrap();
    let text = text.replace("\"swi-a-s---\"", "\"swi-I-s---\"");
    let text = text.replace("\"-wi-a-----\"", "\"-wi-a---p-\"");
    let group = group(text.as_bytes(), "vgt").unwrap().unwrap();
    assert!(group.volume("snap").unwrap().damage.unwrap().contains("full"));
    assert!(group.volume("str").unwrap().damage.unwrap().contains("missing"));
}

#[test]
fn percents_are_hundredths() {
    assert_eq!(percent("93.75"), Some(9375));
    assert_eq!(percent("0.00"), Some(0));
    assert_eq!(percent("100.00"), Some(10_000));
    assert_eq!(percent("7"), Some(700));
    assert_eq!(percent("7.5"), Some(750));
    assert_eq!(percent(""), None);
}

#[test]
fn physical_volumes_are_read() {
    let json = br#"{"report":[{"pv":[
        {"pv_name":"/dev/vdc","pv_uuid":"a","vg_name":"vgt","vg_uuid":"g","vg_tags":"x,y",
         "vg_systemid":"","vg_exported":"exported","vg_partial":"partial","vg_shared":"",
         "vg_clustered":""},
        {"pv_name":"[unknown]","pv_uuid":"b","vg_name":"vgt","vg_uuid":"g"}]}]}"#;
    let rows = physical(json).unwrap();
    assert!(!rows[0].missing() && rows[1].missing());
    assert!(rows[0].group_has("y") && !rows[0].group_has("xy"));
    let standing = &rows[0].standing;
    assert!(standing.exported() && standing.partial() && !standing.shared());
}
