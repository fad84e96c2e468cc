use super::*;
use crate::backend::Undo;
use crate::backend::tests::fixture;
use crate::host::{Command, Host, Output};
use crate::model::{AuthKind, HostAddress, SecretRef, SourceDevice};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const TARGET: &str = "iqn.2026-01.org.example:storage";

/// A sysfs with sessions, open-iscsi's records, and iscsiadm.
struct Bench {
    base: tempfile::TempDir,
    iscsi: Iscsi,
}

impl Bench {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let iscsi = Iscsi {
            sessions: Sessions::at(&base.path().join("class")),
            records: Records::at(base.path()),
        };
        Self { base, iscsi }
    }

    fn session(&self, id: u32, interface: &str, initiator: &str, address: &str, state: &str) {
        let device = self.base.path().join(format!("devices/host{id}/session{id}"));
        let session = device.join(format!("iscsi_session/session{id}"));
        let connection = device.join(format!("connection{id}:0"));
        let port = "3260\n".to_owned();
        for (directory, name, text) in [
            (&session, "targetname", TARGET),
            (&session, "ifacename", interface),
            (&session, "initiatorname", initiator),
            (&session, "state", state),
            (&connection, "persistent_address", address),
            (&connection, "persistent_port", &port),
            (&connection, "address", "<NULL>"),
            (&connection, "port", "-1"),
        ] {
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join(name), format!("{text}\n")).unwrap();
        }
        let link = |from: &Path, class: &str| {
            let class = self.base.path().join("class").join(class);
            fs::create_dir_all(&class).unwrap();
            std::os::unix::fs::symlink(from, class.join(from.file_name().unwrap())).unwrap();
        };
        std::os::unix::fs::symlink(&device, session.join("device")).unwrap();
        link(&session, "iscsi_session");
        link(&connection, "iscsi_connection");
    }
}

fn host(name: &str) -> HostAddress {
    HostAddress { name: name.to_owned(), port: None }
}

fn definition(hosts: &[&str]) -> PoolDef {
    let mut def = fixture::definition(PoolType::Iscsi, Path::new("/dev/disk/by-path"));
    def.source.hosts = hosts.iter().map(|name| host(name)).collect();
    def.source.devices = vec![SourceDevice {
        path: TARGET.to_owned(),
        part_separator: None,
        free_extents: Vec::new(),
    }];
    def
}

fn active(def: &PoolDef) -> ActivePool {
    ActivePool { def: Arc::new(def.clone()), activation: Activation::default() }
}

/// A record of an interface.
fn put_interface(base: &Path, name: &str) {
    fs::create_dir_all(base.join("ifaces")).unwrap();
    fs::write(base.join("ifaces").join(name), "x").unwrap();
}

/// iscsiadm that notes its arguments and says the same whatever it is asked, except that it makes an
/// interface when told to, and ends a session of one that it has a record of.
#[derive(Default)]
struct Iscsiadm {
    status: i32,
    says: &'static str,
    /// Its status at first, and how often; what it complains of then.
    stumbles: (i32, usize),
    complains: String,
    records: PathBuf,
    calls: Mutex<Vec<String>>,
}

impl Host for Iscsiadm {
    fn run_watched(
        &self,
        command: &Command,
        _limits: &Limits,
        _said: &mut dyn FnMut(&[u8]),
    ) -> Result<Output> {
        assert_eq!(command.program, "iscsiadm");
        let args: Vec<&str> = command.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        let mut calls = self.calls.lock().unwrap();
        calls.push(args.join(" "));
        if let ["-m", "iface", "-I", interface, "-o", "new"] = args[..] {
            put_interface(&self.records, interface);
            return Ok(Output::default());
        }
        let (stumble, times) = self.stumbles;
        if calls.iter().filter(|call| !call.contains(" iface ")).count() <= times {
            let stderr = self.complains.clone().into_bytes();
            return Ok(Output { status: stumble, stderr, ..Output::default() });
        }
        if let ["-m", "session", "-r", id, "--logout"] = args[..] {
            let session = self.records.join(format!("class/iscsi_session/session{id}"));
            let interface = fs::read_to_string(session.join("ifacename")).unwrap();
            if !self.records.join("ifaces").join(interface.trim()).exists() {
                // Could not read iface info for poold-07.
                return Ok(Output { status: 3, ..Output::default() });
            }
            fs::remove_file(session).unwrap();
            return Ok(Output::default());
        }
        let says = self.says.as_bytes().to_vec();
        Ok(Output { status: self.status, stdout: says, ..Output::default() })
    }

    fn find_tool(&self, _program: &str) -> Option<PathBuf> {
        None
    }
}

#[test]
fn a_pool_has_the_sessions_at_its_portals_by_its_initiator() {
    let bench = Bench::new();
    bench.session(3, "default", "iqn.x:host", "192.0.2.2", "LOGGED_IN");
    bench.session(5, "default", "iqn.x:host", "192.0.2.1", "FAILED");
    bench.session(10, "default", "iqn.x:guest", "192.0.2.1", "LOGGED_IN");
    let ids = |def: &PoolDef| -> Vec<u32> {
        let place = Place::of(def).unwrap();
        bench.iscsi.of(&place).iter().map(|(_, session)| session.id).collect()
    };
    let both = definition(&["192.0.2.1", "192.0.2.2"]);
    assert_eq!(ids(&both), [5, 10, 3], "in the order of the portals");
    assert_eq!(ids(&definition(&["192.0.2.3"])), [0_u32; 0]);
    let mut own = both.clone();
    own.source.initiator_iqn = Some("iqn.x:host".to_owned());
    assert_eq!(ids(&own), [5, 3]);
    let serving = |def: &PoolDef| bench.iscsi.serving(&Place::of(def).unwrap());
    assert_eq!(serving(&own).unwrap().len(), 1);
    let condition = bench.iscsi.condition(&active(&own)).unwrap_err();
    assert!(condition.message().contains("192.0.2.1:3260"), "{condition}");
    let mut dead = definition(&["192.0.2.1"]);
    dead.source.initiator_iqn = Some("iqn.x:host".to_owned());
    let error = serving(&dead).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inaccessible);
    assert!(error.message().contains("session 5 is down"), "{error}");
    let error = serving(&definition(&["192.0.2.3"])).unwrap_err();
    assert!(error.message().ends_with("any more; stop and start the pool"), "{error}");
}

#[test]
fn a_session_is_at_the_portal_that_it_was_asked_for_by() {
    let bench = Bench::new();
    for (id, name, address) in
        [(1, "san1", "192.0.2.1"), (2, "san2", "192.0.2.2"), (3, "192.0.2.3", "192.0.2.3")]
    {
        bench.session(id, "default", "iqn.x:host", name, "LOGGED_IN");
        let connection = bench.base.path().join(format!("class/iscsi_connection/connection{id}:0"));
        fs::write(connection.join("address"), address).unwrap();
        fs::write(connection.join("port"), "3260").unwrap();
    }
    let at = |hosts: &[&str]| -> Vec<(usize, u32)> {
        let def = definition(hosts);
        let found = bench.iscsi.of(&Place::of(&def).unwrap());
        found.iter().map(|(portal, session)| (*portal, session.id)).collect()
    };
    assert_eq!(at(&["san1", "san2", "192.0.2.3"]), [(0, 1), (1, 2), (2, 3)]);
    assert_eq!(at(&["192.0.2.3", "san2", "san1"]), [(0, 3), (1, 2), (2, 1)]);
    // What is behind another name cannot be told.
    assert_eq!(at(&["192.0.2.2", "san"]), [(0, 2), (1, 1), (1, 3)]);
}

#[test]
fn a_password_is_no_argument_and_gone_after_a_refused_login() {
    let bench = Bench::new();
    let world = Arc::new(fixture::World::default());
    let secret = crate::model::SecretValue::new(b"Correct Horse".to_vec());
    world.secrets.lock().unwrap().insert("main".to_owned(), secret);
    let adm = Arc::new(Iscsiadm {
        status: 24,
        records: bench.base.path().to_owned(),
        ..Iscsiadm::default()
    });
    let mut ctx = fixture::context(&world);
    ctx.host = adm.clone();
    let mut def = definition(&["192.0.2.1"]);
    let usage = SecretRef::Usage("main".to_owned());
    def.source.auth = Some(AuthKind::Chap.auth("alice".to_owned(), usage));
    bench.iscsi.check_definition(&def).unwrap();
    // The interface is made; the login is refused.
    let place = Place::of(&def).unwrap();
    let made = bench.iscsi.log_in(&place, &[&place.portals[0]], &ctx).unwrap_err();
    assert_eq!(made.kind(), ErrorKind::AuthenticationFailed);
    let undo = world.journal.lock().unwrap()[0].clone();
    let interface = place.interface.clone();
    assert_eq!(undo, Undo::WithdrawIscsi { target: TARGET.to_owned(), interface });
    let calls = adm.calls.lock().unwrap().join("\n");
    assert!(calls.contains("iface -I poold-00000000000000000000000000000007 -o new"), "{calls}");
    assert!(!calls.contains("Horse"), "{calls}");
}

#[test]
fn records_hold_the_password_until_they_are_removed() {
    let bench = Bench::new();
    let world = Arc::new(fixture::World::default());
    let secret = crate::model::SecretValue::new(b"Correct Horse".to_vec());
    world.secrets.lock().unwrap().insert("main".to_owned(), secret);
    let adm = Arc::new(Iscsiadm { records: bench.base.path().to_owned(), ..Iscsiadm::default() });
    let mut ctx = fixture::context(&world);
    ctx.host = adm.clone();
    let mut def = definition(&["192.0.2.1"]);
    def.source.initiator_iqn = Some("iqn.x:host".to_owned());
    let usage = SecretRef::Usage("main".to_owned());
    def.source.auth = Some(AuthKind::Chap.auth("alice".to_owned(), usage));
    let place = Place::of(&def).unwrap();
    bench.iscsi.log_in(&place, &[&place.portals[0]], &ctx).unwrap();
    let record = bench.base.path().join("nodes").join(TARGET).join("192.0.2.1,3260");
    let text = fs::read_to_string(&record).unwrap();
    for line in [
        "node.startup = manual\n",
        "node.session.auth.username = alice\n",
        "node.session.auth.password = Correct Horse\n",
        "iface.initiatorname = iqn.x:host\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
    bench.iscsi.stop(&active(&def), StopOptions::default(), &ctx).unwrap();
    assert!(!record.exists());
    let calls = adm.calls.lock().unwrap().join("\n");
    assert!(calls.ends_with("--login") && !calls.contains("Horse"), "{calls}");
}

#[test]
fn a_session_whose_records_are_gone_is_ended_all_the_same() {
    let bench = Bench::new();
    let def = definition(&["192.0.2.1"]);
    let place = Place::of(&def).unwrap();
    let adm = Arc::new(Iscsiadm { records: bench.base.path().to_owned(), ..Iscsiadm::default() });
    let mut ctx = fixture::context(&Arc::new(fixture::World::default()));
    ctx.host = adm.clone();
    let left = || fs::read_dir(bench.base.path().join("ifaces")).unwrap().count();
    bench.session(1, &place.interface, "iqn.x:host", "192.0.2.1", "LOGGED_IN");
    bench.session(2, "default", "iqn.x:host", "192.0.2.1", "LOGGED_IN");
    let others = || bench.iscsi.sessions.all().iter().map(|session| session.id).collect::<Vec<_>>();
    bench.iscsi.stop(&active(&def), StopOptions::default(), &ctx).unwrap();
    assert_eq!((others(), left()), (vec![2], 0));

    // What is refused of one that serves stands; one that is being logged in cannot be ended at once.
    let stumbling = || {
        let (records, stumbles) = (bench.base.path().to_owned(), (9, 1));
        Arc::new(Iscsiadm { stumbles, records, ..Iscsiadm::default() })
    };
    bench.session(5, &place.interface, "iqn.x:host", "192.0.2.1", "LOGGED_IN");
    ctx.host = stumbling();
    let refused = bench.iscsi.stop(&active(&def), StopOptions::default(), &ctx).unwrap_err();
    assert_eq!((refused.kind(), others()), (ErrorKind::ToolFailed, vec![2, 5]));
    bench.iscsi.stop(&active(&def), StopOptions::default(), &ctx).unwrap();
    ctx.host = stumbling();
    bench.session(4, &place.interface, "iqn.x:host", "192.0.2.1", "FREE");
    bench.iscsi.stop(&active(&def), StopOptions::default(), &ctx).unwrap();
    assert_eq!((others(), left()), (vec![2], 0));

    // A login that iscsid went on with is there when its start is undone.
    bench.session(3, &place.interface, "iqn.x:host", "192.0.2.1", "LOGGED_IN");
    put_interface(bench.base.path(), &place.interface);
    let admin = Admin { host: &*adm, limits: &Limits::within(Duration::from_secs(5)) };
    bench.iscsi.withdraw(TARGET, &place.interface, admin).unwrap();
    assert_eq!((others(), left()), (vec![2], 0));
}

#[test]
fn sources_are_targets_with_all_their_portals() {
    let bench = Bench::new();
    let world = Arc::new(fixture::World::default());
    let mut ctx = fixture::context(&world);
    ctx.host = Arc::new(Iscsiadm {
        says: "192.0.2.1:3260,1 iqn.a:x\n[2001:db8::1]:860,2 iqn.a:x\nnonsense\n\
            192.0.2.1:3260,1 iqn.a:y\n",
        ..Iscsiadm::default()
    });
    let spec = Source { hosts: vec![host("192.0.2.1")], ..Source::default() };
    let found = bench.iscsi.find_sources(&spec, &ctx).unwrap();
    let other = HostAddress { name: "2001:db8::1".to_owned(), port: Some(860) };
    assert_eq!(found[0].hosts, [host("192.0.2.1"), other]);
    assert_eq!(found[0].devices[0].path, "iqn.a:x");
    assert_eq!((found[1].hosts.len(), found.len()), (1, 2));
    let error = bench.iscsi.find_sources(&Source::default(), &ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    ctx.host = Arc::new(Iscsiadm { status: 21, ..Iscsiadm::default() });
    assert!(bench.iscsi.find_sources(&spec, &ctx).unwrap().is_empty());
    ctx.host = Arc::new(Iscsiadm { status: 4, ..Iscsiadm::default() });
    let error = bench.iscsi.find_sources(&spec, &ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inaccessible);
}

#[test]
fn records_that_go_while_it_reads_them_are_no_failure() {
    let (world, bench) = (Arc::new(fixture::World::default()), Bench::new());
    let spec = Source { hosts: vec![host("192.0.2.1")], ..Source::default() };
    let mut ctx = fixture::context(&world);
    let says = "192.0.2.1:3260,1 iqn.a:x\n";
    ctx.host = Arc::new(Iscsiadm { stumbles: (6, 2), says, ..Iscsiadm::default() });
    assert_eq!(bench.iscsi.find_sources(&spec, &ctx).unwrap().len(), 1);
    ctx.host = Arc::new(Iscsiadm { stumbles: (6, 100), says, ..Iscsiadm::default() });
    let error = bench.iscsi.find_sources(&spec, &ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ToolFailed);
    assert!(error.message().ends_with("(iscsiadm exit status 6)"), "{error}");
}

/// What iscsiadm says of logins that failed, as recorded of version 2.1.8.
fn refusals(of: &[(&str, i32)]) -> String {
    let refusal = |(host, status): &(&str, i32)| {
        format!(
            "iscsiadm: Could not login to [iface: poold-07, target: {TARGET}, portal: {host},3260].\n\
             iscsiadm: initiator reported error ({status} - encountered iSCSI login failure)\n"
        )
    };
    of.iter().map(refusal).chain(["iscsiadm: Could not log into all portals\n".into()]).collect()
}

#[test]
fn a_login_that_failed_in_passing_is_tried_again_at_its_portal_alone() {
    let bench = Bench::new();
    // What fails at first, how often, and with which status.
    let log_in = |hosts: &[&str], of: &[(&str, i32)], stumbles: (i32, usize)| {
        let (records, complains) = (bench.base.path().to_owned(), refusals(of));
        let adm = Arc::new(Iscsiadm { stumbles, records, complains, ..Iscsiadm::default() });
        let mut ctx = fixture::context(&Arc::new(fixture::World::default()));
        ctx.host = adm.clone();
        let def = definition(hosts);
        let place = Place::of(&def).unwrap();
        let portals: Vec<&Portal> = place.portals.iter().collect();
        let done = bench.iscsi.log_in(&place, &portals, &ctx).map_err(|error| error.kind());
        let calls = adm.calls.lock().unwrap();
        let logins = calls.iter().filter_map(|call| call.strip_suffix(" --login"));
        let at: Vec<String> = logins
            .map(|call| call.split_once("-p ").map_or("all", |(_, at)| at).to_owned())
            .collect();
        (done, at.join(" "))
    };
    let (one, two) = (["san.example.org"], ["192.0.2.1", "fe80::2"]);
    let of = |host: &'static str, status: i32| (host, status);
    let inaccessible = Err(ErrorKind::Inaccessible);
    let passing = of("san.example.org", 5);
    let at = "san.example.org:3260";
    assert_eq!(log_in(&one, &[passing], (5, 2)), (Ok(()), format!("all {at} {at}")));
    let all = format!("all {}", [at; 5].join(" "));
    assert_eq!(log_in(&one, &[passing], (5, 100)), (inaccessible, all));
    assert_eq!(
        log_in(&one, &[of("san.example.org", 19)], (19, 1)),
        (inaccessible, "all".to_owned())
    );
    let (first, second) = (of("192.0.2.1", 5), of("fe80::2", 5));
    assert_eq!(
        log_in(&two, &[first, second], (5, 2)),
        (Ok(()), "all 192.0.2.1:3260 192.0.2.1:3260 [fe80::2]:3260".to_owned())
    );
    assert_eq!(log_in(&two, &[second], (5, 1)), (Ok(()), "all [fe80::2]:3260".to_owned()));
    assert_eq!(log_in(&two, &[], (15, 1)), (Ok(()), "all".to_owned()));
    // One that does not answer hides it.
    assert_eq!(
        log_in(&two, &[of("192.0.2.1", 8), second], (8, 1)),
        (inaccessible, "all [fe80::2]:3260".to_owned())
    );
    // Nor does it hide one that refuses for good.
    assert_eq!(
        log_in(&two, &[first, of("fe80::2", 24)], (5, 1)),
        (Err(ErrorKind::AuthenticationFailed), "all 192.0.2.1:3260".to_owned())
    );
    assert_eq!(
        log_in(&two, &[of("192.0.2.1", 24), second], (24, 1)),
        (Err(ErrorKind::AuthenticationFailed), "all [fe80::2]:3260".to_owned())
    );
}

#[test]
fn a_portal_without_a_session_is_logged_in_at_when_it_answers() {
    let bench = Bench::new();
    let def = definition(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    let place = Place::of(&def).unwrap();
    bench.session(1, &place.interface, "iqn.x:host", "192.0.2.1", "FAILED");
    let complete = |status: i32, stumbles: (i32, usize)| {
        let records = bench.base.path().to_owned();
        let adm = Arc::new(Iscsiadm { status, stumbles, records, ..Iscsiadm::default() });
        let mut ctx = fixture::context(&Arc::new(fixture::World::default()));
        ctx.host = adm.clone();
        let done = bench.iscsi.complete(&active(&def), &ctx).map_err(|error| error.kind());
        let calls: Vec<String> = adm.calls.lock().unwrap().clone();
        (done, calls)
    };
    let condition = || bench.iscsi.condition(&active(&def)).unwrap_err();
    // iscsid sees to a session that is down; of the others there is no record of ours.
    assert!(
        condition()
            .message()
            .ends_with("192.0.2.1:3260; the others serve, and a login there is tried again")
    );
    assert_eq!(complete(0, (0, 0)), (Ok(()), Vec::new()));
    let state = bench.base.path().join("class/iscsi_session/session1/state");
    fs::write(state, "LOGGED_IN\n").unwrap();
    assert!(condition().message().contains("192.0.2.2:3260; the others serve. Stop and start"));

    put_interface(bench.base.path(), &place.interface);
    let portals: Vec<&Portal> = place.portals[1..].iter().collect();
    let made =
        bench.iscsi.records.make(TARGET, &portals, &place.interface, &[], &Limits::default());
    made.unwrap();
    assert!(
        condition()
            .message()
            .ends_with("192.0.2.2:3260; the others serve, and a login there is tried again")
    );
    let search = |at: &str| {
        let interface = &place.interface;
        format!("-m discovery -t sendtargets -p {at}:3260 -o nonpersistent -I {interface}")
    };
    let login =
        |at: &str| format!("-m node -T {TARGET} -I {} -p {at}:3260 --login", place.interface);
    let (second, third) = ("192.0.2.2", "192.0.2.3");
    let all = vec![search(second), login(second), search(third), login(third)];
    assert_eq!(complete(0, (0, 0)), (Ok(()), all.clone()));
    // One that does not answer is not logged in at, and is no reason not to at the next.
    let (done, calls) = complete(0, (8, 1));
    assert_eq!(done, Err(ErrorKind::Inaccessible));
    assert_eq!(calls, [search(second), search(third), login(third)]);
    assert_eq!(complete(0, (5, 1)).1, calls, "nor one that closes the connection");
    // One that tells its targets to nobody else answers.
    let (done, calls) = complete(0, (24, 1));
    assert_eq!((done, calls), (Ok(()), all));
    // The record of the interface may be gone.
    fs::remove_dir_all(bench.base.path().join("ifaces")).unwrap();
    assert!(complete(0, (0, 0)).1[0].ends_with("-o new"));
}

#[test]
fn a_login_whose_time_is_over_is_one_without_an_answer() {
    // A portal that serves already is enough for the pool then.
    let (adm, limits) = (Iscsiadm::default(), Limits::within(std::time::Duration::ZERO));
    let admin = Admin { host: &adm, limits: &limits };
    let over = admin.log_in(TARGET, "x", &[]).unwrap_err();
    assert_eq!(over.kind(), ErrorKind::Inaccessible);
}

#[test]
fn units_of_the_target_concern_it() {
    let (iscsi, def) = (Iscsi::default(), definition(&["192.0.2.1"]));
    let concerned =
        |properties: &[&str]| iscsi.concerned(&def, &DeviceEvent::of(properties.iter().copied()));
    let of = |target: &str| format!("ID_PATH=ip-192.0.2.1:3260-iscsi-{target}-lun-1");
    assert!(concerned(&[&of(TARGET)]));
    assert!(!concerned(&[&of("iqn.2026-01.org.example:storage2"), "DEVPATH=/session1/"]));
    assert!(concerned(&["DEVPATH=/devices/platform/host3/session1/target3:0:0/3:0:0:1/block/sdb"]));
    assert!(!concerned(&["DEVPATH=/devices/pci0000:00/host0/target0:0:0/0:0:0:1/block/sda"]));
}

#[test]
fn definitions_that_could_not_start_are_refused() {
    let iscsi = Iscsi::default();
    let usage = SecretRef::Usage("main".to_owned());
    let changes: [fn(&mut PoolDef); 4] = [
        |def| def.source.hosts[0].name = "-p".to_owned(),
        |def| def.source.devices[0].path = "../../etc".to_owned(),
        |def| def.source.initiator_iqn = Some("iqn.a b".to_owned()),
        |def| def.target.as_mut().unwrap().path = "/srv".to_owned(),
    ];
    let mut refused = vec![definition(&["192.0.2.1"]); 5];
    for (def, change) in refused.iter_mut().zip(changes) {
        change(def);
    }
    refused[4].source.auth = Some(AuthKind::Chap.auth("a\nb".to_owned(), usage));
    for def in refused {
        let error = iscsi.check_definition(&def).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{:?}", def.source);
    }
    iscsi.check_definition(&definition(&["192.0.2.1", "[2001:db8::1]"])).unwrap();
}
