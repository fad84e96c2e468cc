//! How poold does with 1,000, 10,000 and 100,000 volumes, beside libvirt (libvirtd and libvirt-dbus) in the same run.
//!
//! `make bench` runs it; `cargo bench --bench scale -- 1000` takes other numbers. Prints both and the
//! ratio, and asserts nothing: numbers of a shared machine are no verdict.

mod figures;
mod libvirt;
mod pool_directory;
mod poold;
#[path = "../support/mod.rs"]
mod support;

use figures::print_table;
use pool_directory::PoolDirectory;

/// libvirt-dbus needs a second for every thousand volumes; beyond this it is left out.
const LARGEST_FOR_LIBVIRT: usize = 10_000;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [word, directory] = &arguments[..]
        && word == support::libvirt::PEER_ARGUMENT
    {
        return libvirt::run_inside_namespace(directory.as_ref());
    }
    let mut sizes: Vec<usize> = arguments.iter().filter_map(|arg| arg.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![1_000, 10_000, 100_000];
    }
    for size in sizes {
        let directory = PoolDirectory::with_images(size)?;
        let ours = poold::measure(&directory)?;
        let theirs = if size <= LARGEST_FOR_LIBVIRT {
            libvirt::measure(&directory)
        } else {
            Err(anyhow::anyhow!("left out above {LARGEST_FOR_LIBVIRT} volumes: takes minutes"))
        };
        if let Err(why) = &theirs {
            println!("RESULT bench libvirt-{size} skip {why}");
        }
        print_table(size, &ours, &theirs.unwrap_or_default());
    }
    Ok(())
}
