//! The table, and what a process under it can do: it is put in force in one of its own, which then
//! tries what must work and what must not.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource};

use super::*;

#[test]
fn no_call_passes_beside_its_conditions() {
    let conditional = || WHEN.iter().map(|(nr, _)| nr).chain(OPEN.iter().map(|(nr, _)| nr));
    let written: HashSet<i64> = [libc::SYS_pwrite64, libc::SYS_kill, libc::SYS_tgkill].into();
    for nr in ALWAYS {
        let twice = ALWAYS.iter().filter(|other| *other == nr).count() > 1;
        assert!(!twice && !conditional().any(|other| other == nr), "{nr}");
        assert!(!written.contains(nr) && !REMOVE.contains(nr), "{nr}");
    }
}

#[test]
fn what_makes_code_or_privilege_is_not_on_the_list() {
    let listed: HashSet<i64> =
        ALWAYS.iter().copied().chain(WHEN.iter().map(|(nr, _)| *nr)).collect();
    for nr in [
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_writev,
        libc::SYS_clone3,
        libc::SYS_openat2,
        libc::SYS_memfd_create,
        libc::SYS_pkey_mprotect,
        libc::SYS_remap_file_pages,
        libc::SYS_personality,
        libc::SYS_mount,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_setuid,
        libc::SYS_setresuid,
        libc::SYS_setgroups,
        libc::SYS_capset,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_kexec_load,
        libc::SYS_open_by_handle_at,
        libc::SYS_linkat,
        libc::SYS_symlinkat,
        libc::SYS_renameat2,
        libc::SYS_fchmodat,
        libc::SYS_fchownat,
        libc::SYS_truncate,
    ] {
        assert!(!listed.contains(&nr), "{nr}");
    }
    let executable =
        |nr| WHEN.iter().any(|(of, when)| *of == nr && *when != [masked(2, libc::PROT_EXEC, 0)]);
    assert!(!executable(libc::SYS_mmap) && !executable(libc::SYS_mprotect));
}

/// How an attempt is to end in a process that is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Well,
    /// By the list.
    Refused,
}

type Attempt = (&'static str, Ends, fn() -> io::Result<()>);

/// In a directory with the files that they name.
const ATTEMPTS: &[Attempt] = &[
    ("start a program", Ends::Refused, || Command::new("missing").status().map(drop)),
    ("become a program", Ends::Refused, || Err(Command::new("missing").exec())),
    ("make a file", Ends::Refused, || File::create_new("made").map(drop)),
    ("write a file", Ends::Refused, || File::options().write(true).open("file").map(drop)),
    ("append to a file", Ends::Refused, || File::options().append(true).open("file").map(drop)),
    ("read and write a file", Ends::Refused, || {
        File::options().read(true).write(true).open("file").map(drop)
    }),
    ("remove a file", Ends::Refused, || std::fs::remove_file("removed")),
    ("rename a file", Ends::Refused, || std::fs::rename("renamed", "anew")),
    ("make a directory", Ends::Refused, || std::fs::create_dir("directory")),
    ("make a file executable", Ends::Refused, || {
        std::fs::set_permissions("file", std::fs::Permissions::from_mode(0o755))
    }),
    ("talk to the user's other programs", Ends::Refused, || {
        UnixStream::connect("missing").map(drop)
    }),
    ("make a user namespace", Ends::Refused, || {
        Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?)
    }),
    ("mount", Ends::Refused, || Ok(rustix::mount::mount_bind("missing", "missing")?)),
    ("let others trace it", Ends::Refused, || {
        Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?)
    }),
    ("change a limit", Ends::Refused, || {
        let limit = rustix::process::getrlimit(Resource::Core);
        Ok(rustix::process::setrlimit(Resource::Core, limit)?)
    }),
    ("end another process", Ends::Refused, || {
        let parent = rustix::process::getppid().ok_or(Errno::SRCH)?;
        Ok(rustix::process::test_kill_process(parent)?)
    }),
    ("write a process's memory", Ends::Refused, || {
        nix::sys::uio::process_vm_writev(nix::unistd::Pid::this(), &[], &[])?;
        Ok(())
    }),
    ("read a file", Ends::Well, || std::fs::read("file").map(drop)),
    ("list a directory", Ends::Well, || {
        std::fs::read_dir("/proc/self/fd")?.try_for_each(|entry| entry.map(drop))
    }),
    ("start a thread", Ends::Well, || {
        let started = std::thread::Builder::new().name("started".into()).spawn(|| ())?;
        started.join().map_err(|_panicked| io::Error::other("it panicked"))
    }),
    ("connect and serve", Ends::Well, || {
        let server = TcpListener::bind("127.0.0.1:0")?;
        let client = TcpStream::connect(server.local_addr()?)?;
        client.set_nonblocking(true)?;
        server.accept().map(drop)
    }),
    ("ask for routes", Ends::Well, || {
        let protocol = netlink_sys::protocols::NETLINK_ROUTE;
        netlink_sys::Socket::new(protocol)?.connect(&netlink_sys::SocketAddr::new(0, 0))
    }),
    ("panic", Ends::Well, || {
        let panicked = std::thread::spawn(|| panic!("on purpose")).join();
        panicked.err().map(drop).ok_or_else(|| io::Error::other("it did not"))
    }),
    ("take much memory", Ends::Well, || {
        let mut much = vec![1_u8; 64 << 20];
        much.resize(128 << 20, 1);
        std::hint::black_box(&much);
        Ok(())
    }),
];

/// Names of files that the attempts find.
const FILES: [&str; 3] = ["file", "removed", "renamed"];

/// In the environment of the process that tries: whether it is confined first.
const CONFINED: &str = "BYPASS_TEST_CONFINED";

#[test]
fn a_confined_process_can_do_its_work_and_little_else() {
    match std::env::var(CONFINED) {
        Ok(confined) => try_all(confined == "yes"),
        Err(_) => {
            let name = "confine::calls::tests::a_confined_process_can_do_its_work_and_little_else";
            for confined in ["no", "yes"] {
                in_a_process_of_its_own(name, confined);
            }
        }
    }
}

fn in_a_process_of_its_own(test: &str, confined: &str) {
    let directory = tempfile::tempdir().unwrap();
    for name in FILES {
        std::fs::write(directory.path().join(name), "").unwrap();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CONFINED, confined)
        .env("RUST_BACKTRACE", "1")
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains(TRIED),
        "confined: {confined}\n{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The last word of who has tried all.
const TRIED: &str = "all was tried";

/// Without the list, no attempt ends as the list would have it.
fn try_all(confined: bool) {
    assert!(FILES.iter().all(|name| Path::new(name).exists()));
    if confined {
        list(&Needs::default()).confine_process().unwrap();
    }
    for (what, ends, attempt) in ATTEMPTS {
        let ended = attempt();
        let refused = matches!(&ended, Err(error) if error.raw_os_error() == Some(libc::ENOSYS));
        assert_eq!(refused, confined && *ends == Ends::Refused, "{what}: {ended:?}");
        assert!(*ends == Ends::Refused || ended.is_ok(), "{what}: {ended:?}");
    }
    println!("{TRIED}");
}
