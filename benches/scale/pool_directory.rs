//! A directory full of images to measure with.

use std::path::{Path, PathBuf};

/// A temporary directory with images of 4 KiB: nine raw and one qcow2 in ten.
pub struct PoolDirectory {
    directory: tempfile::TempDir,
    /// How many images there are.
    pub size: usize,
}

impl PoolDirectory {
    /// Makes `size` images.
    pub fn with_images(size: usize) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("poold-bench").tempdir()?;
        let images = directory.path().join("images");
        std::fs::create_dir(&images)?;
        let qcow2 = qcow2_image(directory.path())?;
        let raw = vec![b'x'; 4096];
        for number in 0..size {
            let content = if number % 10 == 0 { &qcow2 } else { &raw };
            std::fs::write(images.join(format!("image-{number:06}.img")), content)?;
        }
        Ok(Self { directory, size })
    }

    /// Where the images are.
    pub fn images(&self) -> PathBuf {
        self.directory.path().join("images")
    }

    /// A place beside them for state.
    pub fn scratch(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }
}

/// The first 4 KiB of an empty qcow2 image: enough for everybody who probes.
fn qcow2_image(directory: &Path) -> anyhow::Result<Vec<u8>> {
    let path = directory.join("pattern.qcow2");
    let status = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&path)
        .arg("1G")
        .status()?;
    anyhow::ensure!(status.success(), "qemu-img create failed");
    let mut image = std::fs::read(path)?;
    image.truncate(4096);
    Ok(image)
}
