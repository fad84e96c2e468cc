//! libiscsi's tools: what targets and units there are, and how large these are.

use crate::backend::OpContext;
use crate::backend::iscsi::{Portal, password};
use crate::host::{Command, Output};
use crate::model::{Error, ErrorKind, Result, Source};
use zeroize::Zeroizing;

/// Lists targets and units.
pub(super) const LIST: &str = "iscsi-ls";
/// Says how large a unit is.
pub(super) const SIZE: &str = "iscsi-readcapacity16";

/// What the tools end with when something went wrong, whatever it was.
const FAILED: i32 = 10;
/// What they say then.
const REFUSED: &str = "Authentication failure";
const NO_UNIT: &str = "LOGICAL_UNIT_NOT_SUPPORTED";
const NO_DISK: &str = "failed to send readcapacity command";

/// What a unit that is a disk is called.
const DISK: &str = "DIRECT_ACCESS";
/// How many units are tried where they cannot be listed.
const TRIED: u64 = 256;

/// The tools, with who asks.
pub(super) struct Tools<'a> {
    ctx: &'a OpContext,
    initiator: Option<&'a str>,
    credentials: Option<(&'a str, Zeroizing<String>)>,
}

impl<'a> Tools<'a> {
    /// As a source says who asks.
    pub(super) fn new(source: &'a Source, ctx: &'a OpContext) -> Result<Self> {
        let credentials = match &source.auth {
            Some(auth) => Some((auth.parts().0, password(auth, ctx)?)),
            None => None,
        };
        Ok(Self { ctx, initiator: source.initiator_iqn.as_deref(), credentials })
    }

    /// User name and password, where the target is asked with such.
    pub(super) fn credentials(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|(user, password)| (*user, password.as_str()))
    }

    /// The targets behind a portal, each with a portal of its own.
    pub(super) fn targets(&self, portal: &Portal) -> Result<Vec<(Portal, String)>> {
        let output = self.run(LIST, &[], format!("iscsi://{portal}"))?;
        let said = said(&output)?;
        Ok(said.lines().filter_map(target).collect())
    }

    /// The units of a target, in order, whatever they are.
    pub(super) fn units(&self, portal: &Portal, name: &str) -> Result<Vec<u64>> {
        let output = self.run(LIST, &["-s"], format!("iscsi://{portal}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if let Some(units) = listed(&text, name)
            && (output.status == 0 || is_followed(&text, name))
        {
            return Ok(units);
        }
        if output.status == 0 {
            let what = format!("portal {portal} has no target {name}");
            return Err(Error::new(ErrorKind::Inaccessible, what));
        }
        // It logs in to all targets there are, and gives up at the first that refuses.
        let mut found = Vec::new();
        for unit in 0..TRIED {
            found.extend(self.size(portal, name, unit)?.map(|_| unit));
        }
        Ok(found)
    }

    /// The size of a unit in bytes; none when there is no such disk.
    pub(super) fn size(&self, portal: &Portal, name: &str, unit: u64) -> Result<Option<u64>> {
        let output = self.run(SIZE, &["-s"], format!("iscsi://{portal}/{name}/{unit}"))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        if output.status != 0 && [NO_UNIT, NO_DISK].iter().any(|none| complaint.contains(none)) {
            return Ok(None);
        }
        let said = said(&output)?;
        said.trim().parse().map(Some).map_err(|_| {
            let what = format!("{SIZE} says {:?} and no size", said.trim());
            Error::new(ErrorKind::ToolFailed, what)
        })
    }

    fn run(&self, program: &'static str, options: &[&str], url: String) -> Result<Output> {
        let mut args: Vec<_> = options.iter().map(|option| (*option).into()).collect();
        if let Some(initiator) = self.initiator {
            args.extend(["-i".into(), initiator.into()]);
        }
        args.push(url.into());
        let environment = match &self.credentials {
            Some((user, password)) => vec![
                ("LIBISCSI_CHAP_USERNAME", Zeroizing::new((*user).to_owned())),
                ("LIBISCSI_CHAP_PASSWORD", password.clone()),
            ],
            None => Vec::new(),
        };
        let command =
            Command { program, args, environment, accept: &[FAILED], ..Command::default() };
        self.ctx.host.run(&command, &self.ctx.limits).map_err(|error| match error.kind() {
            // They wait for the target alone, and as long as they are let.
            ErrorKind::TimedOut => {
                Error::new(ErrorKind::Inaccessible, "the target does not answer")
            }
            _ => error,
        })
    }
}

/// What a tool said, or what its complaint means.
fn said(output: &Output) -> Result<String> {
    if output.status == 0 {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let mut lines = complaint.lines().map(str::trim);
    let last = lines.rfind(|line| !line.is_empty()).unwrap_or("it does not say why");
    match complaint.contains(REFUSED) {
        true => {
            let what = "the target refuses the credentials";
            Err(Error::new(ErrorKind::AuthenticationFailed, what))
        }
        false => {
            let what = format!("the target cannot be reached: {}", last.escape_debug());
            Err(Error::new(ErrorKind::Inaccessible, what))
        }
    }
}

/// From `Target:iqn.2026-01.org.example:storage Portal:192.0.2.1:3260,1`.
fn target(line: &str) -> Option<(Portal, String)> {
    let (name, portal) = line.strip_prefix("Target:")?.split_once(" Portal:")?;
    let (portal, _group) = portal.rsplit_once(',')?;
    Some((Portal::parse(portal)?, name.to_owned()))
}

/// The disks that are listed of a target; none when it is not listed. A target is listed once for each
/// of its portals.
fn listed(text: &str, name: &str) -> Option<Vec<u64>> {
    let mut lines = text.lines().skip_while(|line| target(line).is_none_or(|(_, of)| of != name));
    lines.next()?;
    let units = lines.take_while(|line| !line.starts_with("Target:")).filter_map(|line| {
        // Lun:1    Type:DIRECT_ACCESS (Size:63M)
        let (number, kind) = line.strip_prefix("Lun:")?.split_once("Type:")?;
        kind.starts_with(DISK).then(|| number.trim().parse().ok())?
    });
    let mut units: Vec<u64> = units.collect();
    units.sort_unstable();
    Some(units)
}

/// Whether another target is listed after one, so that this one was listed whole.
fn is_followed(text: &str, name: &str) -> bool {
    let mut after = text.lines().skip_while(|line| target(line).is_none_or(|(_, of)| of != name));
    after.next();
    after.any(|line| line.starts_with("Target:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "Target:iqn.a:x Portal:127.0.0.1:33260,1\n\
        Lun:0    Type:STORAGE_ARRAY_CONTROLLER\n\
        Lun:2    Type:DIRECT_ACCESS (Size:63M)\n\
        Lun:1    Type:DIRECT_ACCESS (Size:1G)\n\
        Target:iqn.a:xy Portal:[::1]:33260,1\n\
        Lun:7    Type:DIRECT_ACCESS (Size:63M)\n";

    #[test]
    fn disks_of_the_target_are_read_from_the_list() {
        assert_eq!(listed(LISTED, "iqn.a:x"), Some(vec![1, 2]));
        assert_eq!(listed(LISTED, "iqn.a:xy"), Some(vec![7]));
        assert_eq!(listed(LISTED, "iqn.a"), None);
        assert_eq!(listed("", "iqn.a"), None);
        assert!(is_followed(LISTED, "iqn.a:x") && !is_followed(LISTED, "iqn.a:xy"));
        let (portal, name) = target("Target:iqn.a:xy Portal:[::1]:33260,1").unwrap();
        assert_eq!((portal.to_string(), name.as_str()), ("[::1]:33260".to_owned(), "iqn.a:xy"));
    }

    #[test]
    fn complaints_are_told_apart() {
        let kind = |complaint: &str| {
            let stderr = complaint.as_bytes().to_vec();
            said(&Output { status: FAILED, stderr, ..Output::default() }).unwrap_err().kind()
        };
        let refused =
            "Login Failed. Failed to log in to target. Status: Authentication failure(513)";
        assert_eq!(kind(refused), ErrorKind::AuthenticationFailed);
        let gone = "discoveryconnect_cb: connection failed : socket error Connection refused(111).";
        assert_eq!(kind(gone), ErrorKind::Inaccessible);
        assert_eq!(kind(""), ErrorKind::Inaccessible);
    }
}
