//! What `dog` answers with `-r`: lines of fields with a blank between them. Names have a backslash before each
//! blank and backslash; an answer that breaks off is none.

use crate::model::Usage;

/// A virtual disk image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vdi {
    pub(super) name: String,
    /// What a guest sees, in bytes.
    pub(super) size: u64,
    /// What it takes, in bytes.
    pub(super) used: u64,
}

/// The images in an answer of `dog vdi list -r`, and how many lines tell of none that could be read. Snapshots
/// (`s`) are no images of their own.
pub(super) fn vdis(answer: &str) -> Option<(Vec<Vdi>, u32)> {
    let (mut found, mut skipped) = (Vec::new(), 0);
    for line in lines(answer)? {
        match vdi(line) {
            Some(Some(vdi)) => found.push(vdi),
            Some(None) => {}
            None => skipped += 1,
        }
    }
    Some((found, skipped))
}

/// `= NAME SNAPSHOT-ID SIZE USED SHARED CREATED ID [COPIES TAG BLOCK-SHIFT]`: of an image `=`, of one that
/// is a clone `c`, of a snapshot `s`.
fn vdi(line: &str) -> Option<Option<Vdi>> {
    let fields = fields(line);
    match fields.first()?.as_str() {
        "s" => Some(None),
        "=" | "c" => {
            let [_, name, _, size, used, _, ..] = fields.as_slice() else { return None };
            Some(Some(Vdi {
                name: name.clone(),
                size: size.parse().ok()?,
                used: used.parse().ok()?,
            }))
        }
        _ => None,
    }
}

/// The room in an answer of `dog node info -r`: the line `Total SIZE USED ...`.
pub(super) fn room(answer: &str) -> Option<Usage> {
    let total = lines(answer)?.find_map(|line| line.strip_prefix("Total "))?;
    let mut numbers = total.split_whitespace().map(str::parse::<u64>);
    let (capacity, allocation) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Usage { capacity, allocation, available: capacity.saturating_sub(allocation) })
}

/// Whole lines; none when the last one is not.
fn lines(answer: &str) -> Option<impl Iterator<Item = &str>> {
    (answer.is_empty() || answer.ends_with('\n')).then(|| answer.lines())
}

fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let field = fields.last_mut();
        match (character, field) {
            (' ', _) => fields.push(String::new()),
            ('\\', Some(field)) => field.extend(characters.next()),
            (character, Some(field)) => field.push(character),
            (_, None) => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(answer: &str) -> Vec<String> {
        vdis(answer).unwrap().0.into_iter().map(|vdi| vdi.name).collect()
    }

    #[test]
    fn images_are_told_from_snapshots() {
        let answer = "= one 0 67108864 4194304 0 1795379317 709128 1  22\n\
                      s one 1 134217728 0 0 1795379317 709128 1 s1 22\n\
                      c two 0 67108864 0 4194304 1795379317 709129 1  22\n";
        assert_eq!(names(answer), ["one", "two"]);
        let one = &vdis(answer).unwrap().0[0];
        assert_eq!((one.size, one.used), (64 << 20, 4 << 20));
        assert_eq!(vdis("").unwrap(), (Vec::new(), 0));
    }

    #[test]
    fn names_may_have_blanks_and_backslashes() {
        assert_eq!(names("= a\\ b\\\\ 0 1 2 0 3 4 1  22\n"), ["a b\\"]);
    }

    #[test]
    fn an_odd_line_is_one_odd_line_and_an_answer_that_breaks_off_is_none() {
        let answer = "= one 0 1 2 0 3 4 1  22\n= two 0 x 2 0 3 4 1  22\n? three\n=\n";
        let (found, skipped) = vdis(answer).unwrap();
        assert_eq!((found.len(), skipped), (1, 3));
        assert_eq!(vdis("= one 0 1 2 0 3 4 1  22"), None);
        assert_eq!(room("0 1 2 3 4%\nTotal 1"), None);
    }

    #[test]
    fn room_is_the_line_of_all_nodes() {
        let answer = "0 78093918208 0 78093918208 0%\nTotal 78093918208 16818176 78077100032 0% 1350565888\n";
        let room = room(answer).unwrap();
        assert_eq!((room.capacity, room.allocation), (78_093_918_208, 16_818_176));
        assert_eq!(room.available, 78_077_100_032);
    }

    #[test]
    fn what_libvirt_reads_is_read() {
        let Some(corpus) = std::env::var_os("POOLD_CORPUS") else {
            println!("RESULT sheepdog libvirts-answers skip POOLD_CORPUS is not set");
            return;
        };
        let path = std::path::Path::new(&corpus).join("dog-output.tsv");
        let text = std::fs::read_to_string(path).unwrap();
        let mut cases = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<_> = line.split('\t').collect();
            // C's escapes of line breaks and backslashes.
            let answer = columns[1].replace("\\n", "\n").replace("\\\\", "\\");
            let found = match columns[0] {
                "node-info" => room(&answer).map(|room| (room.capacity, room.allocation)),
                _ => vdis(&answer)
                    .and_then(|(found, _)| found.first().map(|vdi| (vdi.size, vdi.used))),
            };
            let wanted = (columns[2] == "yes")
                .then(|| (columns[3].parse().unwrap(), columns[4].parse().unwrap()));
            assert_eq!(found, wanted, "{line}");
            cases += 1;
        }
        assert!(cases > 10, "{cases}");
    }
}
