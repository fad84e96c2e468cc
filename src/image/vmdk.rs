//! VMDK images with a descriptor of their own in front of the data.
//! Source: VMware's "Virtual Disk Format 5.0", section "The Text Descriptor".

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where the embedded descriptor begins, and how long QEMU makes it.
const DESCRIPTOR: (u64, usize) = (512, 20 * 512);

/// Makes the descriptor name the file `name`, in which it is, instead of what it was written as.
/// What has no such descriptor is left alone.
pub fn rename(file: &File, name: &str) -> io::Result<()> {
    let (at, length) = DESCRIPTOR;
    let mut area = vec![0; length];
    match file.read_exact_at(&mut area, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
        result => result?,
    }
    match renamed(&area, name) {
        Some(area) => file.write_all_at(&area, at),
        None => Ok(()),
    }
}

/// The descriptor with another name of its one extent; none when there is no room or no extent.
fn renamed(area: &[u8], name: &str) -> Option<Vec<u8>> {
    let end = area.iter().position(|byte| *byte == 0).unwrap_or(area.len());
    let text = std::str::from_utf8(&area[..end]).ok()?;
    if !text.starts_with("# Disk DescriptorFile") || name.contains(['"', '\n']) {
        return None;
    }
    let line = text.lines().find(|line| line.starts_with("RW ") && line.contains(" SPARSE \""))?;
    let new = format!("{} \"{name}\"", line.split(" \"").next()?);
    let mut bytes = text.replacen(line, &new, 1).into_bytes();
    (bytes.len() <= area.len()).then(|| {
        bytes.resize(area.len(), 0);
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extent_gets_the_name_and_nothing_else_changes() {
        let mut area =
            b"# Disk DescriptorFile\nversion=1\nRW 2048 SPARSE \"13\"\nddb.x = \"y\"\n".to_vec();
        area.resize(256, 0);
        let new = renamed(&area, "disk one.vmdk").unwrap();
        let text = String::from_utf8(new).unwrap();
        let expected =
            "# Disk DescriptorFile\nversion=1\nRW 2048 SPARSE \"disk one.vmdk\"\nddb.x = \"y\"\n";
        assert_eq!((text.trim_end_matches('\0'), text.len()), (expected, 256));
        assert_eq!(renamed(&[0; 256], "x"), None);
        assert_eq!(renamed(&area, &"x".repeat(300)), None);
    }
}
