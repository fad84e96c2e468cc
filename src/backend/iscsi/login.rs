//! Making and ending sessions of a pool's own.

use super::admin::{self, Admin};
use super::portal::Portal;
use super::sessions::Session;
use super::{Iscsi, Place};
use crate::backend::{OpContext, Undo};
use crate::host::{Host, Limits};
use crate::model::{Auth, Error, ErrorKind, Result, SecretUsage};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long what an undone start left may take to go.
pub(super) const WITHDRAWAL: Duration = Duration::from_secs(20);
/// How long is waited between tries to end it, each of which is a program.
const WITHDRAWAL_PAUSE: Duration = Duration::from_millis(500);

/// What the records of our sessions say beside the password. Logging in, and doing it again, is ours:
/// what is refused fails at once, and what is not answered after the time-out of one login (15 s).
const SETTINGS: [(&str, &str); 3] = [
    ("node.startup", "manual"),
    ("node.conn[0].startup", "manual"),
    ("node.session.initial_login_retry_max", "0"),
];

impl Iscsi {
    /// Logs in at portals; success is that at least one of the pool serves then.
    pub(super) fn log_in(
        &self,
        place: &Place<'_>,
        portals: &[&Portal],
        ctx: &OpContext,
    ) -> Result<()> {
        let (target, interface) = (place.target, place.interface.as_str());
        let auth = place.pool.source.auth.as_ref();
        let password =
            auth.map(|auth| password(auth, ctx)).transpose().map_err(|e| place.named(e))?;
        // One that does not answer must not take the time of those that do.
        let limits = match portals.len() {
            1 => ctx.limits.clone(),
            _ => ctx.limits.part(2),
        };
        let admin = Admin { host: &*ctx.host, limits: &limits };
        ctx.journal.record(&Undo::WithdrawIscsi {
            target: target.to_owned(),
            interface: interface.to_owned(),
        })?;
        let mut settings = SETTINGS.to_vec();
        if let Some(initiator) = &place.pool.source.initiator_iqn {
            settings.push((admin::INITIATOR, initiator));
        }
        if let (Some(auth), Some(password)) = (auth, &password) {
            settings.extend([
                ("node.session.auth.authmethod", "CHAP"),
                ("node.session.auth.username", auth.parts().0),
                ("node.session.auth.password", password.as_str()),
            ]);
        }
        let logged_in = || -> Result<()> {
            admin.make_interface(interface)?;
            self.records.make(target, portals, interface, &settings, &ctx.limits)?;
            admin.log_in(target, interface, portals)
        };
        match logged_in().map_err(|error| place.named(error)) {
            Ok(()) => Ok(()),
            // What is wrong with the others is the pool's condition.
            Err(error) if error.kind() == ErrorKind::Inaccessible => {
                self.serving(place).map(drop).map_err(|_| error)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the record of an interface if it is gone: iscsiadm ends no session without that of its interface.
    pub(super) fn have_interface(&self, interface: &str, admin: Admin<'_>) -> Result<()> {
        match self.records.database_of(interface) {
            Some(_) => Ok(()),
            None => admin.make_interface(interface),
        }
    }

    /// Ends the sessions of an interface and removes its records.
    pub(super) fn withdraw(&self, target: &str, interface: &str, admin: Admin<'_>) -> Result<()> {
        // First, as they may hold a password.
        self.records.remove(target, interface, admin.limits)?;
        let ended = self.end(|session| session.interface == interface, interface, admin);
        ended.and(self.records.remove(target, interface, admin.limits))
    }

    /// Ends sessions, some of which may be ours. One that is being logged in, which iscsid goes on with when
    /// iscsiadm is ended, cannot be ended yet.
    pub(super) fn end(
        &self,
        which: impl Fn(&Session) -> bool,
        own_interface: &str,
        admin: Admin<'_>,
    ) -> Result<()> {
        let left = || {
            let mut all = self.sessions.all();
            all.retain(&which);
            all
        };
        let log_out = |session: &Session| {
            if session.interface == own_interface {
                self.have_interface(own_interface, admin)?;
            }
            admin.log_out(session.id)
        };
        let mut refused: Result<()> = Ok(());
        let end = || {
            let tried: Vec<(bool, Result<()>)> =
                left().iter().map(|session| (session.is_logged_in(), log_out(session))).collect();
            // Of one that serves it stands.
            let stands = tried.iter().any(|(serves, ended)| *serves && ended.is_err());
            refused = tried.into_iter().try_for_each(|(_, ended)| ended);
            (stands || left().is_empty()).then_some(())
        };
        let ended = admin.limits.look_every(WITHDRAWAL_PAUSE, WITHDRAWAL, end);
        refused.and(ended.map(drop))
    }
}

/// The password that goes with a user name.
pub(in crate::backend) fn password(auth: &Auth, ctx: &OpContext) -> Result<Zeroizing<String>> {
    let value = ctx.secrets.value(auth.parts().1, SecretUsage::Iscsi)?;
    match std::str::from_utf8(value.bytes()) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => {
            let what = "the password is no text; set the secret again";
            Err(Error::new(ErrorKind::AuthenticationFailed, what))
        }
    }
}

/// Undoes a start that was not finished: ends the sessions of an interface and removes its records.
pub(in crate::backend) fn withdraw(target: &str, interface: &str, host: &dyn Host) -> Result<()> {
    let limits = Limits::within(WITHDRAWAL);
    Iscsi::default().withdraw(target, interface, Admin { host, limits: &limits })
}
