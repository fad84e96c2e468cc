//! The peer on the same images.

use crate::figures::{Figures, resident_mib};
use crate::pool_directory::PoolDirectory;
use crate::support::libvirt::{Client, Libvirt, POOL, in_namespace, make_pool};
use crate::support::{median, milliseconds};
use anyhow::Context;
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;
use zbus::wire::{OwnedObjectPath, OwnedVariant};

/// Measures libvirt on the same images, in a namespace.
pub fn measure(directory: &PoolDirectory) -> anyhow::Result<Figures> {
    Ok(Figures::from_lines(&in_namespace(&directory.images())?))
}

/// What happens inside: the daemons, the measurement, figures on standard output.
pub fn run_inside_namespace(images: &Path) -> anyhow::Result<()> {
    let libvirt = Libvirt::start()?;
    let mut figures = Figures::default();
    figures.set("first-answer", libvirt.first_answer);
    figures.set("rss-idle", resident_mib(libvirt.libvirtd.pid())?);

    make_pool("bench", images)?;
    let count = std::fs::read_dir(images)?.count();
    let dbus = libvirt.on_the_bus()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure_over_dbus(&mut figures, count))?;
    figures.set("rss", resident_mib(libvirt.libvirtd.pid())? + resident_mib(dbus.pid())?);
    figures.print_lines();
    Ok(())
}

/// What a client of libvirt-dbus does: refresh, list with details (a call for the list, two per volume), create.
async fn measure_over_dbus(figures: &mut Figures, count: usize) -> anyhow::Result<()> {
    const VOLUME: &str = "org.libvirt.StorageVol";
    let client = Client::connect().await?;
    let pools = client.pools().await?;
    let pool = pools.first().context("libvirt-dbus shows no pool")?;

    let start = Instant::now();
    client.call(pool, POOL, "Refresh", &0_u32).await?;
    figures.set("refresh", milliseconds(start));
    figures.set("refresh-each", milliseconds(start) * 1e3 / count as f64);

    let start = Instant::now();
    let volumes: Vec<OwnedObjectPath> =
        client.call(pool, POOL, "ListStorageVolumes", &0_u32).await?.body().deserialize()?;
    for volume in &volumes {
        let info = client.call(volume, VOLUME, "GetInfo", &0_u32).await?;
        let _: (i32, u64, u64) = info.body().deserialize()?;
        let properties = "org.freedesktop.DBus.Properties";
        let properties = client.call(volume, properties, "GetAll", &VOLUME).await?;
        let _: HashMap<String, OwnedVariant> = properties.body().deserialize()?;
    }
    figures.set("list", milliseconds(start));

    for format in ["raw", "qcow2"] {
        let mut times = Vec::new();
        for number in 0..9 {
            let xml = format!(
                "<volume><name>new-{number}.{format}</name><capacity unit='GiB'>1</capacity>\
                 <allocation>0</allocation><target><format type='{format}'/></target></volume>"
            );
            let start = Instant::now();
            let reply = client.call(pool, POOL, "StorageVolCreateXML", &(xml, 0_u32)).await?;
            times.push(milliseconds(start));
            let volume: OwnedObjectPath = reply.body().deserialize()?;
            client.call(&volume, VOLUME, "Delete", &0_u32).await?;
        }
        figures.set(&format!("create-{format}"), median(times));
    }
    Ok(())
}
