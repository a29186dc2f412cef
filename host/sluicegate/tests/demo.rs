//! `sluicegate demo` does its job on this machine, and leaves nothing behind however it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn two_models_prove_the_views_where_there_is_no_server() {
    let folder = TempDir::new().expect("a temporary folder");
    let said = demo(folder.path(), &["--model"]).output().expect("the program runs");
    assert_proven(&said);
    assert_eq!(entries(folder.path()), 0, "the demo left files behind");
}

#[test]
fn real_servers_prove_the_views() {
    let folder = TempDir::new().expect("a temporary folder");
    let said = demo(folder.path(), &[]).output().expect("the program runs");
    if String::from_utf8_lossy(&said.stdout).contains("No redis-server or valkey-server was found") {
        println!("skipped the real servers: none on PATH or in SLUICEGATE_SERVERS");
    }
    assert_proven(&said);
    assert_eq!(entries(folder.path()), 0, "the demo left files behind");
}

#[test]
fn a_demo_that_stays_ends_in_order_when_it_is_asked_to() {
    let folder = TempDir::new().expect("a temporary folder");
    let (mut child, _out) = staying(folder.path());
    let servers = children(&child);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("the demo runs");
    assert_eq!(child.wait().expect("the demo ends").code(), Some(0));
    until_gone(&servers);
    assert_eq!(entries(folder.path()), 0, "the demo left files behind");
}

#[test]
fn even_a_killed_demo_leaves_no_process() {
    let folder = TempDir::new().expect("a temporary folder");
    let (mut child, _out) = staying(folder.path());
    let servers = children(&child);
    assert!(!servers.is_empty(), "the proxy at least is a process of its own");
    child.kill().expect("the demo runs");
    child.wait().expect("the demo ends");
    until_gone(&servers);
}

#[test]
fn a_folder_without_servers_is_an_error_not_a_model() {
    let folder = TempDir::new().expect("a temporary folder");
    let nothing = folder.path().display().to_string();
    let said = demo(folder.path(), &["--servers", &nothing]).output().expect("the program runs");
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("no server that runs"));
}

fn assert_proven(said: &Output) {
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(said.status.code(), Some(0), "{out}\n{err}");
    let last = out.lines().last().unwrap_or_default();
    let words: Vec<&str> = last.split(' ').collect();
    assert!(matches!(words.as_slice(), ["verified:", right, "of", all, ..] if right == all), "{out}");
}

/// A demo that has proven everything and stays, and what it still has to say.
fn staying(folder: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = demo(folder, &["--stay"]).stdout(Stdio::piped()).spawn().expect("the program runs");
    let mut out = BufReader::new(child.stdout.take().expect("its output is piped"));
    let told = out.by_ref().lines().map_while(Result::ok).any(|line| line.starts_with("Still running"));
    assert!(told, "the demo ended: {:?}", child.wait());
    (child, out)
}

fn demo(folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.arg("demo").args(options).env("TMPDIR", folder).stdin(Stdio::null());
    command
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).expect("the folder is there").count()
}

/// The processes that this one has started.
fn children(parent: &Child) -> Vec<Pid> {
    let id = parent.id();
    let text =
        fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("Linux tells the children of a process");
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

fn until_gone(processes: &[Pid]) {
    let deadline = Instant::now() + PATIENCE;
    while processes.iter().any(|pid| is_running(*pid)) {
        assert!(Instant::now() < deadline, "still there: {processes:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A process that has ended and waits only to be noticed by its parent counts as gone.
fn is_running(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    test_kill_process(pid).is_ok() && !stat.contains(") Z ")
}
