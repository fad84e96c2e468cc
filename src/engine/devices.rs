//! Following devices: what appears, changes and goes, told to the pools that it concerns.

use super::live::GATHER;
use super::shared::{Devices, Shared};
use crate::backend::Backend;
use crate::host::{DeviceEvent, DeviceEvents};
use crate::model::{PoolDef, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// How long it is left alone after something was told: what reads a device may make an event of its
/// own, and a host that starts makes thousands.
const PAUSE: Duration = Duration::from_millis(400);
/// Most events of one moment; more are as good as lost.
const MANY: usize = 4096;

/// Tells pools of devices for as long as the engine lives.
pub(super) async fn follow(shared: Arc<Shared>) {
    let told: Result<()> = async {
        let events = DeviceEvents::new()?;
        loop {
            let devices = gather(&events).await?;
            tell(&shared, &devices);
            tokio::time::sleep(PAUSE).await;
        }
    }
    .await;
    if let Err(error) = told {
        tracing::error!("devices are not followed any more: {error}");
    }
}

/// What happens to block devices from the next event on, for a moment.
async fn gather(events: &DeviceEvents) -> Result<Devices> {
    let mut found = Vec::new();
    let mut lost = false;
    while found.is_empty() && !lost {
        match events.next().await? {
            Some(event) => found.extend(Some(event).filter(DeviceEvent::is_block)),
            None => lost = true,
        }
    }
    let end = tokio::time::sleep(GATHER);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            event = events.next() => match event? {
                Some(event) => found.extend(Some(event).filter(DeviceEvent::is_block)),
                None => lost = true,
            },
        }
    }
    lost |= found.len() > MANY;
    Ok((!lost).then(|| found.into()))
}

fn tell(shared: &Arc<Shared>, devices: &Devices) {
    for pool in shared.pools().into_iter().filter(|pool| pool.look(|core| core.active.is_some())) {
        let def = Arc::clone(&pool.snapshot().def);
        let Ok(backend) = shared.backend_of(def.pool_type) else { continue };
        if !concern(devices, &*backend, &def) {
            continue;
        }
        match backend.info().watch.is_of_devices() {
            true => pool.ask_reread(shared),
            false => pool.ask_check(shared),
        }
    }
    // Nobody waits for storage, mostly.
    let _ = shared.devices.send(devices.clone());
}

/// Whether what happened concerns a pool; what was lost concerns all.
fn concern(devices: &Devices, backend: &dyn Backend, def: &PoolDef) -> bool {
    devices.as_ref().is_none_or(|events| events.iter().any(|event| backend.concerned(def, event)))
}

/// Waits until a device comes or changes that concerns a pool.
pub(super) async fn appears(
    devices: &mut Receiver<Devices>,
    backend: Option<&dyn Backend>,
    def: &PoolDef,
) {
    let Some(backend) = backend else { return std::future::pending().await };
    loop {
        match devices.recv().await {
            Ok(Some(events)) => {
                let mut here = events.iter().filter(|event| !event.is_removal());
                if here.any(|event| backend.concerned(def, event)) {
                    return;
                }
            }
            Ok(None) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
