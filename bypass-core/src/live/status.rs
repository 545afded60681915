//! What `/proc/PID/status` tells of a thread (proc_pid_status(5)).

use std::fs::File;

use crate::audit::AuditedProcess;

/// Whether the thread has this capability in its own user namespace (capabilities(7)).
pub(super) fn has_capability(tid: i32, capability: u32) -> bool {
    field(tid, "CapEff:", |set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set & (1 << capability) != 0)
}

/// The effective user and group id, as our own user namespace sees them.
///
/// The owner of the directory would be cheaper to read, but that of a thread which is not dumpable
/// is root, and it may make itself that.
pub(super) fn effective_ids(tid: i32) -> Option<(u32, u32)> {
    // In one look: it may change them in between.
    let mut uid = None;
    let gid = find_line(tid, |line| {
        uid = uid.or_else(|| line.strip_prefix("Uid:").and_then(effective));
        line.strip_prefix("Gid:").and_then(effective)
    });
    uid.zip(gid)
}

/// The process of a thread, and the thread's name with whatever its program wrote there.
pub(super) fn process(tid: i32) -> Option<AuditedProcess> {
    let pid = field(tid, "Tgid:", |pid| pid.trim().parse().ok())?;
    // Some 16 bytes.
    let comm = std::fs::read(format!("/proc/{tid}/comm")).ok()?;
    let comm = String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm)).into_owned();
    Some(AuditedProcess { pid, comm })
}

/// The line of the status that begins so. The name of a program stands before all others, but no
/// line feed in it is written as such.
fn field<T>(tid: i32, key: &str, mut parse: impl FnMut(&str) -> Option<T>) -> Option<T> {
    find_line(tid, |line| parse(line.strip_prefix(key)?))
}

/// The name of a program need not be UTF-8; everything else is ASCII.
fn find_line<T>(tid: i32, mut find: impl FnMut(&str) -> Option<T>) -> Option<T> {
    let status = File::open(format!("/proc/{tid}/status")).ok()?;
    netns_socket::find_line(status, |line| find(str::from_utf8(line).ok()?)).ok()?
}

/// Of the real, effective, saved and file system id.
fn effective(ids: &str) -> Option<u32> {
    ids.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_thread_that_does_not_exist_has_nothing() {
        assert!(!has_capability(i32::MAX, 10));
        assert_eq!(effective_ids(i32::MAX), None);
        assert_eq!(process(i32::MAX), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn our_own_ids_are_read() {
        let ours = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let own = rustix::process::getpid().as_raw_nonzero().get();
        assert_eq!(effective_ids(own), Some(ours));
        assert_eq!(process(own).map(|process| process.pid), Some(own));
    }

    #[test]
    fn the_effective_id_is_the_second() {
        assert_eq!(effective("\t1000\t2000\t3000\t4000"), Some(2000));
        assert_eq!(effective("\t1000"), None);
    }
}
