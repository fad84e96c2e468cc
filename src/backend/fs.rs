//! Pools of type fs: a file system on a device, mounted on the target.

use super::device::check_buildable;
use super::image_directory::{self, ImagePool};
use super::target::{check_path, target_path};
use super::{Activation, ActivePool, BackendInfo, BuildMode, OpContext, StopOptions, Watch, mount};
use crate::host::{BlockDevice, Command, Lifetime, Mount, blank, tool_missing};
use crate::model::{Error, ErrorKind, PoolDef, PoolType, Result};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The backend of fs pools.
#[derive(Debug)]
pub(super) struct Fs;

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Fs,
    tools: &["blkid", mount::TOOLS[0], mount::TOOLS[1]],
    operations: image_directory::OPERATIONS,
    watch: Watch::Directory,
};

/// What builds need: the test of emptiness, and the makers.
static FORMAT_TOOLS: [&str; 11] = [
    "parted",
    "wipefs",
    "mkfs.ext2",
    "mkfs.ext3",
    "mkfs.ext4",
    "mkfs.udf",
    "mkfs.gfs2",
    "mkfs.vfat",
    "mkfs.hfsplus",
    "mkfs.xfs",
    "mkfs.ocfs2",
];

/// A format of fs pools.
struct Format {
    /// libvirt's word for it.
    name: &'static str,
    /// What blkid calls the file systems that are mounted as it.
    probed: &'static [&'static str],
    /// What the kernel calls it.
    fs_type: &'static str,
    /// Mount options that it always has; those of a definition come after them.
    options: &'static [&'static str],
    /// How it is made.
    maker: Maker,
}

/// How a file system is made.
enum Maker {
    /// By a program, to which the device is added. It asks nothing and overwrites: what is on the
    /// device is looked at before.
    Program(&'static str, &'static [&'static str]),
    /// Not at all, and why.
    Nothing(&'static str),
    /// Neither made nor mounted, and why.
    Foreign(&'static str),
}
use Maker::{Foreign, Nothing, Program};

/// After an error nothing more is written, but no kernel panics for it.
const EXT: &[&str] = &["errors=remount-ro"];
const MKE2FS: &[&str] = &["-q", "-F"];

/// The formats, but for auto.
static FORMATS: [Format; 13] = [
    Format {
        name: "ext2",
        probed: &["ext2"],
        fs_type: "ext2",
        options: EXT,
        maker: Program("mkfs.ext2", MKE2FS),
    },
    Format {
        name: "ext3",
        probed: &["ext3"],
        fs_type: "ext3",
        options: EXT,
        maker: Program("mkfs.ext3", MKE2FS),
    },
    Format {
        name: "ext4",
        // Its driver serves the older ones too.
        probed: &["ext4", "ext3", "ext2"],
        fs_type: "ext4",
        options: EXT,
        maker: Program("mkfs.ext4", MKE2FS),
    },
    Format {
        name: "ufs",
        probed: &["ufs"],
        fs_type: "ufs",
        // The usual kernel cannot write it, and refuses to mount it as if it could.
        options: &["ufstype=ufs2", "ro"],
        maker: Nothing("no program for Linux makes one on a device; make it with FreeBSD's newfs"),
    },
    Format {
        name: "iso9660",
        probed: &["iso9660"],
        fs_type: "iso9660",
        options: &[],
        maker: Nothing("it is read-only, and made with its content by a program like xorriso"),
    },
    Format {
        name: "udf",
        probed: &["udf"],
        fs_type: "udf",
        options: &[],
        maker: Program("mkfs.udf", &[]),
    },
    Format {
        name: "gfs",
        probed: &["gfs"],
        fs_type: "gfs",
        options: &[],
        maker: Foreign("it was replaced by gfs2, and nothing makes or mounts it any more"),
    },
    Format {
        name: "gfs2",
        probed: &["gfs2"],
        fs_type: "gfs2",
        options: &[],
        // For this host alone; one for a cluster is made with its lock table by hand.
        maker: Program("mkfs.gfs2", &["-q", "-O", "-p", "lock_nolock", "-j", "1"]),
    },
    Format {
        name: "vfat",
        probed: &["vfat"],
        fs_type: "vfat",
        options: &[],
        maker: Program("mkfs.vfat", &["-I"]),
    },
    Format {
        name: "hfs+",
        probed: &["hfsplus", "hfs"],
        fs_type: "hfsplus",
        options: &[],
        maker: Program("mkfs.hfsplus", &[]),
    },
    Format {
        name: "xfs",
        probed: &["xfs"],
        fs_type: "xfs",
        options: &[],
        maker: Program("mkfs.xfs", &["-q", "-f"]),
    },
    Format {
        name: "ocfs2",
        probed: &["ocfs2"],
        fs_type: "ocfs2",
        options: &[],
        // The same.
        maker: Program("mkfs.ocfs2", &["-q", "-F", "-M", "local"]),
    },
    Format {
        name: "vmfs",
        probed: &["VMFS"],
        fs_type: "vmfs",
        options: &[],
        maker: Foreign("only VMware ESXi makes and mounts it"),
    },
];

/// File systems that are never written: that such a mount is read-only is no fault.
const READ_ONLY: [&str; 4] = ["iso9660", "ufs", "squashfs", "erofs"];

impl ImagePool for Fs {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn format_tools(&self) -> &'static [&'static str] {
        &FORMAT_TOOLS
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        check_path(target_path(pool)?)?;
        device(pool)?;
        format(pool)?;
        mount::check_options(pool)
    }

    fn build(&self, pool: &PoolDef, mode: BuildMode, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        let Some(format) = format(pool)? else {
            return Err(Error::new(
                ErrorKind::NotSupported,
                format!(
                    "pool {}: format auto does not say which file system to make; define the pool with one, such as ext4 or xfs",
                    pool.name
                ),
            ));
        };
        let (program, args) = match format.maker {
            Program(program, args) => (program, args),
            Nothing(why) | Foreign(why) => {
                return Err(Error::new(
                    ErrorKind::NotSupported,
                    format!(
                        "pool {}: a file system {} cannot be built: {why}",
                        pool.name, format.name
                    ),
                ));
            }
        };
        let ours = |error: Error| error.context(format_args!("pool {}", pool.name));
        if ctx.host.find_tool(program).is_none() {
            return Err(ours(tool_missing(program)));
        }
        let device = find_device(pool)?;
        check_buildable(pool, &device, mode, ctx)?;
        image_directory::build(pool, ctx)?;
        if mode == BuildMode::Overwrite {
            // What mkfs leaves would make it unclear what the device holds.
            let args =
                vec!["--all".into(), "--force".into(), "--quiet".into(), device.clone().into()];
            let wipefs = Command { program: "wipefs", args, ..Command::default() };
            ctx.host.run(&wipefs, &ctx.limits).map_err(ours)?;
        }
        let args = args.iter().map(Into::into).chain([device.into()]).collect();
        let command = Command { program, args, ..Command::default() };
        ctx.host.run(&command, &ctx.limits).map_err(ours).map(drop)
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        self.check_definition(pool)?;
        let device = find_device(pool)?;
        let format = format(pool)?;
        if let Some(Format { name, maker: Foreign(why), .. }) = format {
            let message = format!("pool {}: {name} cannot be mounted: {why}", pool.name);
            return Err(Error::new(ErrorKind::NotSupported, message));
        }
        let host = ctx.host.as_ref();
        let found = blank::file_system(host, &device, &ctx.limits)
            .map_err(|error| error.context(format_args!("pool {}", pool.name)))?;
        let fits = |kind: &String| format.is_none_or(|format| format.probed.contains(&&**kind));
        let Some(found) = found.filter(fits) else {
            return Err(not_built(pool, format, &device, ctx)?);
        };
        let fs_type = format.map_or(found.as_str(), |format| format.fs_type);
        let options = match format {
            Some(format) => format.options,
            None if found.starts_with("ext") => EXT,
            None => &[],
        };
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        // One that comes with a program to mount it may be served by that.
        let lifetime = match host.find_tool(&format!("mount.{fs_type}")) {
            Some(_) => Lifetime::Scope(pool.uuid),
            None => Lifetime::Ours,
        };
        // A bind mount of a directory in it is not it. (Of btrfs, any subvolume is taken.)
        let is_ours = |mount: &Mount| {
            mount.is_of(device.as_os_str())
                && (mount.root == Path::new("/") || mount.fs_type == "btrfs")
        };
        let source = device.to_str().ok_or_else(|| {
            let message = format!("pool {}: {} is not UTF-8", pool.name, device.display());
            Error::new(ErrorKind::InvalidArgument, message)
        })?;
        let plan = mount::Plan {
            pool,
            source,
            fs_type,
            options: &options,
            lifetime,
            is_ours: &is_ours,
            refusals: &[],
            by: None,
        };
        plan.start(ctx)
    }

    fn stop(&self, pool: &ActivePool, options: StopOptions, ctx: &OpContext) -> Result<()> {
        mount::unmount(pool, options, ctx)
    }

    fn delete(&self, pool: &PoolDef, with_volumes: bool, ctx: &OpContext) -> Result<()> {
        self.check_definition(pool)?;
        if with_volumes {
            return Err(Error::new(
                ErrorKind::NotSupported,
                format!(
                    "pool {}: deleting it removes its target and leaves the file system on {} alone; delete its volumes while it is active, or build it with overwrite",
                    pool.name,
                    device(pool)?
                ),
            ));
        }
        image_directory::delete(pool, false, ctx)?;
        ctx.findings.say("kept", format!("the file system on {}", device(pool)?).as_str());
        Ok(())
    }

    fn check_storage(&self, pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        let Some(mount) = mount::mount_of(pool)? else { return Ok(()) };
        let source = Path::new(&mount.source);
        if !source.starts_with("/dev") {
            return Ok(());
        }
        let why = match BlockDevice::at(source) {
            Err(_) => "is gone; stop the pool, and start it when the device is back",
            Ok(device) => match device.why_dead() {
                Some(why) => why,
                None => return Ok(()),
            },
        };
        let what = format!("pool {}: its device {} {why}", pool.def.name, source.display());
        Err(Error::new(ErrorKind::Inaccessible, what))
    }

    fn condition(&self, pool: &ActivePool, _ctx: &OpContext) -> Result<()> {
        let def = &pool.def;
        let Some(mount) = mount::unasked_read_only(pool)? else { return Ok(()) };
        if READ_ONLY.contains(&mount.fs_type.as_str()) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Inaccessible,
            format!(
                "pool {}: its file system can only be read: {} is write-protected, or had an error (see the kernel's log)",
                def.name,
                device(def)?
            ),
        ))
    }
}

/// The path of a pool's device.
fn device(pool: &PoolDef) -> Result<&str> {
    pool.source.devices.first().map(|device| device.path.as_str()).ok_or_else(|| {
        let message = format!("pool {} has no device; define it with one", pool.name);
        Error::new(ErrorKind::InvalidArgument, message)
    })
}

/// The device of a pool under its own name, links resolved; `Inaccessible` when it is not there.
fn find_device(pool: &PoolDef) -> Result<PathBuf> {
    let path = device(pool)?;
    let found = std::fs::canonicalize(path).and_then(|own| Ok((own.metadata()?, own)));
    let (metadata, own) = found.map_err(|error| {
        Error::new(
            ErrorKind::Inaccessible,
            format!("pool {}: its device {path} is not there: {error}; plug it in, or correct the definition", pool.name),
        )
    })?;
    // mount(8) would make a loop device of a file.
    if !metadata.file_type().is_block_device() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "pool {}: {path} is no block device; name a disk, a partition or another device, or use a dir pool",
                pool.name
            ),
        ));
    }
    match BlockDevice::at(&own).ok().as_ref().and_then(BlockDevice::why_dead) {
        None => Ok(own),
        Some(why) => Err(Error::new(
            ErrorKind::Inaccessible,
            format!("pool {}: its device {path} {why}", pool.name),
        )),
    }
}

/// The format of a pool; none for auto.
fn format(pool: &PoolDef) -> Result<Option<&'static Format>> {
    let name = pool.source.format.as_deref().unwrap_or("auto");
    let found = FORMATS.iter().find(|format| format.name == name);
    if found.is_none() && name != "auto" {
        let message = format!("pool {}: {name:?} is no format of fs pools", pool.name);
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    Ok(found)
}

/// The error of a start without the file system that it needs.
fn not_built(
    pool: &PoolDef,
    format: Option<&Format>,
    device: &Path,
    ctx: &OpContext,
) -> Result<Error> {
    let has = blank::content(ctx.host.as_ref(), device, &ctx.limits)?;
    let has = has.unwrap_or_else(|| "has nothing that is known".to_owned());
    let wants = format.map_or("no single file system".to_owned(), |format| {
        format!("no file system {} alone", format.name)
    });
    let advice = match format {
        Some(Format { maker: Program(..), .. }) => "build the pool first, or correct the format",
        _ => "make one there, or correct the format",
    };
    let message =
        format!("pool {}: {} {has}, so {wants} to mount; {advice}", pool.name, device.display());
    Ok(Error::new(ErrorKind::NotBuilt, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_maker_is_among_the_tools() {
        let makers = FORMATS.iter().filter_map(|format| match format.maker {
            Program(program, _) => Some(program),
            Nothing(_) | Foreign(_) => None,
        });
        assert_eq!(makers.collect::<Vec<_>>(), FORMAT_TOOLS[2..]);
    }

    #[test]
    fn every_format_that_libvirt_knows_is_known() {
        let named: Vec<_> = FORMATS.iter().map(|format| format.name).collect();
        let known = PoolType::Fs.info().source_formats;
        assert_eq!(
            known.iter().filter(|name| **name != "auto").collect::<Vec<_>>(),
            named.iter().collect::<Vec<_>>()
        );
    }
}
