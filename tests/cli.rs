//! poolctl without a bus: what it prints by itself, and how it ends. Where it needs somebody to talk
//! to, a peer on a socket stands in that refuses every call.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use futures_util::StreamExt;
use poold::model::ErrorKind;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const MANUAL: &str = include_str!("../docs/man/poolctl.1");

const POOL: &str =
    "<pool type='dir'><target><path>/srv/images/</path></target><name>images</name></pool>";

fn poolctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolctl"));
    // Nobody's bus and nobody's taste.
    command.env_clear().env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    poolctl(args).output().unwrap()
}

/// Runs with `input` on standard input.
fn feed(args: &[&str], input: &str) -> Output {
    let mut child = poolctl(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Every command that can be typed, by its words, with its options' long names.
fn commands() -> Vec<(String, BTreeSet<String>)> {
    fn collect(command: &clap::Command, words: &str, all: &mut Vec<(String, BTreeSet<String>)>) {
        for sub in command.get_subcommands() {
            let words = format!("{words} {}", sub.get_name()).trim().to_owned();
            if sub.has_subcommands() {
                collect(sub, &words, all);
            } else {
                let options = sub.get_arguments().filter_map(|arg| arg.get_long());
                all.push((words, options.map(str::to_owned).collect()));
            }
        }
    }
    let mut all = Vec::new();
    collect(&poold::cli::command(), "", &mut all);
    all
}

#[test]
fn help_of_every_command_is_printed_and_is_success() {
    for (words, _) in commands() {
        let args: Vec<_> = words.split(' ').chain(["--help"]).collect();
        let output = run(&args);
        assert!(output.status.success(), "{words}");
        assert!(out(&output).contains(&format!("Usage: poolctl {words}")), "{words}");
    }
    assert!(out(&run(&["--version"])).starts_with("poolctl "));
}

#[test]
fn a_wrong_command_line_is_status_2_and_says_why() {
    for (args, why) in [
        (&["lost"][..], "unrecognized subcommand"),
        (&["vol", "create", "images/a", "1.5G"], "unknown unit"),
        (&["vol", "create", "images/a"], "SIZE"),
        (&["vol", "show", "images"], "POOL/NAME"),
        (&["create", "x", "--type", "tape"], "types are dir fs"),
        (&["create", "x", "--mode", "888"], "octal"),
        (&["vol", "resize", "images/a"], "SIZE"),
        (&["define", "x.xml", "--transient", "--autostart"], "cannot be used with"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", err(&output));
        assert!(err(&output).contains(why), "{args:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{args:?}");
    }
    assert_eq!(run(&[]).status.code(), Some(2));
}

#[test]
fn without_anybody_to_talk_to_it_says_whom_it_tried() {
    let output = run(&["list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).starts_with("poolctl: cannot connect to the system bus: "), "{output:?}");
    let output = run(&["list", "--address", "unix:path=/nonexistent/poold"]);
    assert!(err(&output).contains("unix:path=/nonexistent/poold"), "{}", err(&output));
    let output = run(&["list", "--address", "nonsense"]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
}

#[test]
fn validate_prints_the_canonical_document_without_a_service() {
    let output = feed(&["validate", "-"], POOL);
    assert!(output.status.success(), "{}", err(&output));
    let document = out(&output).to_owned();
    assert!(document.starts_with("<pool type='dir'>\n  <name>images</name>\n"), "{document}");
    assert!(document.contains("<path>/srv/images</path>"), "{document}");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pool.xml");
    std::fs::write(&file, &document).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(out(&run(&["validate", file])), document, "a canonical document is its own");
    let json: serde_json::Value =
        serde_json::from_str(out(&run(&["validate", file, "--json"]))).unwrap();
    assert_eq!(json["xml"], document);
}

#[test]
fn validate_says_what_is_wrong_and_where() {
    for (document, why) in [
        ("<pool type='dir'>\n<name>a</name>", "line"),
        ("<pool type='tape'><name>a</name></pool>", "tape"),
        ("<domain/>", "domain"),
        ("", ""),
    ] {
        let output = feed(&["validate", "-"], document);
        assert_eq!(output.status.code(), Some(3), "{document}: {}", err(&output));
        assert!(err(&output).starts_with("poolctl: "), "{document}");
        assert!(err(&output).contains(why), "{document}: {}", err(&output));
        assert_eq!(out(&output), "", "{document}");
    }
    let output = run(&["validate", "/nonexistent/pool.xml"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(err(&output).contains("cannot read /nonexistent/pool.xml"), "{}", err(&output));
}

#[test]
fn every_shell_gets_a_completion_script() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&["completion", shell]);
        assert!(output.status.success(), "{shell}");
        assert!(out(&output).contains("poolctl") && out(&output).contains("autostart"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = poolctl(&["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(err(&output), "");
}

/// Serves peers on a socket at `path`, and answers every call with this error.
async fn refuse(path: &Path, name: &'static str, text: &'static str) {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.unwrap().0.into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            tokio::spawn(async move {
                let guid = zbus::Guid::generate();
                let peer = zbus::connection::Builder::unix_stream(stream).server(guid).p2p();
                let Ok(peer) = peer.build().await else { return };
                let mut calls = zbus::MessageStream::from(&peer);
                while let Some(Ok(call)) = calls.next().await {
                    let _ = peer.reply_error(&call.header(), name, &text).await;
                }
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_error_has_its_exit_status_and_message() {
    let directory = tempfile::tempdir().unwrap();
    for kind in ErrorKind::all() {
        let name = kind.dbus_name();
        let socket = directory.path().join(name);
        refuse(&socket, name, "pool x: \u{1b}[31mwhy").await;
        let address = format!("--address=unix:path={}", socket.display());
        let output =
            tokio::task::spawn_blocking(move || run(&["start", "x", &address])).await.unwrap();
        assert_eq!(output.status.code(), Some(kind.exit_status().into()), "{name}: {output:?}");
        let said = err(&output);
        assert!(said.starts_with("poolctl: pool x: \\u{1b}[31mwhy\n"), "{name}: {said:?}");
        assert_eq!(out(&output), "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_what_may_help() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, hint) in [
        (ErrorKind::AccessDenied, "as root"),
        (ErrorKind::InteractiveAuthorizationRequired, "on a terminal"),
    ] {
        let socket = directory.path().join(kind.dbus_name());
        refuse(&socket, kind.dbus_name(), "no").await;
        let address = format!("--address=unix:path={}", socket.display());
        let output =
            tokio::task::spawn_blocking(move || run(&["stop", "x", &address])).await.unwrap();
        assert!(err(&output).contains(hint), "{}", err(&output));
    }
}

/// The manual without its markup.
fn manual() -> String {
    let mut text = MANUAL.replace("\\-", "-");
    for font in ["\\fB", "\\fI", "\\fR"] {
        text = text.replace(font, "");
    }
    text
}

#[test]
fn the_manual_describes_every_command_and_no_other() {
    let manual = manual();
    let documented: BTreeSet<_> = manual
        .split(".SH ")
        .filter(|section| {
            ["POOLS\n", "VOLUMES\n", "SECRETS\n", "JOBS"]
                .iter()
                .any(|title| section.starts_with(title))
        })
        // Commands, and not what their arguments mean.
        .flat_map(|section| section.split(".SS ").take(1))
        .flat_map(|commands| commands.split("\n.TP\n").skip(1))
        .filter_map(|entry| entry.lines().next()?.strip_prefix(".B "))
        .map(|heading| {
            let words = heading.split_whitespace();
            words
                .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let existing: BTreeSet<_> = commands().into_iter().map(|(words, _)| words).collect();
    assert_eq!(documented, existing);
}

#[test]
fn the_manual_has_every_option_that_it_does_not_leave_to_help() {
    let manual = manual();
    for (words, options) in commands() {
        let left_to_help = ["create", "vol create"].contains(&words.as_str());
        for option in options.iter().filter(|_| !left_to_help) {
            assert!(manual.contains(&format!("--{option}")), "{words} --{option}");
        }
    }
    let globals = poold::cli::command();
    for option in globals.get_arguments().filter_map(|arg| arg.get_long()) {
        assert!(manual.contains(&format!("--{option}")), "--{option}");
    }
}

#[test]
fn the_manual_has_every_exit_status() {
    let manual = manual();
    let section = manual.split(".SH EXIT STATUS").nth(1).unwrap().split(".SH ").next().unwrap();
    let documented: BTreeSet<u8> =
        section.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let existing = ErrorKind::all().map(ErrorKind::exit_status).chain([0, 2]).collect();
    assert_eq!(documented, existing);
}
