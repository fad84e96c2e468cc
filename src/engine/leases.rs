//! Who works on which volume: one job that changes it, or any number of jobs that read it.

use super::jobs::Job;
use crate::model::VolumeName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a job does with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// Changes it, alone.
    Change,
    /// Reads it; others may read it too.
    Read,
}

/// The jobs that hold one volume; never without one.
#[derive(Debug)]
enum Holders {
    Changes(Arc<Job>),
    Read(Vec<Arc<Job>>),
}

impl Holders {
    fn jobs(&self) -> &[Arc<Job>] {
        match self {
            Self::Changes(job) => std::slice::from_ref(job),
            Self::Read(jobs) => jobs,
        }
    }
}

/// The leases on a pool's volumes.
#[derive(Debug, Default)]
pub(super) struct Leases(BTreeMap<VolumeName, Holders>);

impl Leases {
    /// Who stands against another lease on a volume.
    pub(super) fn against(&self, name: &VolumeName, lease: Lease) -> Option<&Arc<Job>> {
        match (self.0.get(name)?, lease) {
            (Holders::Read(_), Lease::Read) => None,
            (holders, _) => holders.jobs().first(),
        }
    }

    /// Takes a lease that nobody stands against.
    pub(super) fn take(&mut self, name: &VolumeName, lease: Lease, job: &Arc<Job>) {
        let job = Arc::clone(job);
        match (lease, self.0.get_mut(name)) {
            (Lease::Read, Some(Holders::Read(jobs))) => jobs.push(job),
            (Lease::Read, _) => drop(self.0.insert(name.clone(), Holders::Read(vec![job]))),
            (Lease::Change, _) => drop(self.0.insert(name.clone(), Holders::Changes(job))),
        }
    }

    /// Gives back what a job holds on a volume; who holds it still.
    pub(super) fn give_back(&mut self, name: &VolumeName, job: u64) -> Option<u64> {
        match self.0.get_mut(name)? {
            Holders::Read(jobs) if jobs.len() > 1 => {
                let ours = jobs.iter().position(|each| each.id == job);
                if let Some(ours) = ours {
                    jobs.remove(ours);
                }
            }
            holders if holders.jobs().iter().any(|each| each.id == job) => {
                self.0.remove(name);
            }
            _ => {}
        }
        self.0.get(name)?.jobs().first().map(|job| job.id)
    }

    /// Whether a job changes this volume.
    pub(super) fn changes(&self, name: &VolumeName) -> bool {
        matches!(self.0.get(name), Some(Holders::Changes(_)))
    }

    /// Volumes that jobs change.
    pub(super) fn changed(&self) -> impl Iterator<Item = &VolumeName> {
        self.0.iter().filter(|(_, how)| matches!(how, Holders::Changes(_))).map(|(name, _)| name)
    }

    /// Any one volume under a job, and the job.
    pub(super) fn any(&self) -> Option<(&VolumeName, &Arc<Job>)> {
        let (name, holders) = self.0.first_key_value()?;
        Some((name, holders.jobs().first()?))
    }

    /// The jobs.
    pub(super) fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.0.values().flat_map(Holders::jobs)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
