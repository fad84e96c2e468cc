//! What is in a Ceph pool, and the room there is, as Ceph's programs tell it. `rbd ls -l` reads all images in one
//! run, but one after another for the most part: 3 ms of one processor each, whatever is done about it. Names alone
//! cost next to nothing, and tell no sizes.

use super::Work;
use super::cluster::{Session, UNREADABLE};
use crate::backend::block_volumes::{BlockVolumes, Found};
use crate::host::{HIDDEN_PREFIX, Limits};
use crate::model::{
    BlockAttributes, Error, ErrorKind, RefreshAllocation, Result, Usage, Volume, VolumeFormat,
    VolumeName,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Size of an image's objects unless it says otherwise (2^22), in which its allocation is counted.
const OBJECT: u64 = 4 << 20;

/// An image in `rbd ls -l`, or a snapshot of one.
#[derive(Debug, Deserialize)]
struct Listed {
    image: String,
    #[serde(default)]
    snapshot: Option<String>,
    size: u64,
    #[serde(default)]
    parent: Option<Parent>,
}

/// An image in `rbd info`.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) size: u64,
    pub(super) object_size: u64,
    #[serde(default)]
    pub(super) snapshot_count: u64,
    /// The group that it is in, with its pool.
    #[serde(default)]
    pub(super) group: Option<String>,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    pub(super) parent: Option<Parent>,
}

/// The snapshot that an image shares its content with.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Parent {
    pub(super) pool: String,
    #[serde(default)]
    pub(super) pool_namespace: String,
    pub(super) image: String,
    pub(super) snapshot: String,
}

#[derive(Debug, Deserialize)]
struct Used {
    images: Vec<UsedImage>,
}

#[derive(Debug, Deserialize)]
struct UsedImage {
    name: String,
    used_size: u64,
}

/// `rados df`, in KiB but for the pools.
#[derive(Debug, Deserialize)]
struct Room {
    #[serde(default)]
    pools: Vec<PoolRoom>,
    total_avail: u64,
    total_space: u64,
}

#[derive(Debug, Deserialize)]
struct PoolRoom {
    name: String,
    size_bytes: u64,
}

/// Reads what a program wrote.
pub(super) fn parse<T: DeserializeOwned>(what: &str, answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer).map_err(|error| {
        Error::new(ErrorKind::ToolFailed, format!("{what} wrote what is unclear: {error}"))
    })
}

/// Room, as libvirt counts it: the cluster's, and what the pool takes of it.
pub(super) fn room(session: &Session<'_>) -> Result<Usage> {
    let room: Room = parse("rados df", &session.room()?.answer)?;
    let taken = room.pools.iter().find(|pool| pool.name == session.cluster.pool());
    Ok(Usage {
        capacity: room.total_space.saturating_mul(1 << 10),
        allocation: taken.map_or(0, |pool| pool.size_bytes),
        available: room.total_avail.saturating_mul(1 << 10),
    })
}

/// The names of all images, those in the making too.
pub(super) fn names(session: &Session<'_>) -> Result<Vec<String>> {
    parse("rbd ls", &session.rbd(&["ls"], &["--format=json".to_owned()])?.answer)
}

/// All volumes, and how many images could not be read or named.
pub(super) fn all(work: &Work<'_>, session: &Session<'_>) -> Result<(Vec<Volume>, u32)> {
    let begun = Instant::now();
    let said = session.list()?;
    let unreadable = said.complaints.lines().filter(|line| line.starts_with(UNREADABLE)).count();
    let listed: Vec<Listed> = parse("rbd ls", &said.answer)?;
    let used = match asks_use(work) {
        true => used(work, session, begun.elapsed())?,
        false => HashMap::new(),
    };
    let mut unnamed = 0;
    let mut volumes = Vec::with_capacity(listed.len());
    for image in listed.into_iter().filter(|each| each.snapshot.is_none()) {
        if image.image.starts_with(HIDDEN_PREFIX) {
            continue;
        }
        let Some(name) = VolumeName::found(&image.image) else {
            unnamed += 1;
            continue;
        };
        let allocation = used
            .get(&image.image)
            .copied()
            .unwrap_or_else(|| image.size.div_ceil(OBJECT).saturating_mul(OBJECT));
        volumes.push(volume(work, name, image.size, allocation, image.parent.as_ref()));
    }
    Ok((volumes, u32::try_from(unreadable + unnamed).unwrap_or(u32::MAX)))
}

/// Whether the definition wants to know what images take, and not what they could.
fn asks_use(work: &Work<'_>) -> bool {
    work.pool.def.refresh_allocation == Some(RefreshAllocation::Default)
}

/// What images take, by one run for all, which may take three times as long as to list them. Those without a map
/// of their objects are counted object by object; when that takes too long, nothing is known of any, which is no
/// failure.
fn used(work: &Work<'_>, session: &Session<'_>, listing: Duration) -> Result<HashMap<String, u64>> {
    let limits = session.limits();
    let patience = match limits.left() {
        Some(left) => left / 2,
        None => listing * 3,
    };
    let hurried =
        Limits { deadline: Some(Instant::now() + patience), cancel: limits.cancel.clone() };
    let said = match session.within(&hurried).rbd(&["du"], &["--format=json".to_owned()]) {
        Ok(said) => said,
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            let name = &work.pool.def.name;
            tracing::warn!(POOLD_POOL = %name, "what images take is not counted: an image without fast-diff takes too long");
            return Ok(HashMap::new());
        }
        Err(error) => return Err(error),
    };
    let used: Used = parse("rbd du", &said.answer)?;
    Ok(sums(used))
}

/// What each image takes: of one with snapshots, what each of these holds is an entry of its own.
fn sums(used: Used) -> HashMap<String, u64> {
    let mut sums = HashMap::new();
    for image in used.images {
        *sums.entry(image.name).or_insert(0_u64) += image.used_size;
    }
    sums
}

/// What `rbd info` says of an image; none when there is none.
pub(super) fn info(session: &Session<'_>, image: &str) -> Result<Option<Info>> {
    let args = [format!("--image={image}"), "--format=json".to_owned()];
    match session.rbd(&["info"], &args) {
        Ok(said) => parse("rbd info", &said.answer).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// One volume.
pub(super) fn one(
    work: &Work<'_>,
    session: &Session<'_>,
    name: &VolumeName,
) -> Result<Option<Volume>> {
    let named = |error| work.pool.of_volume(name, error);
    if name.as_str().starts_with(HIDDEN_PREFIX) {
        return Ok(None);
    }
    let Some(info) = info(session, name.as_str()).map_err(named)? else { return Ok(None) };
    let object = info.object_size.max(1);
    let mut allocation = info.size.div_ceil(object).saturating_mul(object);
    if asks_use(work) && info.knows_its_use() {
        let args = [format!("--image={name}"), "--format=json".to_owned()];
        let said = session.rbd(&["du"], &args).map_err(named)?;
        let used: Used = parse("rbd du", &said.answer).map_err(named)?;
        allocation = used.images.iter().map(|each| each.used_size).sum();
    }
    Ok(Some(volume(work, name.clone(), info.size, allocation, info.parent.as_ref())))
}

impl Info {
    /// Whether it has a map of its objects that can be believed.
    fn knows_its_use(&self) -> bool {
        let has = |list: &[String], word: &str| list.iter().any(|each| each == word);
        has(&self.features, "fast-diff") && !has(&self.flags, "fast diff invalid")
    }
}

/// An image as a volume.
pub(super) fn volume(
    work: &Work<'_>,
    name: VolumeName,
    size: u64,
    allocation: u64,
    parent: Option<&Parent>,
) -> Volume {
    let here =
        |parent: &&Parent| parent.pool == work.cluster.pool() && parent.pool_namespace.is_empty();
    let origin = parent.filter(here).and_then(|parent| VolumeName::found(&parent.image));
    let attributes =
        origin.map(|origin| BlockAttributes { origin: Some(origin), ..BlockAttributes::default() });
    BlockVolumes::new(work.pool, work.ctx).volume(Found {
        path: work.cluster.path(name.as_str()),
        name,
        key: None,
        device: None,
        capacity: size,
        allocation,
        format: VolumeFormat::Raw,
        extents: Vec::new(),
        attributes: attributes.map(Box::new),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Ceph 16.2.15.
    const LISTED: &str = r#"[
        {"image":"-dash","id":"151193a64e6a","size":100000,"format":2},
        {"image":"child","id":"14e9c49fbd3f","size":16777216,"parent":{"pool":"rbd","pool_namespace":"","image":"i1","snapshot":"s1"},"format":2},
        {"image":"i1","id":"1042f295e725","size":16777216,"format":2},
        {"image":"i1","id":"1042f295e725","snapshot":"s1","snapshot_id":4,"size":16777216,"format":2,"protected":"true"}]"#;
    const INFO: &str = r#"{"name":"ch","id":"10256ee6c9b0","size":8388608,"objects":2,"order":22,"object_size":4194304,"snapshot_count":0,"block_name_prefix":"rbd_data.10256ee6c9b0","format":2,"features":["layering","exclusive-lock","object-map","fast-diff","deep-flatten","operations"],"op_features":["clone-child"],"flags":[],"create_timestamp":"Thu Nov 26 17:19:20 2026","parent":{"pool":"images","pool_namespace":"","image":"v1","id":"100b45b031f6","snapshot":"d40463ec-ce5f-4248-a411-6932dc866a2b","trash":false,"overlap":8388608}}"#;
    const USED: &str = r#"{"images":[{"name":"i98","id":"10fe9aad0ad5","provisioned_size":16777216,"used_size":0},{"name":"v1","snapshot":"s","snapshot_id":4,"provisioned_size":67108864,"used_size":4194304},{"name":"v1","id":"100f1ca4fccc","provisioned_size":67108864,"used_size":8388608}],"total_provisioned_size":5100273664,"total_used_size":8388608}"#;
    const ROOM: &str = r#"{"pools":[{"name":"rbd","id":1,"size_bytes":9437184,"size_kb":9216,"num_objects":12}],"total_objects":12,"total_used":9216,"total_avail":1039360,"total_space":1048576}"#;

    #[test]
    fn what_rbd_says_is_read() {
        let listed: Vec<Listed> = parse("rbd ls", LISTED.as_bytes()).unwrap();
        let volumes: Vec<_> = listed.iter().filter(|each| each.snapshot.is_none()).collect();
        assert_eq!(volumes.len(), 3);
        assert_eq!((volumes[0].image.as_str(), volumes[0].size), ("-dash", 100_000));
        assert_eq!(volumes[1].parent.as_ref().unwrap().image, "i1");
        let info: Info = parse("rbd info", INFO.as_bytes()).unwrap();
        assert!(info.knows_its_use());
        assert_eq!((info.size, info.object_size, info.snapshot_count), (8 << 20, 4 << 20, 0));
        let stale = INFO.replace("\"flags\":[]", "\"flags\":[\"fast diff invalid\"]");
        assert!(!parse::<Info>("rbd info", stale.as_bytes()).unwrap().knows_its_use());
        let used: Used = parse("rbd du", USED.as_bytes()).unwrap();
        assert_eq!(sums(used)["v1"], 12 << 20);
        let room: Room = parse("rados df", ROOM.as_bytes()).unwrap();
        assert_eq!((room.total_space, room.pools[0].size_bytes), (1 << 20, 9 << 20));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for answer in ["", "[{\"image\":7}]", "{}", "[{\"image\":\"x\",\"size\":-1}]"] {
            let error = parse::<Vec<Listed>>("rbd ls", answer.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ToolFailed);
        }
    }
}
