//! What a process holds, and who is still alive, read from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::failure::{Context, Result};
use crate::{ensure, fail};

/// Descriptors, threads and memory of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Open descriptors.
    pub fds: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory, in KiB.
    pub rss_kib: u64,
}

impl Census {
    /// Counts what `pid` holds now.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("census")?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|rest| rest.split_whitespace().next()).context("no VmRSS line")?;
        Ok(Self {
            fds: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            threads: fs::read_dir(format!("/proc/{pid}/task"))?.count(),
            rss_kib: rss.parse()?,
        })
    }

    /// Counts what several processes hold together.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn of_all(pids: &[u32]) -> Result<Self> {
        let mut sum = Self { fds: 0, threads: 0, rss_kib: 0 };
        for pid in pids {
            let one = Self::of(*pid)?;
            sum.fds += one.fds;
            sum.threads += one.threads;
            sum.rss_kib += one.rss_kib;
        }
        Ok(sum)
    }

    /// The same with room for `fds` more descriptors: a cache that is full at some time.
    #[must_use]
    pub const fn with_cache(self, fds: usize) -> Self {
        Self { fds: self.fds + fds, ..self }
    }

    /// Counts again until `pids` hold no more descriptors and threads than here:
    /// work in flight takes a moment to end.
    ///
    /// # Errors
    /// When they still hold more at the end of `limit`.
    pub fn settles(&self, pids: &[u32], limit: Duration) -> Result<Self> {
        let deadline = Instant::now() + limit;
        loop {
            let now = Self::of_all(pids)?;
            if now.fds <= self.fds && now.threads <= self.threads {
                return Ok(now);
            }
            if Instant::now() > deadline {
                let fds: Vec<_> = pids.iter().map(|pid| descriptors(*pid)).collect();
                fail!("processes {pids:?} held {self:?} before and {now:?} after: {fds:?}");
            }
            std::thread::yield_now();
        }
    }
}

/// How long `pid` has been on a CPU by now, in steps of 10 ms.
///
/// # Errors
/// When the process is gone.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("process is gone")?;
    // The name in parentheses may hold anything; the times are the 12th and 13th field after it.
    let fields = stat.rsplit_once(')').context("no name in stat")?.1.split_whitespace();
    let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum::<u64>();
    Ok(Duration::from_millis(ticks * 10))
}

/// Live processes, without zombies, that carry `marker` in an argument.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn marked(marker: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for pid in pids()? {
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // A zombie has no command line.
        if String::from_utf8_lossy(&cmdline).split('\0').any(|argument| argument == marker) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Live processes that run the program `name` and carry `marker` in an argument.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn running(name: &str, marker: &str) -> Result<Vec<u32>> {
    let mut found = marked(marker)?;
    found.retain(|pid| {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with(name))
    });
    Ok(found)
}

/// Live processes of the user `uid`, without zombies, as (pid, name).
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn of_user(uid: u32) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for pid in pids()? {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim)
        };
        let owner = field("Uid:").split_whitespace().next().and_then(|word| word.parse().ok());
        if owner == Some(uid) && !field("State:").starts_with('Z') {
            found.push((pid, field("Name:").to_owned()));
        }
    }
    Ok(found)
}

/// Waits until no process carries `marker`.
///
/// # Errors
/// When some still do at the end of `limit`.
pub fn wait_unmarked(marker: &str, limit: Duration) -> Result {
    let deadline = Instant::now() + limit;
    loop {
        let left = marked(marker)?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "processes {left:?} with `{marker}` are left behind");
        std::thread::yield_now();
    }
}

/// Waits until none of `pids` has a thread with this name.
///
/// # Errors
/// When one still has at the end of `limit`.
pub fn wait_thread_ended(pids: &[u32], name: &str, limit: Duration) -> Result {
    let deadline = Instant::now() + limit;
    let has = |pid: &u32| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.any(|own| own.trim_end() == name)
    };
    while let Some(pid) = pids.iter().find(|pid| has(pid)) {
        ensure!(Instant::now() < deadline, "process {pid} still has a thread `{name}`");
        std::thread::yield_now();
    }
    Ok(())
}

/// Waits until `count` threads of `pid` sit in connect(2).
///
/// # Errors
/// When fewer do at the end of `limit`.
pub fn wait_connecting(pid: u32, count: usize, limit: Duration) -> Result {
    let number = libc::SYS_connect.to_string();
    let deadline = Instant::now() + limit;
    loop {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("process is gone")?;
        let connecting = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("syscall")).ok())
            .filter(|line| line.split(' ').next() == Some(&number))
            .count();
        if connecting >= count {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{connecting} threads of process {pid} are in connect(2), expected {count}"
        );
        std::thread::yield_now();
    }
}

/// How many descriptors of each kind a process has, for messages.
fn descriptors(pid: u32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        // Of `socket:[1234]` the kind; `anon_inode:[eventfd]` is one.
        let kind = target.split(":[").next().filter(|kind| *kind != "anon_inode");
        let kind = kind.unwrap_or(&target);
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds
}

fn pids() -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_this_process() {
        let census = Census::of(std::process::id()).unwrap();
        assert!(census.fds >= 3 && census.threads >= 1 && census.rss_kib > 0, "{census:?}");
    }
}
