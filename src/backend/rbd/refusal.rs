//! Why a program of Ceph's failed, as a typed error.
//!
//! Both programs end with the number of the error, or with 1 where that does not tell (a refusal by an
//! OSD is 1 too); which step failed is in what they say. A wrong key and monitors that do not answer end
//! alike, with ETIMEDOUT: the messenger goes on trying. But it says of a refusal that it met one.

use crate::model::{Error, ErrorKind};

/// What the messenger (version 2) says when a monitor refuses a user or key.
const REFUSED: &str = "handle_auth_bad_method";
/// What `rbd` and `rados` say when no monitor let the client in.
const NOT_CONNECTED: [&str; 2] = ["couldn't connect to", "failed to fetch mon config"];
/// What the messenger says when it speaks version 2 to a monitor that speaks version 1 there.
const OLD_MESSENGER: &str = "is using msgr V1 protocol";
/// What is said of a pool that is not there.
const NO_POOL: &str = "error opening pool";
/// How much of what it says is told.
const LONGEST: usize = 400;

/// The error of a run that failed.
pub(super) fn refusal(what: &str, status: i32, complaints: &str) -> Error {
    let connected = !NOT_CONNECTED.iter().any(|words| complaints.contains(words));
    let kind = match status {
        _ if complaints.contains(REFUSED) && !connected => {
            return Error::new(
                ErrorKind::AuthenticationFailed,
                "the monitors refuse the user or its key; see `ceph auth get`, and set the secret again",
            );
        }
        libc::EACCES if !connected => {
            return Error::new(
                ErrorKind::AuthenticationFailed,
                "the cluster refuses the user or its key; see `ceph auth get`, and set the secret again",
            );
        }
        _ if !connected && complaints.contains(OLD_MESSENGER) => {
            return Error::new(
                ErrorKind::Inaccessible,
                "a monitor speaks Ceph's messenger version 1 at this port; call it v1:ADDRESS to say so",
            );
        }
        // `rados` does not tell why.
        libc::ETIMEDOUT | 1 if !connected => {
            return Error::new(
                ErrorKind::Inaccessible,
                "no monitor answers, or those that do have no quorum",
            );
        }
        _ if !connected => ErrorKind::Inaccessible,
        libc::EPERM | libc::EACCES => ErrorKind::AuthenticationFailed,
        libc::ENOENT if complaints.contains(NO_POOL) => ErrorKind::NotBuilt,
        libc::ENOENT => ErrorKind::NotFound,
        libc::EEXIST => ErrorKind::Exists,
        libc::EBUSY | libc::ENOTEMPTY => ErrorKind::Busy,
        libc::ENOSPC | libc::EDQUOT => ErrorKind::NoSpace,
        libc::EINVAL => ErrorKind::InvalidArgument,
        libc::EOPNOTSUPP | libc::ENOSYS => ErrorKind::NotSupported,
        libc::ETIMEDOUT => ErrorKind::Inaccessible,
        _ => ErrorKind::ToolFailed,
    };
    Error::new(kind, format!("{what} failed: {}", told(complaints, status)))
}

/// What it says for people: without the lines of its log, which have a date.
fn told(complaints: &str, status: i32) -> String {
    let lines = complaints.lines().map(str::trim).filter(|line| {
        !line.is_empty() && !line.starts_with(|c: char| c.is_ascii_digit()) && !line.contains('%')
    });
    let text = lines.collect::<Vec<_>>().join(" ");
    let text: String = text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    match text.is_empty() {
        true => format!("exit status {status}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Ceph 16.2.15.
    #[test]
    fn refusals_are_told_apart() {
        for (status, said, kind) in [
            (
                110,
                "2026-11-26T16:41:13.409+0000 7fc39ee116c0 -1 monclient(hunting): handle_auth_bad_method server allowed_methods [2] but i only support [2]\n\n2026-11-26T16:41:23.409+0000 7fc3a109e380  0 monclient(hunting): authenticate timed out after 10\n\nrbd: couldn't connect to the cluster!\nrbd: listing images failed: (110) Connection timed out\n",
                ErrorKind::AuthenticationFailed,
            ),
            (
                13,
                "rbd: couldn't connect to the cluster!\nrbd: listing images failed: (13) Permission denied\n",
                ErrorKind::AuthenticationFailed,
            ),
            (
                110,
                "2026-11-26T16:41:47.045+0000 7f0642898380  0 monclient(hunting): authenticate timed out after 3\n\nrbd: couldn't connect to the cluster!\nrbd: listing images failed: (110) Connection timed out\n",
                ErrorKind::Inaccessible,
            ),
            (
                110,
                "2026-11-27T00:15:04.610+0000 7f0e6cca06c0 -1 --2-  >> v2:[::1]:17014/0 conn(0x55a496eebe30 0x55a496eee2a0 unknown :-1 s=BANNER_CONNECTING pgs=0 cs=0 l=0 rev1=0 rx=0 tx=0)._handle_peer_banner peer v2:[::1]:17014/0 is using msgr V1 protocol\n\n2026-11-27T00:15:09.610+0000 7f0e6e894380  0 monclient(hunting): authenticate timed out after 5\n\nrbd: couldn't connect to the cluster!\nrbd: listing images failed: (110) Connection timed out\n",
                ErrorKind::Inaccessible,
            ),
            (1, "failed to fetch mon config (--no-mon-config to skip)\n", ErrorKind::Inaccessible),
            (
                110,
                "2026-11-26T16:41:58.401+0000 7f5ea1482380 -1 librbd::api::Image: list_images: error listing v1 images: (110) Connection timed out\n\nrbd: listing images failed: (110) Connection timed out\n",
                ErrorKind::Inaccessible,
            ),
            (
                1,
                "2026-11-26T16:42:31.277+0000 7f910192a380 -1 librbd::api::Image: list_images: error listing v1 images: (1) Operation not permitted\n\nrbd: listing images failed: (1) Operation not permitted\n",
                ErrorKind::AuthenticationFailed,
            ),
            (
                2,
                "rbd: error opening pool 'nope': (2) No such file or directory\nrbd: listing images failed: (2) No such file or directory\n",
                ErrorKind::NotBuilt,
            ),
            (
                2,
                "rbd: error opening image nonexist: (2) No such file or directory\n",
                ErrorKind::NotFound,
            ),
            (
                17,
                "2026-11-26T16:51:28.885+0000 7fbc4ca8f380 -1 librbd: rbd image i2 already exists\n\nrbd: create error: (17) File exists\n",
                ErrorKind::Exists,
            ),
            (
                39,
                "rbd: image has snapshots - these must be deleted with 'rbd snap purge' before the image can be removed.\n",
                ErrorKind::Busy,
            ),
            (
                16,
                "2026-11-26T16:51:30.873+0000 7f4b229156c0 -1 librbd::image::PreRemoveRequest: 0x55e6d59097f0 check_image_watchers: image has watchers - not removing\n\nrbd: error: image still has watchers\nThis means the image is still open or the client using it crashed. Try again after closing/unmapping it or waiting 30s for the crashed client to timeout.\n",
                ErrorKind::Busy,
            ),
            (
                5,
                "2026-11-26T16:51:13.213+0000 7ff41157d6c0 -1 librbd::image::OpenRequest: failed to retrieve initial metadata: (5) Input/output error\n\nrbd: error opening image bad2: (5) Input/output error\n",
                ErrorKind::ToolFailed,
            ),
        ] {
            let error = refusal("rbd x", status, said);
            assert_eq!(error.kind(), kind, "{said}");
            assert!(!error.message().contains("2026-11"), "{error}");
        }
        let silent = refusal("rbd x", 3, "Removing image: 0% complete...failed.\n");
        assert_eq!(silent.message(), "rbd x failed: exit status 3");
    }
}
