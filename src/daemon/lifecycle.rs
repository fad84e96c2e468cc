//! From the first line of the log to `_exit`: start, serve, reload, end.
//!
//! Starting never waits for storage: definitions are read, the objects served, the name requested
//! last, READY=1 said; only then volumes are read and pools started, in the background.

use super::activation::Sockets;
use super::config::Config;
use super::jobs;
use super::logging::Logging;
use super::notify;
use super::options::Options;
use crate::backend;
use crate::bus::Face;
use crate::engine::Engine;
use crate::host::SystemHost;
use crate::model::{Error, ErrorKind, Result};
use crate::store::Store;
use sd_notify::NotifyState;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tracing::{error, info, warn};

/// How long jobs may take to roll back at the end; less than TimeoutStopSec= of the unit.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long closing connections may take.
const CLOSING: Duration = Duration::from_secs(5);

/// Why the daemon ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nobody needs it.
    Idle,
    /// SIGTERM or SIGINT.
    Asked,
    /// The bus went away; its next start brings a new daemon.
    BusLost,
}

impl End {
    fn why(&self) -> &'static str {
        match self {
            Self::Idle => "nobody needs it",
            Self::Asked => "asked to",
            Self::BusLost => "the bus is gone",
        }
    }
}

/// The signals that are acted upon.
struct Signals {
    ends: Ends,
    hang_up: Signal,
}

/// Those that ask for the end.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let on = |kind| signal(kind).map_err(|error| Error::io("cannot handle signals", &error));
        Ok(Self {
            ends: Ends {
                terminate: on(SignalKind::terminate())?,
                interrupt: on(SignalKind::interrupt())?,
            },
            hang_up: on(SignalKind::hangup())?,
        })
    }
}

impl Ends {
    /// Waits until an end is asked for.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A daemon that serves.
struct Daemon {
    options: Options,
    config: Config,
    logging: Logging,
    engine: Engine,
    face: Face,
    sockets: Sockets,
}

/// Runs the daemon to its end.
pub(super) async fn run(options: Options, config: Config, logging: Logging) -> Result<()> {
    // Before anything else: a reload sent early must not kill.
    let mut signals = Signals::new()?;
    let mut daemon = Daemon::start(options, config, logging).await?;
    notify::tell(&[NotifyState::Ready]);
    info!("poold {} is ready", env!("CARGO_PKG_VERSION"));
    tokio::spawn(jobs::follow(daemon.engine.clone(), daemon.face.clone()));
    daemon.engine.resume();
    let end = daemon.serve(&mut signals).await;
    daemon.end(&end, &mut signals).await;
    match end {
        End::Idle | End::Asked => Ok(()),
        End::BusLost => {
            Err(Error::new(ErrorKind::Inaccessible, "the connection to the bus is lost"))
        }
    }
}

impl Daemon {
    async fn start(options: Options, config: Config, logging: Logging) -> Result<Self> {
        let store = Store::open(&options.root)?;
        let mut sockets = Sockets::open(store.run_dir(), options.listen)?;
        let host = Arc::new(SystemHost);
        let engine =
            Engine::open(store, host, backend::all(), config.engine_options(&options.root))?;
        let face = Face::new(engine.clone(), config.face_options())?;
        face.connect(options.address.as_deref()).await?;
        for socket in sockets.listening.drain(..) {
            face.serve_peers(socket).await?;
        }
        face.request_name().await?;
        Ok(Self { options, config, logging, engine, face, sockets })
    }

    /// The event loop. Nothing in it waits: the watchdog's keep-alive comes from here.
    async fn serve(&mut self, signals: &mut Signals) -> End {
        let mut watchdog = sd_notify::watchdog_enabled().map(|period| every(period / 2));
        let mut idle = IdleClock::new(self.config.idle_timeout());
        loop {
            tokio::select! {
                () = signals.ends.asked() => return End::Asked,
                () = self.face.lost() => return End::BusLost,
                _ = signals.hang_up.recv() => {
                    self.reload();
                    idle = IdleClock::new(self.config.idle_timeout());
                }
                () = tick(&mut watchdog) => self.keep_alive(),
                () = tick(&mut idle.look) => {
                    let expired = idle.expired(self.engine.is_idle() && self.face.is_idle());
                    if expired && self.face.lock_up() {
                        return End::Idle;
                    }
                }
            }
        }
    }

    /// Says that the daemon works: both calls take the locks that every other call takes, so one
    /// that is held for ever ends the keep-alive.
    fn keep_alive(&self) {
        let _ = (self.engine.is_idle(), self.face.is_idle());
        notify::tell(&[NotifyState::Watchdog]);
    }

    /// Reads configuration and definitions again. A bad configuration changes nothing.
    fn reload(&mut self) {
        notify::reloading();
        let (file, must_exist) = self.options.config_file();
        match Config::load(&file, must_exist) {
            Ok(config) => {
                self.config = config.with_options(&self.options);
                self.logging.set_level(self.config.log_level());
            }
            Err(error) => error!("{error}; the configuration stays as it was"),
        }
        let engine = self.engine.clone();
        tokio::spawn(async move {
            match engine.reload().await {
                Ok(()) => info!("reloaded"),
                Err(error) => error!("cannot read the definitions again: {error}"),
            }
            notify::tell(&[NotifyState::Ready]);
        });
    }

    /// Ends what is under way and leaves the bus.
    ///
    /// The order of an idle exit: no more peers are let in; the service manager knows that the
    /// service stops; only then the name is released, so that a call that comes after it starts a
    /// new daemon and is not sent to this one. What came before is answered by `close`.
    async fn end(&self, end: &End, signals: &mut Signals) {
        info!("ending: {}", end.why());
        notify::tell(&[NotifyState::Stopping]);
        if *end == End::Idle {
            if let Err(error) = tokio::task::spawn_blocking(notify::barrier).await {
                warn!("cannot wait for the service manager: {error}");
            }
        } else {
            tokio::select! {
                () = self.engine.shut_down(PATIENCE) => {}
                () = signals.ends.asked() => warn!("asked again to end: jobs are left to the next start"),
            }
        }
        if timeout(CLOSING, self.face.close()).await.is_err() {
            warn!("callers that do not read their answers are left");
        }
        self.sockets.remove();
    }
}

/// Says when nobody has needed the daemon for a while.
struct IdleClock {
    patience: Duration,
    since: Instant,
    /// When to look; none: never.
    look: Option<Interval>,
}

impl IdleClock {
    /// A clock that expires after `patience` of idleness; never without.
    fn new(patience: Option<Duration>) -> Self {
        let look = patience.map(|patience| {
            every((patience / 4).clamp(Duration::from_millis(5), Duration::from_secs(5)))
        });
        Self { patience: patience.unwrap_or_default(), since: Instant::now(), look }
    }

    /// Notes whether the daemon is idle now; true when it has been for long enough.
    fn expired(&mut self, idle: bool) -> bool {
        if !idle {
            self.since = Instant::now();
        }
        idle && self.since.elapsed() >= self.patience
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The next tick, or never.
async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_idle_clock_starts_again_whenever_somebody_needs_the_daemon() {
        let mut clock = IdleClock::new(Some(Duration::ZERO));
        assert!(!clock.expired(false));
        assert!(clock.expired(true));
        let mut clock = IdleClock::new(Some(Duration::from_secs(3600)));
        assert!(!clock.expired(true));
        clock.since -= Duration::from_secs(3600);
        assert!(clock.expired(true));
        clock.since -= Duration::from_secs(3600);
        assert!(!clock.expired(false));
        assert!(!clock.expired(true));
    }
}
