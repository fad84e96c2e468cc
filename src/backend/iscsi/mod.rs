//! Pools of type iscsi: the units of a target, by the kernel's initiator and open-iscsi.
//!
//! A pool logs in by an interface record of its own (`poold-UUID`), which tells its sessions from those
//! of others and its records of the target from theirs. A session of others is taken as it is found,
//! and left so.

mod admin;
mod login;
mod portal;
mod record;
mod sessions;
mod sources;
#[cfg(test)]
mod tests;

use super::block_volumes::Found;
use super::luns::{LunSource, OPERATIONS_WITH_SEARCH};
use super::scsi::disks;
use super::{Activation, ActivePool, BackendInfo, OpContext, StopOptions, Watch};
use crate::host::{DeviceEvent, Limits};
use crate::model::{
    BlockAttributes, Error, ErrorKind, PoolDef, PoolType, Result, Source, Uuid, VolumeName,
};
use admin::Admin;
use login::WITHDRAWAL;
pub(super) use login::{password, withdraw};
pub(super) use portal::Portal;
use record::Records;
use sessions::{Session, Sessions};
pub(super) use sources::{asked, check_source, sources};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long disks may take to appear after a login or a search.
const APPEAR: Duration = Duration::from_secs(8);

/// The source of iscsi pools.
#[derive(Debug, Default)]
pub(super) struct Iscsi {
    sessions: Sessions,
    records: Records,
}

static INFO: BackendInfo = BackendInfo {
    pool_type: PoolType::Iscsi,
    tools: &[admin::TOOL],
    operations: OPERATIONS_WITH_SEARCH,
    watch: Watch::Sessions,
};

/// What a definition names.
struct Place<'a> {
    pool: &'a PoolDef,
    target: &'a str,
    portals: Vec<Portal>,
    interface: String,
}

impl<'a> Place<'a> {
    fn of(pool: &'a PoolDef) -> Result<Self> {
        let Some(device) = pool.source.devices.first() else {
            let what = format!("pool {} has no target; define it with one", pool.name);
            return Err(Error::new(ErrorKind::InvalidArgument, what));
        };
        Ok(Self {
            pool,
            target: &device.path,
            portals: pool.source.hosts.iter().map(Portal::of).collect(),
            interface: interface(pool.uuid),
        })
    }

    fn named(&self, error: Error) -> Error {
        error.context(format_args!("pool {}", self.pool.name))
    }

    fn error(&self, kind: ErrorKind, what: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("pool {}: {what}", self.pool.name))
    }

    fn is_ours(&self, session: &Session) -> bool {
        session.interface == self.interface
    }

    /// Which of its portals a session is at, if it is one of this pool.
    fn portal(&self, session: &Session) -> Option<usize> {
        let initiator = self.pool.source.initiator_iqn.as_ref();
        let is_it = session.target == self.target
            && initiator.is_none_or(|initiator| *initiator == session.initiator);
        let at = |is: fn(&Portal, &Portal) -> bool| {
            let mut found = session.portals.iter();
            found.find_map(|found| self.portals.iter().position(|portal| is(portal, found)))
        };
        at(Portal::is).or_else(|| at(Portal::may_be)).filter(|_| is_it)
    }

    /// Its portals at which there is none of these sessions.
    fn without_session(&self, sessions: &[(usize, Session)]) -> Vec<&Portal> {
        let portals = self.portals.iter().enumerate();
        let without = portals.filter(|(index, _)| at(sessions, *index).next().is_none());
        without.map(|(_, portal)| portal).collect()
    }
}

/// Those of the sessions of a pool that are at one of its portals.
fn at(sessions: &[(usize, Session)], portal: usize) -> impl Iterator<Item = &Session> {
    sessions.iter().filter(move |(index, _)| *index == portal).map(|(_, session)| session)
}

/// The name of the interface record of a pool.
fn interface(pool: Uuid) -> String {
    format!("poold-{}", pool.simple())
}

impl LunSource for Iscsi {
    fn info(&self) -> &'static BackendInfo {
        &INFO
    }

    fn check_definition(&self, pool: &PoolDef) -> Result<()> {
        disks::check_target(pool)?;
        check_source(&pool.source).map_err(|e| e.context(format_args!("pool {}", pool.name)))?;
        Place::of(pool).map(drop)
    }

    fn concerned(&self, pool: &PoolDef, event: &DeviceEvent) -> bool {
        let Some(target) = pool.source.devices.first() else { return false };
        match event.property("ID_PATH") {
            // ip-192.0.2.1:3260-iscsi-iqn.2026-01.org.example:storage-lun-0
            Some(path) => path.contains(&format!("-iscsi-{}-lun-", target.path)),
            // The kernel does not say which target's it is.
            None => event.property("DEVPATH").is_some_and(|path| path.contains("/session")),
        }
    }

    fn find_sources(&self, spec: &Source, ctx: &OpContext) -> Result<Vec<Source>> {
        check_source(spec)?;
        let (host, asked) = asked(spec)?;
        let admin = Admin { host: &*ctx.host, limits: &ctx.limits };
        let found = match &spec.initiator_iqn {
            None => admin.discover(&asked, None)?,
            Some(initiator) => {
                let interface = interface(Uuid::new_v4());
                let found = admin
                    .make_interface(&interface)
                    .and_then(|()| admin.name_initiator(&interface, initiator))
                    .and_then(|()| admin.discover(&asked, Some(&interface)));
                // Also of a search that was ended.
                self.records.remove("", &interface, &Limits::within(WITHDRAWAL))?;
                found?
            }
        };
        Ok(sources(spec, host, &found))
    }

    fn start(&self, pool: &PoolDef, ctx: &OpContext) -> Result<Activation> {
        let place = Place::of(pool)?;
        let missing = place.without_session(&self.of(&place));
        if !missing.is_empty() {
            self.log_in(&place, &missing, ctx)?;
        }
        let now = self.of(&place);
        self.wait_for_disks(&now, ctx)?;
        let adopted = !now.iter().any(|(_, session)| place.is_ours(session));
        Ok(Activation { adopted, ..Activation::default() })
    }

    fn stop(&self, pool: &ActivePool, options: StopOptions, ctx: &OpContext) -> Result<()> {
        let place = Place::of(&pool.def)?;
        let all = self.sessions.all();
        let ends = |session: &Session| {
            place.is_ours(session) || options.release && place.portal(session).is_some()
        };
        let ending: Vec<&Session> = all.iter().filter(|session| ends(session)).collect();
        if !options.force {
            for device in ending.iter().flat_map(|session| session.disks().0) {
                // A multipath device goes with the last of its paths, if nobody uses it.
                let device = device.multipath().unwrap_or(device);
                if let Some(user) = device.lasting_user(&ctx.limits)? {
                    let node = device.node();
                    let what = format!(
                        "{user} uses {}; end that first, or stop with force",
                        node.display()
                    );
                    return Err(place.error(ErrorKind::Busy, what));
                }
            }
        }
        let admin = Admin { host: &*ctx.host, limits: &ctx.limits };
        if ending.len() > 1 {
            // At once; what that leaves is ended one by one, and refused there.
            drop(admin.log_out_all(place.target, &place.interface));
        }
        self.end(ends, &place.interface, admin)
            .and_then(|()| self.records.remove(place.target, &place.interface, &ctx.limits))
            .map_err(|error| place.named(error))
    }

    fn luns(&self, pool: &ActivePool, ctx: &OpContext) -> Result<(Vec<Found>, u32)> {
        let place = Place::of(&pool.def)?;
        let sessions = self.serving(&place)?;
        if ctx.asked {
            // One that dies meanwhile holds up this thread for as long as the kernel waits for it.
            for (_, session) in &sessions {
                session.scan().map_err(|error| place.named(error))?;
                ctx.limits.check()?;
            }
            self.wait_for_disks(&sessions, ctx)?;
        }
        let names = disks::names(&pool.def)?;
        let mut skipped = 0;
        let mut units: BTreeMap<VolumeName, Vec<Found>> = BTreeMap::new();
        for device in sessions.iter().flat_map(|(_, session)| session.disks().0) {
            match disks::lun(device, &names) {
                Some(found) => units.entry(found.name.clone()).or_default().push(found),
                None => skipped += 1,
            }
        }
        Ok((units.into_values().filter_map(one_volume).collect(), skipped))
    }

    fn condition(&self, pool: &ActivePool) -> Result<()> {
        let place = Place::of(&pool.def)?;
        let sessions = self.of(&place);
        let serves = |index: usize| at(&sessions, index).any(Session::is_logged_in);
        match (0..place.portals.len()).find(|index| !serves(*index)) {
            None => Ok(()),
            Some(index) => {
                let portal = &place.portals[index];
                let comes_back =
                    at(&sessions, index).next().is_some() || self.has_record(&place, portal)?;
                let again = match comes_back {
                    true => ", and a login there is tried again",
                    false => ". Stop and start the pool to log in there again",
                };
                let what = format!("no session at portal {portal}; the others serve{again}");
                Err(place.error(ErrorKind::Inaccessible, what))
            }
        }
    }

    /// Logs in where the start could not, or where somebody ended a session of ours.
    fn complete(&self, pool: &ActivePool, ctx: &OpContext) -> Result<()> {
        let place = Place::of(&pool.def)?;
        let mut missing = Vec::new();
        // iscsid sees to one that is down.
        for portal in place.without_session(&self.of(&place)) {
            if self.has_record(&place, portal)? {
                missing.push(portal);
            }
        }
        let most = u32::try_from(missing.len()).unwrap_or(u32::MAX);
        let tried = missing.into_iter().zip((1..=most).rev()).map(|(portal, portals_left)| {
            let limits = ctx.limits.part(portals_left);
            let admin = Admin { host: &*ctx.host, limits: &limits };
            self.have_interface(&place.interface, admin)?;
            // iscsid goes on with a login when iscsiadm is ended, and may be done with it after the stop.
            Admin { limits: &limits.part(3), ..admin }.ask(portal, &place.interface)?;
            admin.log_in_at(place.target, &place.interface, portal)
        });
        let tried: Vec<Result<()>> = tried.collect();
        tried.into_iter().collect::<Result<()>>().map_err(|error| place.named(error))
    }
}

impl Iscsi {
    /// The sessions of a pool with the number of the portal, in the order of the portals.
    fn of(&self, place: &Place<'_>) -> Vec<(usize, Session)> {
        let all = self.sessions.all().into_iter();
        let mut found: Vec<(usize, Session)> =
            all.filter_map(|session| Some((place.portal(&session)?, session))).collect();
        found.sort_by_key(|(portal, _)| *portal);
        found
    }

    /// Those that serve; there is one.
    fn serving(&self, place: &Place<'_>) -> Result<Vec<(usize, Session)>> {
        let (serving, others): (Vec<_>, Vec<_>) =
            self.of(place).into_iter().partition(|(_, session)| session.is_logged_in());
        if !serving.is_empty() {
            return Ok(serving);
        }
        let what = match others.first() {
            Some((index, session)) => format!(
                "{} at {} does not answer; session {} is down",
                place.target, place.portals[*index], session.id
            ),
            None => {
                let has = |portal| self.has_record(place, portal).unwrap_or_default();
                let again = match place.portals.iter().any(has) {
                    true => "a login is tried again",
                    false => "stop and start the pool",
                };
                format!("nobody is logged in to {} any more; {again}", place.target)
            }
        };
        Err(place.error(ErrorKind::Inaccessible, what))
    }

    /// Whether open-iscsi has a record of ours for a portal, by which it can be logged in at.
    fn has_record(&self, place: &Place<'_>, portal: &Portal) -> Result<bool> {
        let has = self.records.has(place.target, portal, &place.interface);
        has.map_err(|error| place.named(error))
    }

    /// Waits until the disks behind sessions are there and udev has named them, for a while.
    fn wait_for_disks(&self, sessions: &[(usize, Session)], ctx: &OpContext) -> Result<()> {
        let mut devices = Vec::new();
        let all_there = || {
            let mut missing = 0;
            devices.clear();
            for (_, session) in sessions.iter().filter(|(_, session)| session.is_logged_in()) {
                let (found, more) = session.disks();
                devices.extend(found);
                missing += more;
            }
            (missing == 0).then_some(())
        };
        ctx.limits.look_for(APPEAR, all_there)?;
        disks::wait_for_names(&devices, ctx)
    }
}

/// The one volume that the paths to a unit are, the first of which is taken. Paths to something else of
/// the same number, as another group of portals may have, are not taken for it.
fn one_volume(paths: Vec<Found>) -> Option<Found> {
    let mut same = paths.iter().filter(|path| path.key == paths[0].key);
    let members: Vec<String> = same.by_ref().map(|path| path.path.clone()).collect();
    let mut volume = paths.into_iter().next()?;
    if members.len() > 1 {
        volume.attributes =
            Some(Box::new(BlockAttributes { members, ..BlockAttributes::default() }));
    }
    Some(volume)
}
