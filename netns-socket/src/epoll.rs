//! Epoll registrations of a socket, and their transfer to another one.
//!
//! A program may register a socket with an epoll before it connects it. The kernel keys a
//! registration on the pair of open file and descriptor number, so a socket that takes over the
//! number does not take over the registration: [`register`] makes one for it, or a [`Surgeon`].
//!
//! ```text
//! numbers_in    which descriptors of a process are epolls      (expensive: once, then now and then)
//! watches       whether one of them watches this socket        (cheap: no file is read)
//! registration  with which events and data                     (only where the answer was yes)
//! register      the same for another socket under the same number, where that is free here
//! Surgeon       and where it is not
//! ```

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::mpsc;
use std::thread;

use rustix::event::epoll as ep;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::lines::find_line;
use crate::sys;

/// Of a process with more epolls than this, none is told.
pub const MAX_EPOLLS: usize = 512;

/// Numbers that are tried where none are told.
pub(crate) const TRIED: u32 = 1024;

/// Several sockets that had one number in turn may all be registered under it.
const MAX_PER_NUMBER: u32 = 16;

/// What an epoll knows of a descriptor ([epoll_ctl(2)]).
///
/// [epoll_ctl(2)]: https://man7.org/linux/man-pages/man2/epoll_ctl.2.html
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Events and flags. Of a one-shot registration that has fired only the flags are left.
    pub events: u32,
    /// The program's own data.
    pub data: u64,
}

/// Registrations could not be looked at or transferred.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EpollError {
    /// The descriptors of the process could not be listed.
    #[error("reading the descriptor directory failed")]
    ReadFdDirectory {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The process has more than [`MAX_EPOLLS`].
    #[error("the process has more than {MAX_EPOLLS} epolls")]
    TooMany,
    /// The kernel could not compare, such as where it was built without `CONFIG_KCMP`.
    #[error("kcmp failed")]
    KcmpCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The epoll's fdinfo could not be read.
    #[error("reading the epoll's fdinfo failed")]
    ReadFdinfo {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The thread with a descriptor table of its own could not be started.
    #[error("starting the thread failed")]
    ThreadCall {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The thread could not get the descriptors, or a free number for the socket.
    #[error("placing the socket at its number failed")]
    Place {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The socket could not be registered.
    #[error("epoll_ctl failed")]
    EpollCtlCall {
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The thread has ended.
    #[error("the thread has ended")]
    Ended,
}

/// The numbers of a thread's descriptors that are epolls.
///
/// Reads one link for each descriptor that is open: about 1 µs each. The list of a program that made
/// itself not dumpable (`PR_SET_DUMPABLE`) is root's to read, so of that the first 1,024 numbers
/// are tried.
///
/// # Errors
/// [`EpollError::ReadFdDirectory`] if the thread has gone or may not be looked at;
/// [`EpollError::TooMany`].
///
/// # Races
/// The thread may open and close epolls meanwhile.
pub fn numbers_in(tid: i32) -> Result<Vec<i32>, EpollError> {
    let directory = format!("/proc/{tid}/fd");
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return try_numbers(tid),
        Err(source) => return Err(EpollError::ReadFdDirectory { source }),
    };
    let is_epoll = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]")
    };
    let numbers = entries
        .map_while(Result::ok)
        .filter(is_epoll)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .take(MAX_EPOLLS + 1)
        .collect();
    no_more_than_most(numbers)
}

/// Half of them would be worse than none: nobody could know what the others watch.
fn no_more_than_most(numbers: Vec<i32>) -> Result<Vec<i32>, EpollError> {
    if numbers.len() > MAX_EPOLLS { Err(EpollError::TooMany) } else { Ok(numbers) }
}

fn try_numbers(tid: i32) -> Result<Vec<i32>, EpollError> {
    // Compared with what epolls watch, which none does.
    let nothing = crate::PidFd::open(tid)
        .map_err(|error| EpollError::ReadFdDirectory { source: io::Error::other(error) })?;
    let is_epoll = |number: &u32| match sys::kcmp_epoll(tid, *number, nothing.as_fd(), 0, 0) {
        Ok(_) | Err(Errno::NOENT) => Some(Ok(*number)),
        Err(Errno::BADF | Errno::INVAL) => None,
        Err(source) => Some(Err(EpollError::KcmpCall { source })),
    };
    let numbers = (0..TRIED).filter_map(|number| is_epoll(&number)).take(MAX_EPOLLS + 1);
    let numbers: Result<_, EpollError> = numbers.map(|number| Ok(number?.cast_signed())).collect();
    no_more_than_most(numbers?)
}

/// How many descriptors a thread has open: a change says that its epolls are to be looked for again.
/// `None` before Linux 6.2, which does not tell, and if the thread has gone.
#[must_use]
pub fn open_descriptors(tid: i32) -> Option<u64> {
    let size = fs::metadata(format!("/proc/{tid}/fd")).ok()?.len();
    (size > 0).then_some(size)
}

/// Whether descriptor `epoll` of a thread, an epoll, watches this socket of ours under this number,
/// which is that of whoever registered it. One system call, about 0.5 µs.
///
/// # Errors
/// [`EpollError::KcmpCall`]; EINVAL or EBADF if `epoll` is none.
///
/// # Races
/// Thread ids are reused. The caller proves afterwards that the thread is the one it means.
#[doc(alias = "KCMP_EPOLL_TFD")]
pub fn watches_in(
    tid: i32,
    epoll: i32,
    socket: impl AsFd,
    number: u32,
) -> Result<bool, EpollError> {
    let epoll = epoll.cast_unsigned();
    for offset in 0..MAX_PER_NUMBER {
        match sys::kcmp_epoll(tid, epoll, socket.as_fd(), number, offset) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(Errno::NOENT) => return Ok(false),
            Err(source) => return Err(EpollError::KcmpCall { source }),
        }
    }
    Ok(false)
}

/// As [`watches_in`], of an epoll of our own.
///
/// # Errors
/// As there.
pub fn watches(epoll: impl AsFd, socket: impl AsFd, number: u32) -> Result<bool, EpollError> {
    watches_in(getpid().as_raw_nonzero().get(), epoll.as_fd().as_raw_fd(), socket, number)
}

/// The registration that `epoll`, a descriptor of ours, has for this socket under this number.
///
/// Reads the epoll's fdinfo, a line for everything it watches ([proc_pid_fdinfo(5)]), up to the one
/// that is wanted. The kernel writes the whole before it gives out the first byte: about 0.3 µs and
/// 80 bytes a line, for that long.
///
/// # Errors
/// [`EpollError::ReadFdinfo`].
///
/// [proc_pid_fdinfo(5)]: https://man7.org/linux/man-pages/man5/proc_pid_fdinfo.5.html
pub fn registration(
    epoll: impl AsFd,
    socket: impl AsFd,
    number: u32,
) -> Result<Option<Registration>, EpollError> {
    let failed = |source| EpollError::ReadFdinfo { source };
    let inode = rustix::fs::fstat(&socket).map_err(|errno| failed(errno.into()))?.st_ino;
    let path = format!("/proc/thread-self/fdinfo/{}", epoll.as_fd().as_raw_fd());
    let file = fs::File::open(path).map_err(failed)?;
    find_line(file, |line| {
        // Most are of others, and not worth decoding.
        let of_number = Line::number_of(line) == Some(number);
        let line = of_number.then(|| Line::parse(line)).flatten();
        let line = line.filter(|line| line.is(number, inode))?;
        Some(Registration { events: line.events, data: line.data })
    })
    .map_err(failed)
}

/// Registers `socket` with `epoll`, both descriptors of ours, as if it had this number. False, and nothing
/// was done, if the number is in use in this process, or out of its reach: then a [`Surgeon`] can.
///
/// Four system calls, about 1 µs. The socket is open under the number meanwhile.
///
/// # Errors
/// [`EpollError::EpollCtlCall`]; EEXIST if it is registered already.
///
/// # Races
/// Another thread of this process that opens something meanwhile may get the number before us, which is
/// as if it had been in use.
pub fn register(
    epoll: impl AsFd,
    socket: impl AsFd,
    number: u32,
    registration: Registration,
) -> Result<bool, EpollError> {
    let Some(placed) = place(socket, number) else { return Ok(false) };
    add(epoll, &placed, registration).map(|()| true)
}

/// A duplicate that has this number.
fn place(socket: impl AsFd, number: u32) -> Option<OwnedFd> {
    let number = i32::try_from(number).ok()?;
    // The lowest free number from `number` on.
    let placed = fcntl_dupfd_cloexec(socket, number).ok()?;
    (placed.as_raw_fd() == number).then_some(placed)
}

fn add(epoll: impl AsFd, placed: &OwnedFd, registration: Registration) -> Result<(), EpollError> {
    let events = ep::EventFlags::from_bits_retain(registration.events);
    ep::add(epoll, placed, ep::EventData::new_u64(registration.data), events)
        .map_err(|source| EpollError::EpollCtlCall { source })
}

/// Passes on the data of everything that an epoll watches, from its fdinfo.
pub(crate) fn each_data(fdinfo: impl io::Read, mut each: impl FnMut(u64)) -> io::Result<()> {
    find_line(fdinfo, |line| {
        if let Some(line) = Line::parse(line) {
            each(line.data);
        }
        None::<()>
    })
    .map(drop)
}

/// A line such as `tfd: 5 events: 19 data: 5 pos:0 ino:2f sdev:8`: the first number and `pos` in
/// decimal, the others in hexadecimal.
pub(crate) struct Line {
    pub(crate) number: u32,
    pub(crate) events: u32,
    pub(crate) data: u64,
    inode: Option<u64>,
}

impl Line {
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let line = str::from_utf8(line).ok()?;
        let mut words = line.split([' ', ':']).filter(|word| !word.is_empty());
        let mut field = |name: &str| (words.next()? == name).then(|| words.next()).flatten();
        let number = field("tfd")?.parse().ok()?;
        let events = u32::from_str_radix(field("events")?, 16).ok()?;
        let data = u64::from_str_radix(field("data")?, 16).ok()?;
        // Not there before Linux 5.0.
        let _position = field("pos");
        let inode = field("ino").and_then(|inode| u64::from_str_radix(inode, 16).ok());
        Some(Self { number, events, data, inode })
    }

    /// The number alone, which is cheaper.
    fn number_of(line: &[u8]) -> Option<u32> {
        let rest = line.strip_prefix(b"tfd:")?.trim_ascii_start();
        let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
    }

    fn is(&self, number: u32, inode: u64) -> bool {
        self.number == number && self.inode.is_none_or(|found| found == inode)
    }
}

/// Registers sockets under numbers that they have in other processes.
///
/// `epoll_ctl` takes the number from the caller's own descriptor table, so this is a thread with a
/// table of its own, in which every number is free. It holds no descriptor between two calls.
#[derive(Clone, Debug)]
pub struct Surgeon {
    orders: mpsc::Sender<Order>,
}

struct Order {
    epoll: i32,
    socket: i32,
    number: u32,
    registration: Registration,
    reply: mpsc::SyncSender<Result<(), EpollError>>,
}

impl Surgeon {
    /// Starts the thread. It ends with the last clone.
    ///
    /// # Errors
    /// [`EpollError::ThreadCall`] or [`EpollError::Place`].
    pub fn start() -> Result<Self, EpollError> {
        let (orders, inbox) = mpsc::channel();
        let (ready, started) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("epoll".into())
            .stack_size(64 * 1024)
            .spawn(move || match Table::new() {
                Ok(mut table) => {
                    ready.send(Ok(())).ok();
                    for Order { epoll, socket, number, registration, reply } in inbox {
                        reply.send(table.register(epoll, socket, number, registration)).ok();
                    }
                }
                Err(source) => {
                    ready.send(Err(EpollError::Place { source })).ok();
                }
            })
            .map_err(|source| EpollError::ThreadCall { source })?;
        started.recv().unwrap_or(Err(EpollError::Ended))?;
        Ok(Self { orders })
    }

    /// Registers `socket` with `epoll` as if it had this number. Both are descriptors of ours,
    /// which stay where they are.
    ///
    /// # Errors
    /// [`EpollError`] with the step that failed; EEXIST if it is registered already.
    pub fn register(
        &self,
        epoll: impl AsFd,
        socket: impl AsFd,
        number: u32,
        registration: Registration,
    ) -> Result<(), EpollError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let (epoll, socket) = (epoll.as_fd().as_raw_fd(), socket.as_fd().as_raw_fd());
        self.orders
            .send(Order { epoll, socket, number, registration, reply })
            .map_err(|_ended| EpollError::Ended)?;
        // Our borrows hold until the answer, and with them the numbers in the order.
        answer.recv().unwrap_or(Err(EpollError::Ended))
    }
}

/// The calling thread's own descriptor table, empty but for one handle.
struct Table {
    /// Our process as the other threads have it.
    process: OwnedFd,
}

impl Table {
    fn new() -> Result<Self, Errno> {
        // First this: what is opened before stays open in the table that the others share.
        sys::leave_shared_descriptors()?;
        Ok(Self { process: pidfd_open(getpid(), PidfdFlags::empty())? })
    }

    fn register(
        &mut self,
        epoll: i32,
        socket: i32,
        number: u32,
        registration: Registration,
    ) -> Result<(), EpollError> {
        let failed = |source| EpollError::Place { source };
        let number = i32::try_from(number).map_err(|_too_large| failed(Errno::BADF))?;
        let get = |fd| pidfd_getfd(&self.process, fd, PidfdGetfdFlags::empty());
        let mut epoll = get(epoll).map_err(failed)?;
        let mut socket = get(socket).map_err(failed)?;
        for held in [&mut self.process, &mut epoll, &mut socket] {
            if held.as_raw_fd() == number {
                *held = fcntl_dupfd_cloexec(&*held, number.saturating_add(1)).map_err(failed)?;
            }
        }
        let placed = fcntl_dupfd_cloexec(&socket, number).map_err(failed)?;
        if placed.as_raw_fd() != number {
            return Err(failed(Errno::BUSY));
        }
        add(&epoll, &placed, registration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_and_without_the_inode() {
        let line = Line::parse(
            b"tfd:        5 events: 8000201d data: ffffffff00000005  pos:0 ino:2f1 sdev:8",
        )
        .unwrap();
        assert_eq!((line.number, line.events, line.data), (5, 0x8000_201d, 0xffff_ffff_0000_0005));
        assert!(line.is(5, 0x2f1) && !line.is(5, 0x2f2) && !line.is(6, 0x2f1));
        assert_eq!(Line::number_of(b"tfd:      567 events: 19"), Some(567));
        let line = Line::parse(b"tfd: 5 events: 19 data: 5").unwrap();
        assert!(line.is(5, 77));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn of_too_many_none_is_told() {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let make = |_| ep::create(ep::CreateFlags::CLOEXEC).unwrap();
        let mut epolls: Vec<OwnedFd> = (0..100).map(make).collect();
        let told = numbers_in(own).unwrap();
        assert!(epolls.iter().all(|epoll| told.contains(&epoll.as_raw_fd())));
        assert!(try_numbers(own).unwrap().len() >= epolls.len());
        epolls.extend((0..MAX_EPOLLS).map(make));
        assert!(matches!(numbers_in(own), Err(EpollError::TooMany)));
        assert!(matches!(try_numbers(own), Err(EpollError::TooMany)));
    }

    #[test]
    fn other_lines_are_not() {
        for line in ["", "pos:\t0", "flags:\t02", "tfd: x events: 1 data: 1", "tfd: 5 events: 1"] {
            assert!(Line::parse(line.as_bytes()).is_none(), "{line}");
        }
        for line in ["", "tfd:", "tfd: 5", "tfd: x events", "tfd: 99999999999 events", "pos: 5 "] {
            assert_eq!(Line::number_of(line.as_bytes()), None, "{line}");
        }
    }
}
