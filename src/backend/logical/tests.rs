//! What LVM is asked for, and what is made of its answers: its recorded reports are replayed.

use super::create::FULL;
use super::pool::{Opened, build};
use super::report::{self, RECORDED};
use super::volumes::Volumes;
use super::{Logical, find, undo};
use crate::backend::tests::fixture::{World, context, definition};
use crate::backend::{Activation, ActivePool, Backend, BuildMode, OpContext, ResizeOptions};
use crate::host::{Command, DeviceEvent, Host, Limits, Output};
use crate::model::*;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// LVM as it was recorded, and what it was asked.
struct Replay {
    report: Vec<u8>,
    asked: Mutex<Vec<String>>,
}

impl Host for Replay {
    fn run_watched(
        &self,
        command: &Command,
        _limits: &Limits,
        _said: &mut dyn FnMut(&[u8]),
    ) -> Result<Output> {
        let words: Vec<_> = command.args.iter().map(|arg| arg.to_string_lossy()).collect();
        let line = format!("{} {}", command.program, words.join(" "));
        let is_report = line.contains("fullreport");
        self.asked.lock().unwrap().push(line);
        let stdout = if is_report { self.report.clone() } else { Vec::new() };
        Ok(Output { stdout, ..Output::default() })
    }

    fn find_tool(&self, program: &str) -> Option<PathBuf> {
        Some(Path::new("/sbin").join(program))
    }
}

struct Group {
    pool: ActivePool,
    ctx: OpContext,
    host: Arc<Replay>,
}

impl Group {
    fn of(report: &[u8]) -> Self {
        let def = definition(PoolType::Logical, Path::new("/dev/vgt"));
        let source = Source { name: Some("vgt".into()), ..Source::default() };
        let def = Arc::new(PoolDef { source, ..def });
        let host = Arc::new(Replay { report: report.to_vec(), asked: Mutex::default() });
        let ctx = OpContext { host: host.clone(), ..context(&Arc::new(World::default())) };
        Self { pool: ActivePool { def, activation: Activation::default() }, ctx, host }
    }

    fn recorded() -> Self {
        Self::of(RECORDED)
    }

    fn replacing(from: &str, to: &str) -> Self {
        let text = String::from_utf8(RECORDED.to_vec()).unwrap();
        assert!(text.contains(from), "{from}");
        Self::of(text.replace(from, to).as_bytes())
    }

    fn volumes(&self) -> Volumes<'_> {
        let devices = vec!["/dev/vdc".to_owned(), "/dev/vdd".to_owned()];
        let opened = Opened::on(&self.pool.def, devices, &self.ctx).unwrap().unwrap();
        Volumes { pool: &self.pool, opened }
    }

    fn volume(&self, name: &str) -> Volume {
        let volumes = self.volumes();
        volumes.volume(volumes.opened.group.volume(name).unwrap()).unwrap()
    }

    /// What lvcreate is told.
    fn plan(&self, def: &VolumeDef) -> Result<String> {
        self.volumes().plan(def).map(|plan| plan.args.join(" "))
    }

    fn refused(&self, def: &VolumeDef) -> ErrorKind {
        self.plan(def).unwrap_err().kind()
    }
}

fn def(name: &str, capacity: u64) -> VolumeDef {
    let name = VolumeName::new(name).unwrap();
    VolumeDef { capacity: Some(capacity), ..VolumeDef::new(name, PoolType::Logical) }
}

fn snapshot_of(path: &str) -> VolumeDef {
    let backing = BackingStore { path: path.to_owned(), format: None, permissions: None };
    VolumeDef { capacity: None, backing: Some(backing), ..def("new", 0) }
}

fn provided(how: Provisioning, def: VolumeDef) -> VolumeDef {
    VolumeDef { provisioning: Some(how), ..def }
}

#[test]
fn each_way_to_provide_blocks_has_its_arguments() {
    // Half full, that is.
    let group = Group::replacing("\"93.75\"", "\"50.00\"");
    let plan = |def: &VolumeDef| group.plan(def).unwrap();
    let new = || def("new", 1000);
    assert_eq!(plan(&new()), "--size 1024b --wipesignatures y vgt");
    let all = VolumeDef { allocation: Some(1000), ..new() };
    assert_eq!(plan(&all), "--size 1024b --wipesignatures y vgt");
    let sparse = VolumeDef { allocation: Some(8 << 20), ..def("new", 64 << 20) };
    assert_eq!(plan(&sparse), "--type snapshot --size 8388608b --virtualsize 67108864b vgt");
    // Not less than an extent.
    let sparse = VolumeDef { allocation: Some(0), ..def("new", 64 << 20) };
    assert_eq!(plan(&sparse), "--type snapshot --size 4194304b --virtualsize 67108864b vgt");
    let store = provided(Provisioning::ThinPool, new());
    assert_eq!(plan(&store), "--type thin-pool --size 1024b vgt");
    let thin = "--type thin --virtualsize 1024b --thinpool tp vgt";
    assert_eq!(plan(&provided(Provisioning::Thin, new())), thin);
    let named = VolumeDef { thin_pool: Some(VolumeName::new("tp").unwrap()), ..new() };
    assert_eq!(plan(&named), thin);
    let of_thick = snapshot_of("/dev/vgt/str");
    assert_eq!(plan(&of_thick), "--snapshot --size 25165824b vgt/str");
    let small = VolumeDef { allocation: Some(5 << 20), ..of_thick };
    assert_eq!(plan(&small), "--snapshot --size 5242880b vgt/str");
    let of_thin = snapshot_of("/dev/vgt/th");
    assert_eq!(plan(&of_thin), "--snapshot --setactivationskip n vgt/th");
    let thick = provided(Provisioning::Snapshot, of_thin);
    assert_eq!(plan(&thick), "--snapshot --size 104857600b vgt/th");
}

#[test]
fn what_lvm_cannot_make_is_refused_before() {
    let group = Group::replacing("\"93.75\"", "\"50.00\"");
    let refused = |def: VolumeDef| group.refused(&def);
    for name in ["a b", "snapshot1", "x_tdata", "ä", "a:b", &"x".repeat(130)] {
        assert_eq!(refused(def(name, 1)), ErrorKind::InvalidArgument, "{name}");
    }
    assert_eq!(refused(def("lin", 1)), ErrorKind::Exists);
    assert_eq!(refused(def("new", 0)), ErrorKind::InvalidArgument);
    let sparse = provided(Provisioning::Sparse, def("new", 1));
    assert_eq!(refused(sparse), ErrorKind::InvalidArgument);
    let snapshot = provided(Provisioning::Snapshot, def("new", 1));
    assert_eq!(refused(snapshot), ErrorKind::InvalidArgument);
    let elsewhere = VolumeDef { thin_pool: Some(VolumeName::new("lin").unwrap()), ..def("new", 1) };
    assert_eq!(refused(elsewhere), ErrorKind::NotFound);
    assert_eq!(refused(snapshot_of("/dev/other/lin")), ErrorKind::NotFound);
    assert_eq!(refused(snapshot_of("/dev/vgt/tp")), ErrorKind::InvalidArgument);
    assert_eq!(refused(snapshot_of("/dev/vgt/snap")), ErrorKind::NotSupported);
    let thin = provided(Provisioning::Thin, snapshot_of("/dev/vgt/lin"));
    assert_eq!(refused(thin), ErrorKind::NotSupported);
    let larger = VolumeDef { capacity: Some(21 << 20), ..snapshot_of("/dev/vgt/lin") };
    assert_eq!(refused(larger), ErrorKind::InvalidArgument);
    let encrypted =
        VolumeDef { encryption: Some(Encryption::probed("luks")), ..snapshot_of("/dev/vgt/lin") };
    assert_eq!(refused(encrypted), ErrorKind::InvalidArgument);
}

#[test]
fn a_thin_pool_that_is_about_to_be_full_takes_no_new_volumes() {
    let thin = provided(Provisioning::Thin, def("new", 1));
    for (from, used, refused) in [
        ("\"93.75\"", FULL, true),
        ("\"93.75\"", FULL - 1, false),
        ("\"11.04\"", FULL, true),
        ("\"11.04\"", FULL - 1, false),
    ] {
        let group = Group::replacing(from, &format!("\"{}.{:02}\"", used / 100, used % 100));
        for def in [&thin, &snapshot_of("/dev/vgt/th")] {
            let error = group.plan(def).err().map(|error| error.kind());
            assert_eq!(error, refused.then_some(ErrorKind::NoSpace), "{from} {used}");
        }
        assert!(group.plan(&def("thick", 1)).is_ok());
    }
}

#[test]
fn volumes_say_how_they_are_provided() {
    let group = Group::recorded();
    let listing = group.volumes().list();
    assert_eq!((listing.volumes.len(), listing.skipped), (7, 0));
    assert_eq!(listing.usage.available, 2051014656);
    let thin = group.volume("ths");
    assert_eq!(
        (&*thin.path, thin.key()),
        ("/dev/vgt/ths", "goZRW3-VAfI-FiAg-JngW-Mfni-Kt0I-f21a3E")
    );
    let block = thin.block.clone().unwrap();
    assert_eq!(block.provisioning, Some(Provisioning::Thin));
    assert_eq!(block.origin.unwrap().as_str(), "th");
    assert_eq!(thin.to_def().backing.unwrap().path, "/dev/vgt/th");
    assert_eq!(thin.to_def().thin_pool.unwrap().as_str(), "tp");
    assert_eq!(thin.incomplete, None);
    // Its tag is somebody else's.
    assert_eq!(group.volume("lin").incomplete, None);
    let group = Group::replacing("poold.y", &undo::new_tag());
    assert!(group.volume("lin").incomplete.is_some());
}

#[test]
fn what_others_need_is_not_deleted() {
    let group = Group::recorded();
    let delete = |name: &str| group.volumes().delete(&group.volume(name), false);
    for name in ["tp", "lin"] {
        assert_eq!(delete(name).unwrap_err().kind(), ErrorKind::Busy, "{name}");
    }
    // A thin volume's snapshots stand alone.
    delete("th").unwrap();
    let asked = group.host.asked.lock().unwrap().pop().unwrap();
    assert!(asked.ends_with("--yes --force vgt/th"), "{asked}");
    assert!(
        asked.starts_with("lvremove --devices /dev/vdc --devices /dev/vdd --config "),
        "{asked}"
    );
    assert!(asked.contains("scan_lvs=0"), "{asked}");
    // Another one that has its name is not it.
    let other = Volume { key: Some("other".into()), ..group.volume("str") };
    group.volumes().delete(&other, false).unwrap();
    let asked = group.host.asked.lock().unwrap().pop().unwrap();
    assert!(asked.contains("fullreport"), "{asked}");
}

#[test]
fn sizes_change_where_lvm_can_do_it() {
    let group = Group::recorded();
    let resize = |name: &str, capacity: u64, shrink: bool| {
        let options = ResizeOptions { shrink, ..ResizeOptions::default() };
        group.host.asked.lock().unwrap().clear();
        group.volumes().resize(&group.volume(name), capacity, options)?;
        Ok::<_, Error>(group.host.asked.lock().unwrap().pop().unwrap())
    };
    let kind = |name, capacity, shrink| resize(name, capacity, shrink).unwrap_err().kind();
    let asked = resize("str", 32 << 20, false).unwrap();
    assert!(asked.starts_with("lvextend ") && asked.ends_with("--yes --size 33554432b vgt/str"));
    let asked = resize("str", 16 << 20, true).unwrap();
    assert!(asked.ends_with("--force --yes --size 16777216b vgt/str"), "{asked}");
    assert!(resize("tp", 32 << 20, false).unwrap().starts_with("lvextend "));
    assert_eq!(kind("str", 16 << 20, false), ErrorKind::InvalidArgument);
    assert_eq!(kind("str", 0, true), ErrorKind::InvalidArgument);
    assert_eq!(kind("tp", 8 << 20, true), ErrorKind::NotSupported);
    assert_eq!(kind("snap", 32 << 20, false), ErrorKind::NotSupported);
    assert_eq!(kind("sparse", 32 << 20, false), ErrorKind::NotSupported);
    assert_eq!(kind("lin", 32 << 20, false), ErrorKind::Busy);
}

#[test]
fn what_a_wipe_would_not_reach_is_refused() {
    let group = Group::recorded();
    let wipe = |name: &str| {
        group.volumes().wipe(&group.volume(name), Default::default()).unwrap_err().kind()
    };
    for name in ["tp", "snap", "sparse"] {
        assert_eq!(wipe(name), ErrorKind::NotSupported, "{name}");
    }
    // It has 85 MiB that are not written, and its pool one.
    assert_eq!(wipe("th"), ErrorKind::NoSpace);
}

#[test]
fn groups_that_are_not_ours_to_use_are_refused() {
    let group = |fields: &str| {
        let json = format!(
            r#"{{"report":[{{"pv":[{{"pv_name":"/dev/a","vg_name":"vg","vg_uuid":"1"{fields}}}]}}]}}"#
        );
        find::Located::all(&report::physical(json.as_bytes()).unwrap()).remove(0)
    };
    let host = Group::recorded().host;
    let check = |fields| group(fields).check(&*host, &Limits::default()).map_err(|e| e.kind());
    assert_eq!(check(""), Ok(()));
    for (fields, kind) in [
        (r#","vg_shared":"shared""#, ErrorKind::NotSupported),
        (r#","vg_clustered":"clustered""#, ErrorKind::NotSupported),
        (r#","vg_exported":"exported""#, ErrorKind::Conflict),
        (r#","vg_systemid":"other""#, ErrorKind::Conflict),
        (r#","vg_partial":"partial""#, ErrorKind::Inaccessible),
    ] {
        assert_eq!(check(fields), Err(kind), "{fields}");
    }
    let asked = host.asked.lock().unwrap().pop().unwrap();
    assert!(asked.starts_with("lvm systemid --devices /dev/a "), "{asked}");
}

#[test]
fn a_group_that_was_found_is_looked_for_again_when_it_cannot_be_used() {
    assert!(Group::recorded().volumes().opened.usable());
    for (from, to) in [
        ("\"vg_exported\":\"\"", "\"vg_exported\":\"exported\""),
        ("\"vg_shared\":\"\"", "\"vg_shared\":\"shared\""),
        ("\"vg_partial\":\"\"", "\"vg_partial\":\"partial\""),
        ("\"pv_name\":\"/dev/vdd\"", "\"pv_name\":\"[unknown]\""),
    ] {
        assert!(!Group::replacing(from, to).volumes().opened.usable(), "{to}");
    }
}

#[test]
fn events_of_its_volumes_and_of_all_physical_ones_concern_a_pool() {
    let pool = Group::recorded().pool.def;
    let concerned = |properties: &[&str]| {
        Logical::default().concerned(&pool, &DeviceEvent::of(properties.iter().copied()))
    };
    assert!(concerned(&["DEVNAME=/dev/dm-0", "DM_VG_NAME=vgt"]));
    assert!(concerned(&["DEVNAME=/dev/sdb", "ID_FS_TYPE=LVM2_member"]));
    assert!(!concerned(&["DEVNAME=/dev/dm-0", "DM_VG_NAME=vgt2"]));
    assert!(!concerned(&["DEVNAME=/dev/sdb", "ID_FS_TYPE=ext4"]));
}

#[test]
fn names_that_are_no_volume_groups_and_pools_without_devices_are_refused() {
    let Group { pool, ctx, .. } = Group::recorded();
    let named = |name: &str| {
        let source = Source { name: Some(name.into()), ..Source::default() };
        Logical::default().check_definition(&PoolDef { source, ..(*pool.def).clone() })
    };
    assert!(named("vg_0.x+y-z").is_ok());
    for name in ["", "-x", ".", "..", "a b", "a/b", "ä", &"x".repeat(127)] {
        assert_eq!(named(name).unwrap_err().kind(), ErrorKind::InvalidArgument, "{name}");
    }
    let error = build(&pool.def, BuildMode::KeepData, &ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}
