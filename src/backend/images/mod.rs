//! Images wherever they lie: the chain of what they are differences to, their passphrases, and what
//! QEMU is told of them. What pools of image files and pools of block devices share.

mod chain;
mod convert;
mod encryption;
mod options;

use super::{ActivePool, OpContext};
pub(super) use chain::hand_over;
pub(super) use convert::Conversion;
pub(super) use encryption::Lock;
pub(super) use options::stored_format;

/// Work on the images of a pool.
#[derive(Clone, Copy)]
pub(super) struct Images<'a> {
    pub(super) pool: &'a ActivePool,
    pub(super) ctx: &'a OpContext,
}
