//! Tables are what parted says, before and after each change.

use super::*;
use proptest::prelude::*;
use std::process::Command;

const SECTOR: u64 = 512;
/// parted's geometry of a file.
const GEOMETRY: Geometry = Geometry { heads: 4, sectors: 32 };

/// A disk in memory.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
}

impl Image {
    /// With a new table of parted's; none where parted is not installed.
    pub(crate) fn labelled(label: Label, megabytes: usize) -> Option<Self> {
        let image = Self { bytes: vec![0; megabytes << 20] };
        let said = image.parted(&["mklabel", label.parted()]);
        if said.is_none() {
            println!("RESULT unit partitions-{label} skip parted is not installed");
        }
        said.map(|(image, _)| image)
    }

    /// The disk after parted did this, and what it said.
    fn parted(&self, args: &[&str]) -> Option<(Self, String)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &self.bytes).unwrap();
        let mut command = Command::new("parted");
        let command = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        let output = command.args(["-s", "-j", "-a", "none"]).arg(file.path());
        let output = output.args(["unit", "s"]).args(args).output();
        let output = match output {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            output => output.unwrap(),
        };
        assert!(output.status.success(), "{args:?}: {output:?}");
        let bytes = std::fs::read(file.path()).unwrap();
        Some((Self { bytes }, String::from_utf8(output.stdout).unwrap()))
    }

    pub(crate) fn try_table(&self) -> Result<Option<Table>, Unreadable> {
        let read = |at: u64, length: usize| {
            let at = usize::try_from(at).unwrap();
            let found = self.bytes.get(at..at + length);
            found.map(<[u8]>::to_vec).ok_or(io::ErrorKind::UnexpectedEof.into())
        };
        let sectors = self.bytes.len() as u64 / SECTOR;
        Table::read(&Disk { sector: SECTOR, sectors, geometry: GEOMETRY, read: &read })
    }

    pub(crate) fn table(&self) -> Table {
        self.try_table().unwrap().unwrap()
    }

    pub(crate) fn apply(&mut self, patches: &[Patch]) {
        for patch in patches {
            let at = usize::try_from(patch.offset).unwrap();
            self.bytes[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
        }
    }

    /// Number, start, length and role of each partition, as parted prints them.
    fn by_parted(&self) -> Vec<(u32, u64, u64, Role)> {
        let (_, said) = self.parted(&["print"]).unwrap();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let sectors = |value: &serde_json::Value| -> u64 {
            value.as_str().unwrap().trim_end_matches('s').parse().unwrap()
        };
        let rows = said["disk"]["partitions"].as_array().cloned().unwrap_or_default();
        let mut rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let role = match row["type"].as_str().unwrap() {
                    "logical" => Role::Logical,
                    "extended" => Role::Extended,
                    _ => Role::Primary,
                };
                let number = row["number"].as_u64().unwrap() as u32;
                (number, sectors(&row["start"]), sectors(&row["size"]), role)
            })
            .collect();
        rows.sort_by_key(|row| row.0);
        rows
    }

    fn by_us(&self) -> Vec<(u32, u64, u64, Role)> {
        let table = self.table();
        let data = table.partitions.iter().filter(|one| one.role != Role::Own);
        data.map(|one| (one.number, one.start, one.length, one.role)).collect()
    }

    /// Both say the same, beside the table's own place.
    fn agree(&self, what: &str) {
        let own: Vec<u32> = self
            .table()
            .partitions
            .iter()
            .filter(|one| one.role == Role::Own)
            .map(|one| one.number)
            .collect();
        let mut parted = self.by_parted();
        parted.retain(|row| !own.contains(&row.0));
        assert_eq!(parted, self.by_us(), "{what}");
    }

    fn add(&mut self, start: u64, length: u64, role: Role, format: VolumeFormat) -> u32 {
        let table = self.table();
        let number = table.next(role).unwrap();
        let from = if role == Role::Logical { start - 2048 } else { start };
        let id = None;
        let new = Partition { number, start, length, from, role, format, id };
        let patches = table.add(&new);
        self.apply(&patches);
        number
    }

    fn remove(&mut self, number: u32) {
        let table = self.table();
        let patches = table.remove(table.partition(number).unwrap());
        self.apply(&patches);
    }

    fn resize(&mut self, number: u32, length: u64) {
        let table = self.table();
        let patches = table.resize(table.partition(number).unwrap(), length);
        self.apply(&patches);
    }
}

#[test]
fn tables_are_changed_as_parted_understands_them() {
    for label in Label::ALL {
        let Some(mut image) = Image::labelled(label, 32) else { return };
        assert_eq!(image.table().label, label);
        image.agree("empty");
        // Multiples of parted's cylinder of a file too.
        let mut made = Vec::new();
        for (start, format) in [
            (8192, VolumeFormat::None),
            (16384, VolumeFormat::LinuxSwap),
            (32768, VolumeFormat::LinuxLvm),
        ] {
            let format = if image.table().knows(format) { format } else { VolumeFormat::None };
            made.push(image.add(start, 4096, Role::Primary, format));
            image.agree(&format!("{label}: added at {start}"));
            let table = image.table();
            let found = table.partition(*made.last().unwrap()).unwrap();
            let shown = match (label, format) {
                (Label::Dos | Label::Gpt | Label::Mac | Label::Sun, VolumeFormat::None) => {
                    VolumeFormat::Linux
                }
                (_, format) => format,
            };
            assert_eq!(found.format, shown, "{label}");
        }
        image.resize(made[1], 8192);
        image.agree(&format!("{label}: grown"));
        image.resize(made[1], 2048);
        image.agree(&format!("{label}: shrunk"));
        image.remove(made[0]);
        image.agree(&format!("{label}: removed"));
        assert_eq!(image.table().next(Role::Primary), Some(made[0]), "{label}");
        image.add(8192, 2048, Role::Primary, VolumeFormat::None);
        image.agree(&format!("{label}: filled"));
        for number in made {
            image.remove(number);
        }
        image.agree(&format!("{label}: emptied"));
    }
}

#[test]
fn what_parted_makes_is_read_as_it_reads_it() {
    for label in Label::ALL {
        let Some(image) = Image::labelled(label, 32) else { return };
        let kind: &[&str] = match label {
            Label::Bsd | Label::Sun => &[],
            _ => &["primary"],
        };
        let part = |image: &Image, start: &str, end: &str| {
            let args = [&["mkpart"], kind, &["ext2", start, end]].concat();
            image.parted(&args).unwrap().0
        };
        let image = part(&part(&image, "8192", "16383"), "20480", "40959");
        image.agree(label.as_str());
        assert_eq!(image.by_us().len(), 2, "{label}");
    }
}

#[test]
fn the_chain_of_logical_partitions_holds() {
    let Some(mut image) = Image::labelled(Label::Dos, 104) else { return };
    image.add(2048, 2048, Role::Primary, VolumeFormat::None);
    assert_eq!(image.add(8192, 200_000, Role::Extended, VolumeFormat::Extended), 2);
    image.agree("extended");
    // The first one takes the chain's first sector.
    let table = image.table();
    let first = Partition { from: 8192, role: Role::Logical, ..table.partitions[0].clone() };
    let first = Partition { number: 5, start: 10_240, length: 4096, ..first };
    let patches = table.add(&first);
    image.apply(&patches);
    image.agree("first logical");
    for start in [20_480, 40_960, 61_440] {
        image.add(start, 8192, Role::Logical, VolumeFormat::Linux);
        image.agree("more logical ones");
    }
    image.resize(6, 16_384);
    image.resize(8, 20_000);
    image.agree("grown");
    image.remove(6);
    image.agree("one of the middle removed");
    assert_eq!(image.by_us().iter().map(|row| row.0).collect::<Vec<_>>(), [1, 2, 5, 6, 7]);
    image.remove(5);
    image.agree("the first removed");
    assert_eq!(image.add(102_400, 2048, Role::Logical, VolumeFormat::None), 7);
    image.agree("added behind");
    image.remove(7);
    image.remove(6);
    image.remove(5);
    image.agree("all removed");
    assert_eq!(image.add(30_720, 2048, Role::Logical, VolumeFormat::None), 5);
    image.agree("begun anew");
}

#[test]
fn damage_is_told_and_says_of_what() {
    let damage = |image: &Image| match image.try_table() {
        Err(Unreadable::Damaged(label, what)) => (label, what),
        other => panic!("{other:?}"),
    };
    let Some(gpt) = Image::labelled(Label::Gpt, 8) else { return };
    for at in [512, 512 + 60, 1024 + 3] {
        let mut image = gpt.clone();
        image.bytes[at] ^= 1;
        assert_eq!(damage(&image).0, Label::Gpt, "byte {at}");
    }
    // The second table is made anew with the next change.
    let mut image = gpt.clone();
    let second = image.bytes.len() - 512;
    image.bytes[second + 60] ^= 1;
    image.add(2048, 2048, Role::Primary, VolumeFormat::None);
    image.agree("without a second table");
    assert!(image.parted(&["print"]).is_some());
    for (label, at) in [(Label::Sun, 460), (Label::Dvh, 320), (Label::Bsd, 196)] {
        let mut image = Image::labelled(label, 8).unwrap();
        image.bytes[at] ^= 1;
        assert_eq!(damage(&image).0, label);
    }
    let mut dos = Image::labelled(Label::Dos, 64).unwrap();
    dos.add(2048, 2048, Role::Primary, VolumeFormat::None);
    dos.add(8192, 65_536, Role::Extended, VolumeFormat::Extended);
    let mut overlapping = dos.clone();
    overlapping.bytes[446 + 12..446 + 16].copy_from_slice(&10_000_u32.to_le_bytes());
    assert!(damage(&overlapping).1.contains("overlap"));
    let mut broken = dos.clone();
    broken.bytes[8192 * 512] = 1;
    broken.bytes[8192 * 512 + 510] = 0;
    assert!(damage(&broken).1.contains("chain"));
    let mut beyond = dos;
    beyond.bytes[446 + 12..446 + 16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(damage(&beyond).1.contains("does not lie on the disk"));
}

#[test]
fn what_has_no_table_is_told() {
    assert!(Image { bytes: vec![0; 1 << 20] }.try_table().unwrap().is_none());
    let mut fat = Image { bytes: vec![0; 1 << 20] };
    fat.bytes[54..59].copy_from_slice(b"FAT16");
    fat.bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert!(fat.try_table().unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is on a disk, it is read without harm, and what was read can be changed.
    #[test]
    fn hostile_tables_do_no_harm(
        label in 0..7_usize,
        changes in prop::collection::vec((0..6144_usize, any::<u8>()), 0..40),
    ) {
        let mut image = blank_of(Label::ALL[label]);
        for (at, byte) in changes {
            image.bytes[at] = byte;
        }
        if let Ok(Some(table)) = image.try_table() {
            for partition in &table.partitions {
                table.resize(partition, 7);
                table.remove(partition);
            }
        }
    }
}

/// What begins a table of this kind, without parted.
fn blank_of(label: Label) -> Image {
    let mut image = Image { bytes: vec![0; 64 << 10] };
    let mut put =
        |at: usize, bytes: &[u8]| image.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    match label {
        Label::Dos => put(510, &[0x55, 0xaa]),
        Label::Gpt => {
            put(510, &[0x55, 0xaa]);
            put(450, &[0xee]);
            put(512, b"EFI PART");
        }
        Label::Mac => {
            put(0, &[0x45, 0x52, 2, 0]);
            put(512, &[0x50, 0x4d, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 63]);
            put(560, b"Apple_partition_map");
            put(1024, &[0x50, 0x4d]);
            put(1536, &[0x50, 0x4d]);
        }
        Label::Bsd => {
            put(64, &0x8256_4557_u32.to_le_bytes());
            put(196, &0x8256_4557_u32.to_le_bytes());
        }
        Label::Pc98 => {
            put(4, b"IPL1");
            put(510, &[0x55, 0xaa]);
        }
        Label::Sun => put(508, &[0xda, 0xbe, 0xda, 0xbe]),
        Label::Dvh => {
            put(0, &0x0be5_a941_u32.to_be_bytes());
            put(504, &0x0be5_a941_u32.wrapping_neg().to_be_bytes());
        }
    }
    image
}
