//! iscsiadm, of open-iscsi: discovery, records, login and logout.

use super::portal::Portal;
use crate::host::{Command, Host, Limits, Output};
use crate::model::{Error, ErrorKind, Result};
use std::ffi::OsString;

/// open-iscsi's tool.
pub(super) const TOOL: &str = "iscsiadm";

/// The setting of an interface that names the initiator; records of targets have it too.
pub(super) const INITIATOR: &str = "iface.initiatorname";

/// Its exit statuses (`iscsi_err.h`), all of which are told apart here.
static STATUSES: [i32; 32] = {
    let mut all = [0; 32];
    let mut at = 0;
    while at < 32 {
        all[at] = at as i32 + 1;
        at += 1;
    }
    all
};
const SESSION_NOT_FOUND: i32 = 2;
const LOGIN_FAILED: i32 = 5;
const RECORDS_UNREADABLE: i32 = 6;
const SESSION_EXISTS: i32 = 15;
const LOGIN_REFUSED: i32 = 19;
const NOTHING_FOUND: i32 = 21;
const CREDENTIALS_REFUSED: i32 = 24;

/// How often it is run again when its failure was one in passing.
const TRIES: u32 = 5;

/// iscsiadm on a host, within limits.
#[derive(Clone, Copy)]
pub(super) struct Admin<'a> {
    pub(super) host: &'a dyn Host,
    pub(super) limits: &'a Limits,
}

impl Admin<'_> {
    /// The targets behind a portal, each with a portal of its own. Keeps no record.
    pub(super) fn discover(
        self,
        portal: &Portal,
        interface: Option<&str>,
    ) -> Result<Vec<(Portal, String)>> {
        let said = self.search(portal, interface, &[NOTHING_FOUND])?.stdout;
        let text = String::from_utf8_lossy(&said);
        // 192.0.2.1:3260,1 iqn.2026-01.org.example:storage
        let found = text.lines().filter_map(|line| {
            let (portal, target) = line.split_once(' ')?;
            let (portal, _group) = portal.rsplit_once(',')?;
            Some((Portal::parse(portal)?, target.trim().to_owned()))
        });
        Ok(found.collect())
    }

    /// Fails unless a portal answers, whether or not it tells what its targets are. Ends when iscsiadm does.
    pub(super) fn ask(self, portal: &Portal, interface: &str) -> Result<()> {
        let answers = [NOTHING_FOUND, LOGIN_REFUSED, CREDENTIALS_REFUSED];
        self.search(portal, Some(interface), &answers).map(drop)
    }

    fn search(self, portal: &Portal, interface: Option<&str>, accept: &[i32]) -> Result<Output> {
        let portal = portal.to_string();
        let mut args =
            vec!["-m", "discovery", "-t", "sendtargets", "-p", &portal, "-o", "nonpersistent"];
        if let Some(interface) = interface {
            args.extend(["-I", interface]);
        }
        self.run(&args, accept, "cannot discover targets")
    }

    /// Makes an interface record.
    pub(super) fn make_interface(self, interface: &str) -> Result<()> {
        let args = ["-m", "iface", "-I", interface, "-o", "new"];
        self.run(&args, &[], "cannot make an iSCSI interface").map(drop)
    }

    /// Gives the initiator another name, for an interface.
    pub(super) fn name_initiator(self, interface: &str, name: &str) -> Result<()> {
        let args = ["-m", "iface", "-I", interface, "-o", "update"];
        let set = ["-n", INITIATOR, "-v", name];
        self.run(&[&args[..], &set].concat(), &[], "cannot name the initiator").map(drop)
    }

    /// Logs in by all records of a target for an interface, which are those of the portals, at a time.
    ///
    /// A login fails in passing when the kernel is not done with one of its messages as iscsid sends the next; what the
    /// target refuses for good has another status. iscsid's own tries are off, as it would spend them on portals that do
    /// not answer, too.
    pub(super) fn log_in(self, target: &str, interface: &str, portals: &[&Portal]) -> Result<()> {
        let Output { status, stderr, .. } = self.login(target, interface, None)?;
        let refused = portals.iter().filter_map(|at| Some((*at, refusal(&stderr, at)?)));
        let again = |(at, status)| self.log_in_again(target, interface, at, status);
        let ends: Vec<Result<()>> = refused.map(again).collect();
        match ends.is_empty() {
            true => login_end(status, target),
            false => ends.into_iter().collect(),
        }
    }

    /// The same at one portal alone.
    pub(super) fn log_in_at(self, target: &str, interface: &str, portal: &Portal) -> Result<()> {
        let Output { status, .. } = self.login(target, interface, Some(portal))?;
        self.log_in_again(target, interface, portal, status)
    }

    /// What comes of a login at a portal that ended with a status, which may have been in passing.
    fn log_in_again(
        self,
        target: &str,
        interface: &str,
        portal: &Portal,
        mut status: i32,
    ) -> Result<()> {
        for _ in 0..TRIES {
            if status == LOGIN_FAILED {
                status = self.login(target, interface, Some(portal))?.status;
            }
        }
        login_end(status, target)
    }

    /// One try, by all records or that of one portal.
    fn login(self, target: &str, interface: &str, portal: Option<&Portal>) -> Result<Output> {
        let what = login_what(target);
        let portal = portal.map(Portal::to_string);
        let mut args = vec!["-m", "node", "-T", target, "-I", interface];
        args.extend(portal.iter().flat_map(|portal| ["-p", portal]));
        args.push("--login");
        let done = self.limits.check().and_then(|()| self.run(&args, &STATUSES, &what));
        done.map_err(|error| match error.kind() {
            ErrorKind::TimedOut => {
                let message = format!("{what}: the portal does not answer");
                Error::new(ErrorKind::Inaccessible, message)
            }
            _ => error,
        })
    }

    /// Ends a session, if it is there.
    pub(super) fn log_out(self, session: u32) -> Result<()> {
        let id = session.to_string();
        let args = ["-m", "session", "-r", &id, "--logout"];
        let accept = [SESSION_NOT_FOUND, NOTHING_FOUND];
        self.run(&args, &accept, &format!("cannot end session {id}")).map(drop)
    }

    /// Ends all sessions that have records of a target for an interface.
    pub(super) fn log_out_all(self, target: &str, interface: &str) -> Result<()> {
        let args = ["-m", "node", "-T", target, "-I", interface, "--logout"];
        self.run(&args, &[NOTHING_FOUND], &format!("cannot log out of {target}")).map(drop)
    }

    /// What it said and its status, which is success or one of `accept`.
    fn run(self, args: &[&str], accept: &[i32], what: &str) -> Result<Output> {
        let command = Command {
            program: TOOL,
            args: args.iter().map(OsString::from).collect(),
            accept: &STATUSES,
            ..Command::default()
        };
        let mut output = self.host.run(&command, self.limits)?;
        // It looks at all records without its lock, and stumbles over those that go meanwhile: other pools'.
        for _ in 0..TRIES {
            if output.status == RECORDS_UNREADABLE {
                self.limits.check()?;
                output = self.host.run(&command, self.limits)?;
            }
        }
        match output.status == 0 || accept.contains(&output.status) {
            true => Ok(output),
            false => Err(failure(output.status, what)),
        }
    }
}

fn login_what(target: &str) -> String {
    format!("cannot log in to {target}")
}

/// What the status of a login says.
fn login_end(status: i32, target: &str) -> Result<()> {
    match status {
        0 | SESSION_EXISTS => Ok(()),
        status => Err(failure(status, &login_what(target))),
    }
}

/// With which status a login at a portal failed, if it did; of several, iscsiadm itself has the status of one.
fn refusal(said: &[u8], portal: &Portal) -> Option<i32> {
    // iscsiadm: Could not login to [iface: i, target: iqn.2026-01.org.example:storage, portal: 192.0.2.1,3260].
    // iscsiadm: initiator reported error (8 - connection timed out)
    let (said, of) = (String::from_utf8_lossy(said), format!(", portal: {}].", portal.record()));
    let mut lines = said.lines().skip_while(|line| !line.ends_with(&of)).skip(1);
    let (_, status) = lines.next()?.split_once("initiator reported error (")?;
    status.split_once(' ')?.0.parse().ok()
}

/// The error of an exit status.
fn failure(status: i32, what: &str) -> Error {
    let (kind, why) = meaning(status);
    let status = match kind {
        ErrorKind::ToolFailed => format!(" ({TOOL} exit status {status})"),
        _ => String::new(),
    };
    Error::new(kind, format!("{what}: {why}{status}"))
}

/// What an exit status says.
fn meaning(status: i32) -> (ErrorKind, &'static str) {
    match status {
        2 | 32 => (ErrorKind::Inaccessible, "the session ended"),
        4 => (ErrorKind::Inaccessible, "the portal cannot be reached"),
        LOGIN_FAILED | LOGIN_REFUSED => {
            let why = "the portal has no such target, or lets this initiator not in";
            (ErrorKind::Inaccessible, why)
        }
        8 | 11 => (ErrorKind::Inaccessible, "the portal does not answer"),
        12 => (ErrorKind::Inaccessible, "the kernel has no iSCSI initiator (module iscsi_tcp)"),
        18 | 20 => (ErrorKind::Inaccessible, "iscsid does not answer; start it"),
        NOTHING_FOUND => (ErrorKind::Inaccessible, "nothing was found"),
        23 => (ErrorKind::Inaccessible, "the host name is not known"),
        CREDENTIALS_REFUSED => {
            (ErrorKind::AuthenticationFailed, "the target refuses the credentials")
        }
        28 | 29 => (ErrorKind::Busy, "it is in use"),
        _ => (ErrorKind::ToolFailed, "open-iscsi failed; its journal says why"),
    }
}
