//! Devices that pools are made of: what fs, disk, logical and zfs pools ask before they build.

use super::{BuildMode, OpContext};
use crate::host::blank;
use crate::model::{Error, ErrorKind, PoolDef, Result};
use std::path::Path;

/// Refuses to build on a device that is in use (`Busy`, whatever the mode), and, unless it is to be
/// overwritten, on one that may hold data (`AlreadyBuilt`).
pub(super) fn check_buildable(
    pool: &PoolDef,
    device: &Path,
    mode: BuildMode,
    ctx: &OpContext,
) -> Result<()> {
    let ours = |error: Error| error.context(format_args!("pool {}", pool.name));
    blank::check_unused(device, &ctx.limits).map_err(ours)?;
    if mode == BuildMode::Overwrite {
        return Ok(());
    }
    let content = blank::content(ctx.host.as_ref(), device, &ctx.limits).map_err(ours)?;
    match content {
        None => Ok(()),
        Some(content) => Err(Error::new(
            ErrorKind::AlreadyBuilt,
            format!(
                "pool {}: {} {content}; build with overwrite to destroy that",
                pool.name,
                device.display()
            ),
        )),
    }
}
