//! Who file operations are done as: on a share whose server trusts no root, somebody with a uid there.
//!
//! A matter of the thread (setfsuid(2), setfsgid(2)); what it starts meanwhile, threads and programs, is
//! the same somebody. Capabilities stay: on this host nothing is forbidden that was not before, and what a
//! server allows it decides by the uid. Used by `backend` and `engine`, and by `process`.

use crate::model::AccessIds;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;

thread_local! {
    static CURRENT: Cell<AccessIds> = const { Cell::new(AccessIds::OURS) };
}

/// What opens files that this process has open, by their paths in /proc.
const OF_PROGRAMS: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);

/// Until it is dropped, this thread's file operations are done as somebody.
#[derive(Debug)]
pub struct Acting {
    before: AccessIds,
    /// It belongs to its thread.
    thread: PhantomData<*const ()>,
}

/// Does the file operations of this thread as `access` says.
pub fn act_as(access: AccessIds) -> io::Result<Acting> {
    let before = CURRENT.get();
    let acting = Acting { before, thread: PhantomData };
    if access != before {
        // Whatever fails, the guard goes back.
        become_(access)?;
    }
    Ok(acting)
}

/// Who this thread acts as.
pub(super) fn current() -> AccessIds {
    CURRENT.get()
}

impl Drop for Acting {
    fn drop(&mut self) {
        if CURRENT.get() == self.before {
            return;
        }
        if let Err(error) = become_(self.before) {
            // What goes on would be done as somebody else.
            tracing::error!("cannot stop acting as another user: {error}");
            std::process::abort();
        }
    }
}

fn become_(access: AccessIds) -> io::Result<()> {
    let sets = rustix::thread::capabilities(None)?;
    CURRENT.set(access);
    set_id(libc::setfsgid, access.group.unwrap_or_else(own_gid))?;
    set_id(libc::setfsuid, access.owner.unwrap_or_else(own_uid))?;
    super::own_process::stay_out_of_dumps()?;
    // The kernel takes those about files away from whoever stops acting as root.
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn own_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Sets one of the ids, which does not say whether it could.
fn set_id(set: unsafe extern "C" fn(u32) -> libc::c_int, id: u32) -> io::Result<()> {
    // SAFETY: takes no pointers, and concerns this thread alone. The impossible id only asks.
    let now = unsafe {
        set(id);
        set(u32::MAX)
    };
    match now.cast_unsigned() == id {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

/// In a child that is about to run a program: becomes who its parent acted as, able to open by their
/// paths the files that the parent has open. System calls only.
pub(super) fn become_in_child(access: AccessIds) -> io::Result<()> {
    if access == AccessIds::OURS {
        return Ok(());
    }
    rustix::thread::set_keep_capabilities(true)?;
    rustix::thread::set_thread_groups(&[])?;
    if let Some(gid) = access.group.map(rustix::fs::Gid::from_raw) {
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    }
    if let Some(uid) = access.owner.map(rustix::fs::Uid::from_raw) {
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    if access.owner.is_some_and(|uid| uid != 0) {
        let sets = CapabilitySets {
            effective: OF_PROGRAMS,
            permitted: OF_PROGRAMS,
            inheritable: OF_PROGRAMS,
        };
        rustix::thread::set_capabilities(None, sets)?;
        rustix::thread::configure_capability_in_ambient_set(CapabilitySet::SYS_PTRACE, true)?;
        rustix::thread::configure_capability_in_ambient_set(CapabilitySet::DAC_READ_SEARCH, true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tool::tests::{run, sh};
    use super::*;
    use crate::host::files::own_path;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    const NOBODY: AccessIds = AccessIds { owner: Some(65534), group: Some(65533) };

    fn may_act() -> bool {
        let may = own_uid() == 0;
        if !may {
            println!("RESULT host acting skip needs root");
        }
        may
    }

    #[test]
    fn files_belong_to_whom_they_are_made_as() {
        if !may_act() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let owner = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, "x").unwrap();
            let metadata = path.metadata().unwrap();
            (metadata.uid(), metadata.gid())
        };
        let gid = own_gid();
        let (turn, turned) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let owner = &owner;
            let other = scope.spawn(move || {
                turned.recv().unwrap();
                owner("of another thread")
            });
            let acting = act_as(NOBODY).unwrap();
            turn.send(()).unwrap();
            assert_eq!(other.join().unwrap(), (0, gid));
            drop(acting);
        });
        let acting = act_as(NOBODY).unwrap();
        assert_eq!(owner("theirs"), (65534, 65533));
        let ours = act_as(AccessIds::OURS).unwrap();
        assert_eq!(owner("ours"), (0, gid));
        drop(ours);
        assert_eq!(owner("theirs again"), (65534, 65533));
        drop(acting);
        assert_eq!(owner("ours at last"), (0, gid));
        let group = act_as(AccessIds { owner: None, group: Some(65533) }).unwrap();
        assert_eq!(owner("of a group"), (0, 65533));
        drop(group);
    }

    #[test]
    fn programs_are_run_as_the_same_and_open_what_is_open_here() {
        if !may_act() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, "content").unwrap();
        std::os::unix::fs::chown(&path, Some(65534), Some(65533)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let script = format!("id -u; id -g; id -G; cat {}", own_path(&file));
        let acting = act_as(NOBODY).unwrap();
        let said = run(&sh(&script)).unwrap().stdout;
        drop(acting);
        assert_eq!(String::from_utf8(said).unwrap(), "65534\n65533\n65533\ncontent");
        let said = run(&sh("id -u")).unwrap().stdout;
        assert_eq!(said, b"0\n");
    }
}
