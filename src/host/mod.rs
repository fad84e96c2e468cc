//! The outside world: running tools, the mount table, files opened safely, watches, who holds what.
//!
//! Used by `image`, `backend` and `engine`. Everything here blocks and is called on worker threads,
//! except the watches, which are asynchronous.

mod acting;
pub mod blank;
pub mod block;
pub mod copy;
mod directory;
mod environment;
pub mod files;
pub mod holders;
mod inotify;
mod lifetime;
mod limits;
mod mounts;
mod netlink;
mod network;
mod own_process;
mod packages;
mod process;
mod sealed;
mod served;
mod starter;
mod tool;
mod uevents;
mod way;
pub mod wipe;

pub use acting::{Acting, act_as};
pub use block::BlockDevice;
pub use directory::{Access, Directory, HIDDEN_PREFIX, Temporary, TemporaryDirectory};
pub use files::FileStat;
pub use inotify::{DirectoryChanges, DirectoryWatch, DirectoryWatcher};
pub use lifetime::Lifetime;
pub use limits::{CancelToken, Limits};
pub use mounts::{Mount, MountTable, MountWatch};
pub use network::NetworkWatch;
pub use own_process::{
    exit_now, give_back_freed_memory, keep_out_of_dumps, take_passed_descriptors,
};
pub use packages::{missing as tool_missing, program_and_packages};
pub use process::wait_for_abandoned;
pub use sealed::Sealed;
pub use served::{Server, serve, sweep_private};
pub use tool::{Command, Host, Output, SystemHost};
pub use uevents::{DeviceEvent, DeviceEvents};
pub use way::{Trust, is_roots, open_image, reopen, walk};
