//! What an object path stands for.

use uuid::Uuid;

/// The ObjectManager of all pools.
pub const POOLS: &str = "/org/poold1/pools";
/// The ObjectManager of all jobs.
pub const JOBS: &str = "/org/poold1/jobs";
const VOLUMES: &str = "/org/poold1/volumes";

/// What an object path stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ObjectId {
    /// A pool.
    Pool(Uuid),
    /// A volume: its pool and name.
    Volume(Uuid, String),
    /// A job by its number.
    Job(u64),
}

impl ObjectId {
    /// Reads a path; `None` for any other object.
    pub fn from_path(path: &str) -> Option<Self> {
        let (parent, last) = path.rsplit_once('/')?;
        match parent {
            POOLS => uuid(last).map(Self::Pool),
            JOBS => last.parse().ok().map(Self::Job),
            _ => {
                let (root, pool) = parent.rsplit_once('/')?;
                (root == VOLUMES).then_some(())?;
                Some(Self::Volume(uuid(pool)?, unescape(last)?))
            }
        }
    }

    /// The path of a job.
    pub fn job_path(number: u64) -> String {
        format!("{JOBS}/{number}")
    }
}

fn uuid(text: &str) -> Option<Uuid> {
    (text.len() == 32).then(|| Uuid::try_parse(text).ok()).flatten()
}

/// Undoes sd-bus label escaping: `_XX` is a byte, `_` alone is the empty name.
fn unescape(label: &str) -> Option<String> {
    if label == "_" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(label.len());
    let mut rest = label.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'_' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_objects() {
        let uuid = Uuid::from_u128(0x3e3fce45_4f53_4fa7_bb32_11f34168b82b);
        let pool = "3e3fce454f534fa7bb3211f34168b82b";
        for (path, id) in [
            (format!("/org/poold1/pools/{pool}"), Some(ObjectId::Pool(uuid))),
            (
                format!("/org/poold1/volumes/{pool}/a_2eqcow2"),
                Some(ObjectId::Volume(uuid, "a.qcow2".into())),
            ),
            (
                format!("/org/poold1/volumes/{pool}/_c3_a4"),
                Some(ObjectId::Volume(uuid, "ä".into())),
            ),
            (ObjectId::job_path(7), Some(ObjectId::Job(7))),
            (format!("/org/poold1/volumes/{pool}/_c3"), None),
            (format!("/org/poold1/volumes/{pool}"), None),
            ("/org/poold1/jobs".into(), None),
            ("/".into(), None),
        ] {
            assert_eq!(ObjectId::from_path(&path), id, "{path}");
        }
    }
}
