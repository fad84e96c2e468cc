//! What sources of targets say, and those that a portal tells of.

use super::portal::{self, Portal};
use super::record;
use crate::model::{Error, ErrorKind, HostAddress, Result, Source, SourceDevice};
use std::collections::BTreeMap;

/// Refuses what no source of a target can say.
pub(in crate::backend) fn check_source(source: &Source) -> Result<()> {
    portal::check_names(source)?;
    match &source.auth {
        Some(auth) if !record::is_value(auth.parts().0) => {
            let what = "the user name cannot be one of CHAP";
            Err(Error::new(ErrorKind::InvalidArgument, what))
        }
        _ => Ok(()),
    }
}

/// The host whose targets are to be found, and its portal.
pub(in crate::backend) fn asked(spec: &Source) -> Result<(&HostAddress, Portal)> {
    let host = spec.server()?;
    Ok((host, Portal::of(host)))
}

/// The targets that were found by a host, as sources: each with all its portals, of which the one that
/// was asked comes first, as it was asked for. A target need not be there.
pub(in crate::backend) fn sources(
    spec: &Source,
    host: &HostAddress,
    found: &[(Portal, String)],
) -> Vec<Source> {
    let asked = Portal::of(host);
    let mut targets: BTreeMap<&str, Vec<&Portal>> = BTreeMap::new();
    for (portal, target) in found {
        targets.entry(target).or_default().push(portal);
    }
    let sources = targets.into_iter().map(|(target, portals)| {
        let (same, others): (Vec<_>, Vec<_>) =
            portals.into_iter().partition(|portal| asked.is(portal) || asked.may_be(portal));
        let first = same.first().map(|_| host.clone());
        let hosts = first.into_iter().chain(others.into_iter().map(Portal::address)).collect();
        let device = SourceDevice {
            path: target.to_owned(),
            part_separator: None,
            free_extents: Vec::new(),
        };
        let initiator_iqn = spec.initiator_iqn.clone();
        Source { hosts, devices: vec![device], initiator_iqn, ..Source::default() }
    });
    sources.collect()
}
