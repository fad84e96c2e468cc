//! Something that listens where a server should, and answers with nonsense.

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A TCP port of this host that nobody has and no outgoing connection gets: while its server is down, whoever
/// connects to it again and again must not meet himself. Nor may another area, which looks for one meanwhile.
pub fn free_port() -> Result<u16> {
    let random = std::hash::RandomState::new().build_hasher().finish();
    let mut ports = 20_000 + u16::try_from(random % 11_000)?..32_000;
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.find(free).context("no free port")
}

/// The listener; dropped, it and all its connections are gone.
pub struct Garbage {
    socket: OwnedFd,
    connections: Arc<Mutex<Option<Vec<TcpStream>>>>,
    listener: Option<JoinHandle<()>>,
}

impl Garbage {
    /// Listens at a port of the loopback interface, of the network of a process if it is not this one's.
    pub fn at(port: u16, network: Option<u32>) -> Result<Self> {
        // A socket stays in the network that it was made in.
        let bind = move || -> Result<TcpListener> {
            if let Some(process) = network {
                let file = std::fs::File::open(format!("/proc/{process}/ns/net"))?;
                setns(file, CloneFlags::CLONE_NEWNET)?;
            }
            // Whoever was killed there may not be gone yet.
            for _ in 0..500 {
                if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                    return Ok(listener);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            bail!("cannot listen at port {port}")
        };
        let listener = std::thread::spawn(bind).join().unwrap()?;
        let socket = listener.as_fd().try_clone_to_owned()?;
        let connections = Arc::new(Mutex::new(Some(Vec::new())));
        let kept = Arc::clone(&connections);
        let listener = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Ok(other) = stream.try_clone() else { continue };
                match kept.lock().unwrap().as_mut() {
                    Some(connections) => connections.push(other),
                    None => return,
                }
                std::thread::spawn(move || answer(stream));
            }
        });
        Ok(Self { socket, connections, listener: Some(listener) })
    }
}

/// Answers all that is said with the same noise, and never hangs up.
fn answer(mut stream: TcpStream) {
    let noise = noise();
    let mut heard = [0; 4096];
    while stream.read(&mut heard).is_ok_and(|length| length > 0) {
        if stream.write_all(&noise).is_err() {
            return;
        }
    }
}

/// Bytes without a meaning, but the same each time (xorshift): what is made of them does not change from run to run.
fn noise() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..128).flat_map(|_| next()).collect()
}

impl Drop for Garbage {
    fn drop(&mut self) {
        for stream in self.connections.lock().unwrap().take().into_iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the listener, which then goes.
        let _ =
            nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}
