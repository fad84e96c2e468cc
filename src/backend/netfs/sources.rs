//! What a server offers: its NFS exports.

use crate::backend::OpContext;
use crate::host::Command;
use crate::model::{Error, ErrorKind, HostAddress, Result, Source};

/// The shares that a server offers.
pub(super) fn find(spec: &Source, ctx: &OpContext) -> Result<Vec<Source>> {
    let Some(host) = spec.hosts.first() else {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "sources of netfs pools are found on a server; name one as host",
        ));
    };
    match spec.format.as_deref() {
        None | Some("nfs" | "auto") => exports(host, ctx),
        Some(format) => Err(Error::new(
            ErrorKind::NotSupported,
            format!("shares of format {format} cannot be found; define the pool with its share"),
        )),
    }
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
