//! Arguments and options of every method: the first byte chooses the method, the rest is the body of the call as it comes
//! from a connection.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use poold::bus::fuzz::{Callable, methods};
use std::collections::HashMap;
use std::fs::File;
use std::sync::LazyLock;
use zbus::{Message, Variant};

static METHODS: LazyLock<Vec<Callable>> = LazyLock::new(methods);
static NULL: LazyLock<File> = LazyLock::new(|| File::open("/dev/null").expect("/dev/null"));

fuzz_target!(init: seeds::write_if_asked(seeds), |data: &[u8]| {
    let [choice, body @ ..] = data else { return };
    let method = &METHODS[usize::from(*choice) % METHODS.len()];
    let null = || std::os::fd::OwnedFd::from(NULL.try_clone().expect("a descriptor"));
    let descriptors = (0..2).map(|_| null().into()).collect();
    let message = Message::method_call("/", method.name());
    // SAFETY: the message may be malformed; that readers of it cope with that is what is tried here.
    let message = unsafe { message.build_raw_body(body, method.signature().as_str(), descriptors) };
    if let Ok(message) = message {
        let _ = method.read(&message);
    }
});

/// A well-formed call of each signature that poolctl makes.
fn seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| Variant::from(text.to_owned());
    let options = HashMap::from([
        ("wait", Variant::from(5_u64)),
        ("force", true.into()),
        ("format", text("qcow2")),
        ("preallocation", text("full")),
        ("backing-path", text("/pool/base")),
        ("backing-format", text("raw")),
        ("encryption", text("luks")),
        ("secret", text("key")),
        ("mode", 0o600_u32.into()),
        ("algorithm", text("zero")),
        ("offset", 512_u64.into()),
        ("auth.no_user_interaction", true.into()),
    ]);
    let settings = HashMap::from([
        ("target", text("/srv/pool")),
        ("hosts", vec!["server:2049", "[::1]:3260"].into()),
        ("devices", vec!["/dev/sda"].into()),
        ("source-format", text("nfs")),
        ("mount-options", vec!["ro", "vers=4.2"].into()),
        ("config-options", HashMap::from([("client_mount_timeout", "5")]).into()),
        ("auth-type", text("chap")),
        ("auth-username", text("user")),
        ("auth-secret", text("key")),
        ("volume-mode", 0o640_u32.into()),
    ]);
    let none = HashMap::<&str, Variant<'_>>::new();
    let mut seeds = Vec::new();
    for (number, method) in METHODS.iter().enumerate() {
        let call = || Message::method_call("/", method.name());
        let mut add = |message: zbus::Result<Message>| {
            let body = message.expect("a call").body();
            seeds.push([&[number as u8], &body.data()[..]].concat());
        };
        // All that it takes one at a time, and what it does not take too.
        let one = options.iter().map(|(key, value)| HashMap::from([(*key, value.clone())]));
        let each: Vec<_> = one.chain([none.clone()]).collect();
        match method.signature().as_str() {
            "a{sv}" => each.iter().for_each(|options| add(call().build(options))),
            "sa{sv}" => each.iter().for_each(|options| add(call().build(&("name", options)))),
            "sta{sv}" => {
                each.iter().for_each(|options| add(call().build(&("name", 1_u64 << 30, options))))
            }
            "ta{sv}" => each.iter().for_each(|options| add(call().build(&(4096_u64, options)))),
            "ssa{sv}a{sv}" => {
                for pool_type in ["dir", "netfs", "iscsi", "rbd"] {
                    add(call().build(&(pool_type, "name", &settings, &none)));
                    add(call().build(&(pool_type, "name", HashMap::from([("target", "/srv/pool")].map(|(k, v)| (k, text(v)))), &none)));
                }
            }
            "sa{sv}a{sv}" => add(call().build(&("netfs", &settings, &none))),
            "sua{sv}" => add(call().build(&("", 0_u32, &none))),
            "ha{sv}" => add(call().build(&(zbus::Fd::from(&*NULL), &none))),
            _ => {}
        }
    }
    seeds
}
