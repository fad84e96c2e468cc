//! Data in and out of volumes, copies and new images, beside the commands that one would type instead.
//!
//! `make bench` runs it; `cargo bench --bench transfer -- 256` takes 256 MiB instead of 2 GiB, and further words only the
//! rows that have one of them in their title. Random data, contenders in turn, seven rounds, medians; what is on the
//! storage counts, so a sync is inside every time; every copy is compared with its source, outside of the time. Prints and
//! asserts nothing about numbers: those of a shared machine are no verdict.

mod contender;
mod place;
mod service;
#[path = "../support/mod.rs"]
mod support;

use contender::{Contender, command, shell};
use place::Place;
use service::Service;
use std::path::Path;

/// Runs of each contender.
const ROUNDS: usize = 7;
/// Runs for new images, which take milliseconds.
const CREATIONS: usize = 41;

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let size = arguments.iter().position(|argument| argument.parse::<u64>().is_ok());
    let mebibytes = match size {
        Some(at) => arguments.remove(at).parse()?,
        None => 2048,
    };
    let wanted = |title: &str| {
        arguments.is_empty() || arguments.iter().any(|word| title.contains(word.as_str()))
    };
    let place = Place::on_ext4(mebibytes)?;
    // Before the service, which sees what is mounted when it starts.
    let kinds =
        ["xfs", "btrfs"].into_iter().map(|kind| (kind, format!("clone, shared blocks, {kind}")));
    let disks: Vec<_> = kinds
        .filter(|(_, title)| wanted(title))
        .map(|(kind, title)| (kind, title, place.disk(kind, mebibytes * 2 + 1024)))
        .collect();
    let service = Service::start(&place)?;
    println!("\n{mebibytes} MiB of random data, ext4{:>32} {:>28} {:>8}", "poold", "", "ratio");
    let run = |title: &str, check: Option<(&Path, &Path)>, contenders: Vec<Contender<'_>>| {
        if !wanted(title) {
            return Ok(());
        }
        contender::compare(title, ROUNDS, check, contenders)
    };
    let (source, copy) = (place.source(), place.path("copy"));
    let (from, to) = (source.display(), copy.display());
    let volume = place.path("pool/disk.raw");
    let from_volume = volume.display();
    let cp = |from: &dyn std::fmt::Display| {
        shell("cp + fdatasync", format!("cp --sparse=never {from} {to} && sync -d {to}"), &copy)
    };

    run(
        "upload from a file",
        Some((&source, &volume)),
        vec![
            service.upload(&source, &volume),
            cp(&from).instead(&copy),
            service.virsh("vol-upload", &volume, &source),
        ],
    )?;
    run(
        "upload from a pipe",
        Some((&source, &volume)),
        vec![
            service.upload_by_pipe(&source, &volume),
            shell(
                "cat | dd, fdatasync",
                format!("cat {from} | dd of={to} bs=1M iflag=fullblock conv=fdatasync status=none"),
                &copy,
            )
            .instead(&copy),
        ],
    )?;
    service.fill(&source, &volume)?;
    run(
        "download to a file",
        Some((&source, &copy)),
        vec![
            service.download(&volume, &copy),
            cp(&from_volume),
            shell(
                "qemu-img convert, sync",
                format!("qemu-img convert -f raw -O raw {from_volume} {to} && sync -d {to}"),
                &copy,
            ),
            service.virsh("vol-download", &volume, &copy),
        ],
    )?;
    run(
        "download to a pipe",
        None,
        vec![
            service.download_by_pipe(&volume),
            shell("cat | cat", format!("cat {from_volume} | cat >/dev/null"), &copy),
        ],
    )?;
    let clone = place.path("pool/clone");
    run(
        "clone, all bytes",
        Some((&source, &clone)),
        vec![
            service.clone(&volume, &clone, "raw"),
            cp(&from_volume).instead(&copy),
            shell(
                "qemu-img convert, sync",
                format!("qemu-img convert -f raw -O raw {from_volume} {to} && sync -d {to}"),
                &copy,
            )
            .instead(&copy),
        ],
    )?;
    run(
        "clone as qcow2",
        None,
        vec![
            service.clone(&volume, &clone, "qcow2"),
            shell(
                "qemu-img convert, sync",
                format!("qemu-img convert -f raw -O qcow2 {from_volume} {to} && sync -d {to}"),
                &copy,
            ),
        ],
    )?;
    for (kind, title, disk) in &disks {
        let disk = match disk {
            Ok(disk) => disk,
            Err(why) => {
                println!("RESULT bench clone-{kind} skip {why:#}");
                continue;
            }
        };
        let service = service.pool_on(disk)?;
        let (original, copy) = (disk.path("disk.raw"), disk.path("copy"));
        service.fill(&source, &original)?;
        let (from, to) = (original.display(), copy.display());
        let clone = disk.path("clone");
        contender::compare(
            title,
            ROUNDS,
            Some((&source, &clone)),
            vec![
                service.clone(&original, &clone, "raw"),
                shell(
                    "cp --reflink, fdatasync",
                    format!("cp --reflink=always {from} {to} && sync -d {to}"),
                    &copy,
                )
                .instead(&copy),
            ],
        )?;
        service.stop()?;
    }
    for format in ["raw", "qcow2"] {
        let title = format!("create {format}, 1 GiB");
        if !wanted(&title) {
            continue;
        }
        let made = place.path("pool/new");
        contender::compare(
            &title,
            CREATIONS,
            None,
            vec![
                service.create(&made, format),
                shell(
                    "qemu-img create, sync",
                    format!("qemu-img create -q -f {format} {to} 1G && sync {to}"),
                    &copy,
                ),
                command("qemu-img create", &["qemu-img", "create", "-q", "-f", format], &copy)
                    .with("1G"),
                service.virsh_create(&made, format),
            ],
        )?;
    }
    Ok(())
}
