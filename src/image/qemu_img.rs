//! Runs of qemu-img: passphrases in sealed memory, progress read from what it prints.

use super::lock::Held;
use super::node::Node;
use crate::host::{Command, Host, Limits, Sealed};
use crate::model::{Error, ErrorKind, Result, SecretValue};
use std::ffi::OsString;
use std::fs::File;

/// What QEMU says when it could not measure how long a key takes to derive.
const UNMEASURED: &str = "Unable to get accurate CPU usage";
/// What it says when a passphrase opens nothing.
const WRONG_KEY: &str = "Invalid password";
/// How often it may try again.
const TRIES: usize = 20;

/// One run of qemu-img, in the making.
pub struct QemuImg {
    subcommand: &'static str,
    objects: Vec<OsString>,
    args: Vec<OsString>,
    /// What the objects name; open until it has ended.
    secrets: Vec<Sealed>,
    /// Images that the nodes name; open and locked until it has ended.
    images: Vec<Held<File>>,
}

impl QemuImg {
    /// A run of a subcommand.
    pub fn new(subcommand: &'static str) -> Self {
        let (objects, args) = (Vec::new(), Vec::new());
        Self { subcommand, objects, args, secrets: Vec::new(), images: Vec::new() }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.args.push(argument.into());
        self
    }

    /// Adds an existing image.
    pub fn image(self, node: &Node) -> Self {
        self.arg(node.argument())
    }

    /// Keeps images open and locked until it has ended.
    pub fn keeping(mut self, images: Vec<Held<File>>) -> Self {
        self.images.extend(images);
        self
    }

    /// Adds an option of the format (`-o`).
    pub fn option(self, key: &str, value: &str) -> Self {
        self.arg("-o").arg(format!("{key}={}", value.replace(',', ",,")))
    }

    /// Adds the passphrase of an image; the id by which options and nodes name it. It is in no
    /// argument, environment or file of a disk.
    pub fn secret(&mut self, value: &SecretValue) -> Result<String> {
        let refused = |what: &str| Err(Error::new(ErrorKind::InvalidArgument, what.to_owned()));
        match std::str::from_utf8(value.bytes()) {
            Ok("") => return refused("the passphrase is empty"),
            Ok(text) if text.contains('\0') => {
                return refused("the passphrase has a zero byte, which QEMU does not take");
            }
            Ok(_) => {}
            Err(_) => return refused("the passphrase is not UTF-8, which QEMU asks for"),
        }
        let secret = Sealed::new("passphrase", value.bytes())?;
        let id = format!("sec{}", self.secrets.len());
        self.objects.push("--object".into());
        let at = secret.path();
        self.objects.push(format!("secret,id={id},format=raw,file={at}").into());
        self.secrets.push(secret);
        Ok(id)
    }

    /// Runs it.
    pub fn run(self, host: &dyn Host, limits: &Limits) -> Result<()> {
        self.start(host, limits, &mut |_| {})
    }

    /// Runs it and tells `progress` how much of a whole of 1 is done.
    pub fn run_with_progress(
        self,
        host: &dyn Host,
        limits: &Limits,
        progress: &mut dyn FnMut(f64),
    ) -> Result<()> {
        let mut lines = ProgressLines::default();
        self.arg_first("-p").start(host, limits, &mut |said| lines.read(said, progress))
    }

    fn arg_first(mut self, argument: &str) -> Self {
        self.args.insert(0, argument.into());
        self
    }

    fn start(self, host: &dyn Host, limits: &Limits, said: &mut dyn FnMut(&[u8])) -> Result<()> {
        let Self { subcommand, objects, args, secrets, images } = self;
        let args = std::iter::once(subcommand.into()).chain(objects).chain(args).collect();
        let command = Command { program: "qemu-img", args, ..Command::default() };
        let mut tries = 0;
        let done = loop {
            tries += 1;
            match host.run_watched(&command, limits, said) {
                // Where the processor's time is counted coarsely, QEMU's measuring of key
                // derivation now and then finds none, before it has written anything.
                Err(error) if error.message().contains(UNMEASURED) && tries < TRIES => {}
                done => break done,
            }
        };
        drop((secrets, images));
        done.map(drop).map_err(|error| match error.message().contains(WRONG_KEY) {
            true => Error::new(
                ErrorKind::AuthenticationFailed,
                "an image is encrypted with another passphrase than its secret has; set the secret again",
            ),
            false => error,
        })
    }
}

/// Longest line that could say how far it is.
const LONGEST_LINE: usize = 64;

/// What `qemu-img -p` prints, read as it comes.
#[derive(Debug, Default)]
pub struct ProgressLines {
    line: Vec<u8>,
}

impl ProgressLines {
    /// Reads some more; tells how much of a whole of 1 is done with each line that says so.
    pub fn read(&mut self, said: &[u8], progress: &mut dyn FnMut(f64)) {
        for byte in said {
            match byte {
                b'\r' | b'\n' => {
                    parse_progress(&self.line).into_iter().for_each(&mut *progress);
                    self.line.clear();
                }
                // What is longer says something else.
                byte if self.line.len() <= LONGEST_LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }
}

/// A part of a whole from a line such as "    (12.34/100%)".
fn parse_progress(line: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(line).ok()?.trim();
    let percent = text.strip_prefix('(')?.strip_suffix("/100%)")?;
    let part = percent.parse::<f64>().ok()? / 100.0;
    (0.0..=1.0).contains(&part).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::SystemHost;
    use crate::model::{VolumeFormat, VolumeKind};

    #[test]
    fn progress_is_read_and_nonsense_is_not() {
        assert_eq!(parse_progress(b"    (50.00/100%)"), Some(0.5));
        for line in [&b"(x/100%)"[..], b"(200.00/100%)", b"warning", b"", b"\xff"] {
            assert_eq!(parse_progress(line), None);
        }
        let mut lines = ProgressLines::default();
        let mut parts = Vec::new();
        let long = vec![b' '; 1 << 20];
        for said in [&b"    (0.00/100%)\r    (5"[..], b"0.00/10", b"0%)\r", &long, b"(1.00/100%)\n"]
        {
            lines.read(said, &mut |part| parts.push(part));
        }
        assert_eq!(parts, [0.0, 0.5]);
        assert!(lines.line.capacity() <= 1 << 10);
    }

    fn create(dir: &tempfile::TempDir, passphrase: &[u8]) -> Result<()> {
        let mut run = QemuImg::new("create");
        let id = run.secret(&SecretValue::new(passphrase.to_vec()))?;
        assert!(!run.objects.iter().any(|object| {
            object.to_string_lossy().contains(&*String::from_utf8_lossy(passphrase))
        }));
        run.option("encrypt.format", "luks")
            .option("encrypt.key-secret", &id)
            .option("encrypt.iter-time", "10")
            .arg("-q")
            .arg("-f")
            .arg("qcow2")
            .arg(dir.path().join("image"))
            .arg("1M")
            .run(&SystemHost, &Limits::default())
    }

    #[test]
    fn passphrases_reach_qemu_img_whatever_they_are_made_of() {
        let dir = tempfile::tempdir().unwrap();
        for passphrase in ["plain words", "a,b=c,,d", "two\nlines\n", "fünf €"] {
            create(&dir, passphrase.as_bytes()).unwrap();
            let mut check = QemuImg::new("resize");
            let id = check.secret(&SecretValue::new(passphrase.into())).unwrap();
            let file = File::options().read(true).write(true).open(dir.path().join("image"));
            let file = file.unwrap();
            let node = Node::of_open_file(&file, VolumeKind::File, VolumeFormat::Qcow2, None);
            let run = check.arg("-q").image(&node.encrypted(&id)).arg("2M");
            run.run(&SystemHost, &Limits::default()).unwrap();
        }
        for refused in [&b""[..], b"zero\0byte", b"\xff\xfe"] {
            assert_eq!(create(&dir, refused).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }
}
