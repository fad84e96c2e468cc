//! What a server offers: its NFS exports and Gluster volumes.

use crate::backend::{OpContext, gluster};
use crate::host::Command;
use crate::model::{Error, ErrorKind, HostAddress, Result, Source};

/// The shares that a server offers.
pub(super) fn find(spec: &Source, ctx: &OpContext) -> Result<Vec<Source>> {
    let host = spec.server()?;
    match spec.format.as_deref() {
        // As libvirt does: what one of them finds is an answer.
        None if gluster::can_find_sources(ctx) => {
            let exports = exports(host, ctx);
            match (exports, volumes(host, ctx)) {
                (Ok(exports), volumes) => {
                    Ok(exports.into_iter().chain(volumes.unwrap_or_default()).collect())
                }
                (Err(_), Ok(volumes)) => Ok(volumes),
                (Err(error), Err(_)) => Err(error),
            }
        }
        None | Some("nfs" | "auto") => exports(host, ctx),
        Some("glusterfs") => volumes(host, ctx),
        Some(format) => Err(Error::new(
            ErrorKind::NotSupported,
            format!("shares of format {format} cannot be found; define the pool with its share"),
        )),
    }
}

fn volumes(host: &HostAddress, ctx: &OpContext) -> Result<Vec<Source>> {
    let share = |name| Source {
        hosts: vec![host.clone()],
        dir: Some(name),
        format: Some("glusterfs".to_owned()),
        ..Source::default()
    };
    Ok(gluster::volumes(host, ctx)?.into_iter().map(share).collect())
}

fn exports(host: &HostAddress, ctx: &OpContext) -> Result<Vec<Source>> {
    let name = host.name.trim_matches(['[', ']']);
    let args = ["--no-headers", "--exports", "--", name].map(Into::into).into();
    let command = Command { program: "showmount", args, ..Command::default() };
    let output = ctx.host.run(&command, &ctx.limits).map_err(|error| match error.kind() {
        ErrorKind::ToolFailed => {
            Error::new(ErrorKind::Inaccessible, format!("server {name}: {}", error.message()))
        }
        _ => error.context(format_args!("server {name}")),
    })?;
    Ok(parse_exports(&String::from_utf8_lossy(&output.stdout))
        .map(|dir| Source {
            hosts: vec![host.clone()],
            dir: Some(dir.to_owned()),
            format: Some("nfs".to_owned()),
            ..Source::default()
        })
        .collect())
}

/// Directories of lines such as `/export/vms  10.0.0.0/8,host`; those of clients have no blanks.
fn parse_exports(text: &str) -> impl Iterator<Item = &str> {
    let dir =
        |line: &'_ str| Some(line.trim_end().rsplit_once(char::is_whitespace)?.0.trim_end().len());
    text.lines().filter(|line| line.starts_with('/')).filter_map(move |line| line.get(..dir(line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_are_read_whatever_is_in_their_names() {
        let said = "/srv/nfs        127.0.0.1\n/srv/with blank (everyone)\n/a/b 10.0.0.0/8,host.example\nclnt_create: RPC\n/alone\n";
        let found: Vec<_> = parse_exports(said).collect();
        assert_eq!(found, ["/srv/nfs", "/srv/with blank", "/a/b"]);
    }
}
