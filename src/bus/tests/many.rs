//! A pool of a hundred thousand volumes.

use super::*;
use crate::backend::{Activation, ActivePool, BackendInfo, Listing, OpContext, Operation, Watch};
use crate::model::{FormatSource, PoolDef, PoolType, Volume, VolumeFormat, VolumeKind, VolumeName};

const COUNT: usize = 100_000;

static MANY: BackendInfo = BackendInfo {
    pool_type: PoolType::Dir,
    tools: &[],
    operations: &[Operation::Start, Operation::Refresh],
    watch: Watch::Timer,
};

/// Has many volumes.
struct Many;

impl Backend for Many {
    fn info(&self) -> &'static BackendInfo {
        &MANY
    }

    fn start(&self, _pool: &PoolDef, _ctx: &OpContext) -> Result<Activation> {
        Ok(Activation::default())
    }

    fn refresh(&self, _pool: &ActivePool, _ctx: &OpContext) -> Result<Listing> {
        let volumes = (0..COUNT).map(volume).collect();
        Ok(Listing { volumes, ..Listing::default() })
    }
}

fn volume(number: usize) -> Volume {
    let name = format!("disk{number:06}");
    Volume {
        path: format!("/srv/many/{name}").into(),
        name: VolumeName::new(&name).unwrap(),
        key: None,
        kind: VolumeKind::File,
        format: VolumeFormat::Raw,
        format_source: FormatSource::Probed,

        content_format: None,
        capacity: 1 << 30,
        allocation: 4096,
        physical: 1 << 30,
        modified: 0,
        mode: Some(0o600),
        owner: Some(0),
        group: Some(0),
        label: None,
        timestamps: None,
        image: None,
        incomplete: None,
        extents: Vec::new(),
        block: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_a_message_is_paged_and_every_node_still_answers() {
    let world = World::on(FaceOptions::default(), vec![Arc::new(Many)]);
    let root = world.peer(0).await;
    let start = Options::from([("start", true.into()), ("wait", u64::MAX.into())]);
    let define = ("dir", "many", target_setting(&world.target("many")), start);
    let (pool, _): (zbus::OwnedObjectPath, zbus::OwnedObjectPath) =
        root.get("/org/poold1", "org.poold1.Manager.DefinePool", &define).await;
    let volumes = volumes_of(pool.as_str());

    let list = "org.freedesktop.DBus.ObjectManager.GetManagedObjects";
    let (error, text) = root.call(&volumes, list, &()).await.unwrap_err();
    assert_eq!(error, "org.freedesktop.DBus.Error.LimitsExceeded");
    assert!(text.contains("ListVolumes"), "{text}");

    let introspect = "org.freedesktop.DBus.Introspectable.Introspect";
    let text: String = root.get(&volumes, introspect, &()).await;
    assert_eq!(text.matches("<node name=").count(), COUNT);

    type Rows = Vec<(zbus::OwnedObjectPath, HashMap<String, zbus::OwnedVariant>)>;
    let (mut after, mut found, mut pages) = (String::new(), 0, 0);
    loop {
        let options = Options::from([("properties", vec!["Path"].into())]);
        let page = (after.as_str(), 0u32, options);
        let (rows, next): (Rows, String) =
            root.get(pool.as_str(), "org.poold1.Pool.ListVolumes", &page).await;
        found += rows.len();
        pages += 1;
        after = next;
        if after.is_empty() {
            break;
        }
    }
    assert_eq!(found, COUNT);
    assert!(pages > 1, "a bound that is never met is none");

    let all = ("", 0u32, Options::new());
    let reply = root.call(pool.as_str(), "org.poold1.Pool.ListVolumes", &all).await.unwrap();
    assert!(reply.data().len() < 30 << 20, "{} bytes", reply.data().len());
}
