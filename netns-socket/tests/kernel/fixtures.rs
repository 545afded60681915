//! What this program does when it is started as a target process.
//!
//! Each role prints lines of numbers and waits on its standard input, which ends with its parent.

use std::io::{BufRead, Write, stdin};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use netns_socket::{Identity, create_twin, own_netns_cookie};
use nix::sched::{CloneFlags, unshare};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::thread::gettid;

use crate::harness::TCP4;

pub(crate) fn play(role: &str) {
    match role {
        "socket" => socket(),
        "threads" => threads(),
        "container" => container(),
        _ => {}
    }
}

/// A socket, then the same number closed.
fn socket() {
    let socket = create_twin(&TCP4, false).unwrap();
    fcntl_setfd(&socket, FdFlags::empty()).unwrap();
    say(&[number(&socket), cookie(&socket)]);
    wait();
    drop(socket);
    say(&[]);
    wait();
}

/// A socket that one thread has in a descriptor table of its own, another in the shared one.
fn threads() {
    let shared = create_twin(&TCP4, false).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let (stay, stop) = std::sync::mpsc::channel::<()>();
    let alone = thread::spawn(move || {
        unshare(CloneFlags::CLONE_FILES).unwrap();
        let own = create_twin(&TCP4, false).unwrap();
        tell.send([tid(), number(&own), cookie(&own)]).unwrap();
        stop.recv().ok();
    });
    let [own_tid, own_number, own_cookie] = told.recv().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let (stay_too, stop) = std::sync::mpsc::channel::<()>();
    let follower = thread::spawn(move || {
        tell.send(tid()).unwrap();
        stop.recv().ok();
    });
    let follower_tid = told.recv().unwrap();
    say(&[follower_tid, number(&shared), cookie(&shared), own_tid, own_number, own_cookie]);
    wait();
    drop(stay_too);
    follower.join().unwrap();
    say(&[]);
    wait();
    drop(stay);
    alone.join().unwrap();
}

/// A process in user and network namespaces of its own.
fn container() {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).unwrap();
    say(&[own_netns_cookie().unwrap().unwrap_or(0)]);
    wait();
}

fn say(numbers: &[u64]) {
    let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
    let mut output = std::io::stdout();
    writeln!(output, "{}", words.join(" ")).unwrap();
    output.flush().unwrap();
}

fn wait() {
    stdin().lock().read_line(&mut String::new()).unwrap();
}

fn number(fd: &OwnedFd) -> u64 {
    u64::try_from(fd.as_raw_fd()).unwrap()
}

fn cookie(fd: &OwnedFd) -> u64 {
    Identity::of(fd).unwrap().unwrap().cookie
}

fn tid() -> u64 {
    gettid().as_raw_nonzero().get().try_into().unwrap()
}
