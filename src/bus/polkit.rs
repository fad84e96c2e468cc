//! The authority that asks polkit.
//!
//! The subject is the caller's unique name on the bus, which nobody else can have (a process id
//! can be reused). No polkit means root only; any failure means no.

use crate::auth::{Authority, Request};
use crate::model::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use zbus::{Connection, DBusError, Variant};

const NAME: &str = "org.freedesktop.PolicyKit1";
const PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";
const ALLOW_USER_INTERACTION: u32 = 1;

/// How long polkit may take: to decide by itself, and with somebody at a dialog.
const PATIENCE: Duration = Duration::from_secs(15);
const DIALOG_PATIENCE: Duration = Duration::from_secs(300);

/// Errors that say that there is no polkit.
const ABSENT: &[&str] = &[
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Spawn.ServiceNotFound",
    "org.freedesktop.systemd1.NoSuchUnit",
    "org.freedesktop.systemd1.UnitMasked",
];

/// polkit on the bus.
pub(super) struct Polkit {
    connection: Connection,
    questions: AtomicU64,
}

/// A question under way; withdrawn when it is dropped before its answer.
struct Question {
    connection: Connection,
    id: String,
    answered: bool,
}

impl Polkit {
    /// The polkit of that bus.
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, questions: AtomicU64::new(0) }
    }

    async fn ask(&self, request: &Request) -> Result<()> {
        if request.subject.uid == 0 {
            return Ok(());
        }
        let what = format!("{} ({})", request.action.doing(), request.action.id());
        let denied = |why: &str| {
            Error::new(ErrorKind::AccessDenied, format!("{what} is not allowed: {why}"))
        };
        let Some(name) = &request.subject.bus_name else {
            return Err(denied("only root may do this here; use the system bus"));
        };
        let number = self.questions.fetch_add(1, Ordering::Relaxed);
        let mut question = Question {
            connection: self.connection.clone(),
            id: format!("poold-{}-{number}", std::process::id()),
            answered: false,
        };
        let subject = HashMap::from([("name", Variant::from(name.as_str()))]);
        let details: HashMap<&str, &str> =
            request.details.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let (flags, patience) = match request.interactive {
            true => (ALLOW_USER_INTERACTION, DIALOG_PATIENCE),
            false => (0, PATIENCE),
        };
        let body = (
            ("system-bus-name", subject),
            request.action.id(),
            details,
            flags,
            question.id.as_str(),
        );
        let call = self.connection.call_method(
            Some(NAME),
            PATH,
            Some(INTERFACE),
            "CheckAuthorization",
            &body,
        );
        let answer = tokio::time::timeout(patience, call).await;
        let reply = match answer {
            Err(_) => return Err(denied("polkit does not answer")),
            Ok(Err(error)) => {
                question.answered = true;
                return Err(denied(&reason(&error)));
            }
            Ok(Ok(reply)) => reply,
        };
        question.answered = true;
        let (authorised, challenge, _): (bool, bool, HashMap<String, String>) = reply
            .body()
            .deserialize()
            .map_err(|error| denied(&format!("polkit's answer cannot be read: {error}")))?;
        match (authorised, challenge) {
            (true, _) => Ok(()),
            (false, true) if !request.interactive => Err(Error::new(
                ErrorKind::InteractiveAuthorizationRequired,
                format!("{what} needs authentication; allow interaction, or a polkit rule"),
            )),
            (false, true) => Err(denied("it needs authentication, and nobody authenticated")),
            (false, false) => Err(denied("polkit refused")),
        }
    }
}

fn reason(error: &zbus::Error) -> String {
    let (name, text) = match error {
        zbus::Error::MethodError(name, text, _) => (name.as_str().to_owned(), text.as_deref()),
        zbus::Error::FDO(error) => (error.name().to_string(), error.description()),
        error => return format!("polkit cannot be asked: {error}"),
    };
    match ABSENT.contains(&name.as_str()) {
        true => "polkit is not there, so only root may do this".to_owned(),
        false => format!("polkit failed: {}", text.unwrap_or(&name)),
    }
}

impl Authority for Polkit {
    fn check<'a>(
        &'a self,
        request: &'a Request,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
        Box::pin(self.ask(request))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let (connection, id) = (self.connection.clone(), std::mem::take(&mut self.id));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let cancel = connection.call_method(
                    Some(NAME),
                    PATH,
                    Some(INTERFACE),
                    "CancelCheckAuthorization",
                    &id,
                );
                let _ = tokio::time::timeout(PATIENCE, cancel).await;
            });
        }
    }
}
