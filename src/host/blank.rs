//! Whether a block device may be written over: nobody uses it, and nothing known is on it.
//!
//! Called by `backend` before it makes storage of a device. What is on a device is asked of blkid
//! *and* parted, which know different things, and in words for people: each mistake here is
//! somebody's disk.

use super::block::user::{LOOKS, PAUSE};
use super::{BlockDevice, Command, Host, Limits};
use crate::model::{Error, ErrorKind, Result};
use serde::Deserialize;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How much is read of each end of a device, to know that it can be read.
const ENDS: u64 = 1 << 20;
/// What is read in one go.
const BLOCK: usize = 64 << 10;
/// What begins the table of partitions at the end of a disk whose first one is lost.
const GPT: &[u8] = b"EFI PART";
/// Sizes of sectors.
const SECTORS: [usize; 2] = [512, 4096];
/// Exit statuses of blkid: nothing was found; several things that contradict each other were.
const NOTHING: i32 = 2;
const AMBIVALENT: i32 = 8;

/// Refuses a device that is in use (`Busy` names by whom), that is none (`InvalidArgument`) or that
/// is not there (`Inaccessible`).
pub fn check_unused(device: &Path, limits: &Limits) -> Result<()> {
    let shown = device.display();
    let found = BlockDevice::at(device).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTBLK) => Error::new(
            ErrorKind::InvalidArgument,
            format!("{shown} is no block device; name a disk, a partition or another device"),
        ),
        _ => not_there(device, &error),
    })?;
    if let Some(why) = found.why_dead() {
        return Err(Error::new(ErrorKind::Inaccessible, format!("device {shown} {why}")));
    }
    let mut looks = 0;
    loop {
        limits.check()?;
        let user = match found.user()? {
            Some(user) => user,
            None => match found.open(false, true) {
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    "the kernel or another program".to_owned()
                }
                Err(error) => return Err(not_there(device, &error)),
            },
        };
        looks += 1;
        if looks == LOOKS {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("{shown} is in use by {user}; release it there first"),
            ));
        }
        std::thread::sleep(PAUSE);
    }
}

/// What is on a device, to follow its name: `has an ext4 file system labelled "x"`. None when it
/// is blank as far as blkid and parted know. A device that cannot be read is `Inaccessible`, and
/// never blank.
pub fn content(host: &dyn Host, device: &Path, limits: &Limits) -> Result<Option<String>> {
    let has_table_at_end = read_ends(device)?;
    limits.check()?;
    let mut found = by_blkid(host, device, limits)?;
    if let Some(label) = by_parted(host, device, limits)?
        && found.is_empty()
    {
        found.push(label);
    }
    if found.is_empty() && has_table_at_end {
        found.push("what is left of a gpt partition table, at its end".to_owned());
    }
    Ok((!found.is_empty()).then(|| format!("has {}", found.join(", and "))))
}

/// The type of the file system on a device in blkid's words ("ext4", "hfsplus"), if that is what is
/// on it and nothing contradicts it.
pub fn file_system(host: &dyn Host, device: &Path, limits: &Limits) -> Result<Option<String>> {
    let output = host.run(&probe(device), limits)?;
    let signature = match output.status {
        NOTHING | AMBIVALENT => Signature::default(),
        _ => Signature::parse(&output.stdout),
    };
    let is_one = signature.usage.as_deref() == Some("filesystem");
    Ok(signature.kind.filter(|_| is_one))
}

fn not_there(device: &Path, error: &io::Error) -> Error {
    let message = format!("device {} cannot be used: {error}", device.display());
    Error::new(ErrorKind::Inaccessible, message)
}

/// Reads both ends; whether a table of partitions is at the end.
fn read_ends(device: &Path) -> Result<bool> {
    let failed = |error: &io::Error| not_there(device, error);
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(device)
        .map_err(|error| failed(&error))?;
    let size = file.seek(SeekFrom::End(0)).map_err(|error| failed(&error))?;
    if size == 0 {
        let message = format!("device {} has no medium: its size is 0", device.display());
        return Err(Error::new(ErrorKind::Inaccessible, message));
    }
    let start = size.saturating_sub(ENDS);
    let mut end = Vec::new();
    let mut read = || -> io::Result<()> {
        let mut block = vec![0; BLOCK];
        file.rewind()?;
        let mut head = (&file).take(ENDS);
        while head.read(&mut block)? != 0 {}
        file.seek(SeekFrom::Start(start))?;
        (&file).take(ENDS).read_to_end(&mut end).map(drop)
    };
    read().map_err(|error| failed(&error))?;
    Ok(SECTORS.iter().any(|sector| {
        let header = end.len().checked_sub(*sector).and_then(|at| end.get(at..));
        header.is_some_and(|header| header.starts_with(GPT))
    }))
}

fn probe(device: &Path) -> Command {
    let mut args: Vec<_> = ["-p", "-o", "export", "--"].map(Into::into).into();
    args.push(device.into());
    Command { program: "blkid", args, accept: &[NOTHING, AMBIVALENT], ..Command::default() }
}

/// What blkid finds; of things that contradict each other, all.
fn by_blkid(host: &dyn Host, device: &Path, limits: &Limits) -> Result<Vec<String>> {
    let output = host.run(&probe(device), limits)?;
    match output.status {
        NOTHING => Ok(Vec::new()),
        AMBIVALENT => all_signatures(host, device, limits),
        _ => Ok(Signature::parse(&output.stdout).words().into_iter().collect()),
    }
}

/// The names of all that has left its mark, for where blkid cannot decide.
fn all_signatures(host: &dyn Host, device: &Path, limits: &Limits) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Report {
        #[serde(default)]
        signatures: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        #[serde(rename = "type")]
        kind: Option<String>,
        label: Option<String>,
    }
    let args = vec!["--no-act".into(), "--json".into(), "--".into(), device.into()];
    let wipefs = Command { program: "wipefs", args, ..Command::default() };
    let said = host.run(&wipefs, limits)?.stdout;
    let report: Report = serde_json::from_slice(&said).map_err(|error| {
        Error::new(ErrorKind::ToolFailed, format!("wipefs gave an unclear answer: {error}"))
    })?;
    let word = |row: Row| {
        let kind = row.kind.as_deref().unwrap_or("unknown").escape_debug().to_string();
        format!("marks of {kind}{}", labelled(row.label.as_deref()))
    };
    let mut found: Vec<_> = report.signatures.into_iter().map(word).collect();
    found.dedup();
    if found.is_empty() {
        found.push("marks of several things that contradict each other".to_owned());
    }
    Ok(found)
}

fn labelled(label: Option<&str>) -> String {
    let label = label.filter(|label| !label.is_empty());
    label.map(|label| format!(" labelled {label:?}")).unwrap_or_default()
}

/// One thing that blkid found.
#[derive(Debug, Default)]
struct Signature {
    kind: Option<String>,
    usage: Option<String>,
    label: Option<String>,
    version: Option<String>,
    table: Option<String>,
}

impl Signature {
    fn parse(said: &[u8]) -> Self {
        let mut signature = Self::default();
        for line in String::from_utf8_lossy(said).lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            let field = match key {
                "TYPE" => &mut signature.kind,
                "USAGE" => &mut signature.usage,
                "LABEL" => &mut signature.label,
                "VERSION" => &mut signature.version,
                "PTTYPE" => &mut signature.table,
                // The rest says where a partition lies, not what is on it.
                _ => continue,
            };
            *field = Some(unescape(value));
        }
        signature
    }

    fn words(&self) -> Option<String> {
        let label = labelled(self.label.as_deref());
        let version = self.version.as_deref().unwrap_or_default();
        let Some(kind) = self.kind.as_deref() else {
            let table = self.table.as_deref()?;
            return Some(format!("{} {table} partition table", article(table)));
        };
        Some(match (kind, self.usage.as_deref()) {
            ("crypto_LUKS", _) => format!("a LUKS{version} container{label}"),
            ("LVM2_member", _) => "an LVM physical volume".to_owned(),
            ("linux_raid_member", _) => format!("a member of a Linux software RAID{label}"),
            ("zfs_member", _) => format!("a member of a ZFS pool{label}"),
            ("swap", _) => format!("swap space{label}"),
            (_, Some("filesystem")) => format!("{} {kind} file system{label}", article(kind)),
            _ => format!("data of type {kind}{label}"),
        })
    }
}

/// Also before names that are spelt out: an xfs, but a ufs.
fn article(word: &str) -> &'static str {
    const SPELT_OUT: [&str; 6] = ["xfs", "ntfs", "hfs", "hfsplus", "f2fs", "sgi"];
    let an = word.starts_with(['a', 'e', 'i', 'o']) || SPELT_OUT.contains(&word);
    if an { "an" } else { "a" }
}

/// Undoes blkid's backslash before what a shell would heed.
fn unescape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        text.push(if c == '\\' { rest.next().unwrap_or(c) } else { c });
    }
    text
}

/// The label that parted finds, some of which blkid does not know (bsd).
fn by_parted(host: &dyn Host, device: &Path, limits: &Limits) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Report {
        disk: Disk,
    }
    #[derive(Deserialize)]
    struct Disk {
        label: String,
        #[serde(default)]
        partitions: Vec<Partition>,
    }
    #[derive(Deserialize)]
    struct Partition {
        filesystem: Option<String>,
    }
    let args = ["--script", "--json", "--"].map(Into::into).into_iter();
    let args = args.chain([device.into(), "print".into()]).collect();
    let parted = Command { program: "parted", args, accept: &[1], ..Command::default() };
    let output = host.run(&parted, limits)?;
    let Ok(Report { disk }) = serde_json::from_slice::<Report>(&output.stdout) else {
        // It does not say that there is nothing: a damaged table, for one.
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        return Ok(Some(format!(
            "something that parted cannot read ({})",
            said.chars().filter(|c| !c.is_control()).take(200).collect::<String>()
        )));
    };
    let file_system = disk.partitions.into_iter().find_map(|partition| partition.filesystem);
    Ok(match (disk.label.as_str(), file_system) {
        ("unknown", _) => None,
        ("loop", Some(kind)) => Some(format!("{} {kind} file system", article(&kind))),
        (label, _) => Some(format!("{} {label} partition table", article(label))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::SystemHost;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    fn words(said: &str) -> Option<String> {
        Signature::parse(said.as_bytes()).words()
    }

    #[test]
    fn what_blkid_says_becomes_words() {
        let said =
            "DEVNAME=/dev/sdb\nLABEL=a\\ b\\\"\\$x\nVERSION=1.0\nTYPE=ext4\nUSAGE=filesystem\n";
        assert_eq!(words(said).unwrap(), "an ext4 file system labelled \"a b\\\"$x\"");
        let said = "VERSION=2\nTYPE=crypto_LUKS\nUSAGE=crypto\n";
        assert_eq!(words(said).unwrap(), "a LUKS2 container");
        assert_eq!(words("PTUUID=1\nPTTYPE=gpt\n").unwrap(), "a gpt partition table");
        assert_eq!(words("TYPE=ufs\nUSAGE=filesystem\n").unwrap(), "a ufs file system");
        assert_eq!(words("TYPE=new_thing\nUSAGE=other\n").unwrap(), "data of type new_thing");
        // A partition without content: only where it lies.
        assert_eq!(words("DEVNAME=/dev/sdb1\nPART_ENTRY_SCHEME=dos\nPART_ENTRY_TYPE=0x83\n"), None);
    }

    #[test]
    fn what_is_no_block_device_is_refused() {
        let limits = Limits::default();
        let kind = |path: &str| check_unused(Path::new(path), &limits).unwrap_err().kind();
        assert_eq!(kind("/dev/null"), ErrorKind::InvalidArgument);
        assert_eq!(kind("/etc"), ErrorKind::InvalidArgument);
        assert_eq!(kind("/dev/poold-nothing"), ErrorKind::Inaccessible);
    }

    /// An image of 64 MiB with something on it, or none where a tool for it is missing.
    fn image(what: &str, make: &[&str]) -> Option<tempfile::NamedTempFile> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        if !make.is_empty() {
            let program = SystemHost.find_tool(make[0]);
            let Some(program) = program else {
                println!("RESULT unit blank-{what} skip {} is not installed", make[0]);
                return None;
            };
            let path = file.path().to_str().unwrap();
            let mut command = std::process::Command::new(program);
            match make.contains(&"FILE") {
                true => command.args(make[1..].iter().map(|arg| arg.replace("FILE", path))),
                false => command.args(&make[1..]).arg(path),
            };
            let output = command.output().unwrap();
            assert!(output.status.success(), "{what}: {output:?}");
        }
        Some(file)
    }

    /// A member of a RAID whose superblock is at the end of the device (md version 1.0).
    fn write_md_superblock(file: &File, size: u64) {
        let sector = (size / 512 - 16) & !7;
        let mut block = [0; 256];
        block[..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
        block[4..8].copy_from_slice(&1_u32.to_le_bytes());
        block[16..32].fill(7);
        block[32..38].copy_from_slice(b"host:0");
        block[144..152].copy_from_slice(&sector.to_le_bytes());
        let words =
            block.chunks(4).map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap())));
        let sum = words.sum::<u64>();
        let sum = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
        block[216..220].copy_from_slice(&sum.to_le_bytes());
        file.write_all_at(&block, sector * 512).unwrap();
    }

    #[test]
    fn everything_known_is_found_and_named() {
        let luks = ["cryptsetup", "luksFormat", "--type", "luks2", "--pbkdf", "pbkdf2"];
        let luks: Vec<_> = luks
            .into_iter()
            .chain(["--pbkdf-force-iterations", "1000", "-q", "FILE", "/etc/hostname"])
            .collect();
        let parted = |label| ["parted", "-s", "FILE", "mklabel", label];
        for (what, make, words) in [
            ("nothing", &[][..], None),
            (
                "ext4",
                &["mkfs.ext4", "-q", "-L", "my disk"],
                Some("has an ext4 file system labelled \"my disk\""),
            ),
            ("swap", &["mkswap"], Some("has swap space")),
            ("vfat", &["mkfs.vfat"], Some("has a vfat file system")),
            ("luks2", &luks, Some("has a LUKS2 container")),
            ("dos", &parted("msdos"), Some("has a dos partition table")),
            ("gpt", &parted("gpt"), Some("has a gpt partition table")),
            ("sun", &parted("sun"), Some("has a sun partition table")),
            // Not known to blkid.
            ("bsd", &parted("bsd"), Some("has a bsd partition table")),
        ] {
            let Some(file) = image(what, make) else { continue };
            let found = content(&SystemHost, file.path(), &Limits::default()).unwrap();
            assert_eq!(found.as_deref(), words, "{what}");
        }
    }

    #[test]
    fn what_is_at_the_end_alone_is_found_too() {
        let file = image("md", &[]).unwrap();
        write_md_superblock(file.as_file(), 64 << 20);
        let content = |file: &tempfile::NamedTempFile| {
            content(&SystemHost, file.path(), &Limits::default()).unwrap().unwrap()
        };
        assert_eq!(content(&file), "has a member of a Linux software RAID labelled \"host:0\"");
        let Some(file) = image("gpt-at-end", &["parted", "-s", "FILE", "mklabel", "gpt"]) else {
            return;
        };
        file.as_file().write_all_at(&[0; 1 << 20], 0).unwrap();
        assert_eq!(content(&file), "has what is left of a gpt partition table, at its end");
    }

    #[test]
    fn what_contradicts_itself_is_data() {
        let Some(file) = image("two", &["mkfs.ext4", "-q", "-b", "4096"]) else { return };
        file.as_file().write_all_at(b"SWAPSPACE2", 4086).unwrap();
        file.as_file().write_all_at(&1_u32.to_le_bytes(), 1024).unwrap();
        let limits = Limits::default();
        let found = content(&SystemHost, file.path(), &limits).unwrap().unwrap();
        assert!(found.contains("marks of ext4") && found.contains("marks of swap"), "{found}");
    }

    #[test]
    fn a_file_system_is_told_by_its_type() {
        let Some(file) = image("ext3", &["mkfs.ext3", "-q"]) else { return };
        let limits = Limits::default();
        let kind = |path: &Path| file_system(&SystemHost, path, &limits).unwrap();
        assert_eq!(kind(file.path()).as_deref(), Some("ext3"));
        let blank = image("blank", &[]).unwrap();
        assert_eq!(kind(blank.path()), None);
    }
}
