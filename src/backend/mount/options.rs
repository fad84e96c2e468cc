//! Mount options: what a definition may say, and the list that mount(8) is given.

use crate::model::{Error, ErrorKind, PoolDef, Result};

/// What every mount of a pool has: a volume is no device, no privileged program and no program.
const LAST: [&str; 3] = ["nodev", "nosuid", "noexec"];

/// Options that would undo that or mount something else, whoever gives them.
const REFUSED: [&str; 14] = [
    "dev", "suid", "exec", "defaults", "bind", "rbind", "move", "remount", "group", "owner",
    "loop", "shared", "rshared", "helper",
];
/// The same by their beginning (`users`, `user=NAME`, `make-shared`).
const REFUSED_BEGINNINGS: [&str; 4] = ["user", "make-", "X-mount.", "x-mount."];

/// Refuses a definition with options that no pool may have.
pub(in crate::backend) fn check_options(pool: &PoolDef) -> Result<()> {
    pool.mount_options.iter().try_for_each(|option| check(pool, option))
}

/// The list for `mount -o`: those of the type, those of the definition, and last what every mount
/// has. Each is checked again, as the list is where a comma would tell.
pub(super) fn list(pool: &PoolDef, own: &[String]) -> Result<String> {
    check_options(pool)?;
    own.iter().try_for_each(|option| check_text(pool, option))?;
    let all = own.iter().chain(&pool.mount_options).map(String::as_str).chain(LAST);
    Ok(all.collect::<Vec<_>>().join(","))
}

fn check(pool: &PoolDef, option: &str) -> Result<()> {
    check_text(pool, option)?;
    let name = option.split('=').next().unwrap_or_default();
    let begins = REFUSED_BEGINNINGS.iter().any(|start| name.starts_with(start));
    if begins || REFUSED.contains(&name) {
        let list = LAST.join(", ");
        return Err(refuse(pool, option, &format!("no pool may have it: all are mounted {list}")));
    }
    Ok(())
}

/// Refuses what would be more than one option, or hide the ones that follow: mount(8) lets quotes
/// and backslashes guard commas.
fn check_text(pool: &PoolDef, option: &str) -> Result<()> {
    let trimmed = option.trim() == option && !option.is_empty();
    if !trimmed || option.starts_with('=') {
        return Err(refuse(pool, option, "it has no name, or blanks around it"));
    }
    match option.chars().find(|c| matches!(c, ',' | '"' | '\\') || c.is_control()) {
        Some(',') => Err(refuse(pool, option, "give each option by itself, without commas")),
        Some(c) => Err(refuse(pool, option, &format!("it contains {c:?}"))),
        None => Ok(()),
    }
}

fn refuse(pool: &PoolDef, option: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("pool {}: mount option {option:?}: {why}", pool.name),
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::fixture::definition;
    use super::*;
    use crate::model::PoolType;
    use std::path::Path;

    fn with(option: &str) -> PoolDef {
        let mut def = definition(PoolType::Fs, Path::new("/srv/x"));
        def.mount_options = vec!["noatime".to_owned(), option.to_owned()];
        def
    }

    #[test]
    fn what_every_mount_has_comes_last() {
        let list = list(&with("errors=panic"), &["errors=remount-ro".to_owned()]).unwrap();
        assert_eq!(list, "errors=remount-ro,noatime,errors=panic,nodev,nosuid,noexec");
    }

    #[test]
    fn what_would_undo_it_is_refused() {
        for option in [
            "dev",
            "suid",
            "exec",
            "defaults",
            "bind",
            "move",
            "remount",
            "user",
            "users",
            "user=me",
            "remount=x",
            "make-shared",
            "X-mount.owner=me",
            "ro,suid",
            "context=\"a",
            "x=a\\",
            "",
            " suid",
            "=suid",
            "suid ",
            "a\nb",
        ] {
            let error = check_options(&with(option)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{option:?}");
            assert!(list(&with(option), &[]).is_err(), "{option:?}");
        }
        for option in ["ro", "context=system_u:object_r:virt_image_t:s0", "data=journal", "nouuid"]
        {
            check_options(&with(option)).unwrap();
        }
    }
}
