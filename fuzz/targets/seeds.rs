//! Where a target begins: inputs that its own writers and tools make, not others' files.

use std::path::Path;

/// Names the directory that the seeds are written into; the target then ends.
const VARIABLE: &str = "POOLD_FUZZ_SEEDS";

/// Writes the seeds and ends, if it was asked for.
pub fn write_if_asked(make: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(directory) = std::env::var_os(VARIABLE) else { return };
    let seeds = make();
    std::fs::create_dir_all(&directory).expect("a directory for the seeds");
    for (number, seed) in seeds.iter().enumerate() {
        let path = Path::new(&directory).join(format!("seed-{number:03}"));
        std::fs::write(path, seed).expect("a seed");
    }
    eprintln!("{} seeds", seeds.len());
    std::process::exit(0);
}
