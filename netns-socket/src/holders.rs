//! Who has a socket open: whether anybody has, and under which numbers.
//!
//! The kernel keeps no list of a file's descriptors. Two questions can be answered all the same:
//!
//! ```text
//! Witness        whether a file that we let go is open anywhere   (about 1 µs, exact)
//! numbers_of     as what a thread has it open                     (1 µs for each of its descriptors)
//! find_beside    which other process of its namespace has it      (that for each process)
//! ```
//!
//! The first is asked of every socket that another one took the place of, and nearly always says
//! no. The others are for the rest.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::event::epoll as ep;
use rustix::io::Errno;

use crate::epoll::TRIED;
use crate::{PidFd, Taken, VigilError, group_of, sys};

/// No more numbers of one table are told at a time.
pub const MAX_NUMBERS: usize = 256;
/// Descriptors of other processes that are looked at, in sum.
const MAX_LOOKED_AT: usize = 65_536;

/// Tells whether a file is open anywhere once our own descriptor of it is closed.
///
/// An epoll holds no reference to what it watches, and forgets a file with its last one: that of a
/// descriptor in any process, of a message in flight or of a call under way. Unlike
/// [`Vigil`](crate::Vigil) this is about one file at a time, and keeps its list open.
#[derive(Debug)]
pub struct Witness {
    epoll: OwnedFd,
    list: File,
}

impl Witness {
    /// Watches nothing yet. It is for the calling thread, and for others while that lives.
    ///
    /// # Errors
    /// [`VigilError::EpollCreateCall`] or [`VigilError::ReadFdinfo`], such as EMFILE.
    pub fn new() -> Result<Self, VigilError> {
        let epoll = ep::create(ep::CreateFlags::CLOEXEC)
            .map_err(|source| VigilError::EpollCreateCall { source })?;
        let path = format!("/proc/thread-self/fdinfo/{}", epoll.as_raw_fd());
        let list = File::open(path).map_err(|source| VigilError::ReadFdinfo { source })?;
        Ok(Self { epoll, list })
    }

    /// Watches the file of this descriptor.
    ///
    /// # Errors
    /// [`VigilError::EpollCtlCall`].
    pub fn watch(&self, file: impl AsFd) -> Result<(), VigilError> {
        ep::add(&self.epoll, file, ep::EventData::new_u64(0), ep::EventFlags::ET)
            .map_err(|source| VigilError::EpollCtlCall { source })
    }

    /// Watches the file of this descriptor no longer, if it did.
    pub fn forget(&self, file: impl AsFd) {
        ep::delete(&self.epoll, file).ok();
    }

    /// Whether a file that is watched is open anywhere.
    ///
    /// Where our own close(2) was the one that let it go, the kernel has forgotten it before that
    /// returned. Of the last close(2) of another thread this is true once *that* call has returned.
    ///
    /// # Errors
    /// [`VigilError::ReadFdinfo`].
    pub fn is_open(&self) -> Result<bool, VigilError> {
        // Four lines of some 15 bytes, then one for each file that is watched. Reading from the
        // start has the kernel write it anew.
        let mut text = [0; 256];
        let read =
            self.list.read_at(&mut text, 0).map_err(|source| VigilError::ReadFdinfo { source })?;
        let text = text.get(..read).unwrap_or_default();
        Ok(text.windows(WATCHED.len()).any(|window| window == WATCHED))
    }
}

/// How a line of proc_pid_fdinfo(5) about a watched file begins.
const WATCHED: &[u8] = b"tfd:";

/// The inode of a socket, by which the links in `/proc` name it.
///
/// # Errors
/// What fstat(2) said.
pub fn inode_of(socket: impl AsFd) -> Result<u64, Errno> {
    Ok(rustix::fs::fstat(socket)?.st_ino)
}

/// The numbers under which a thread's table has the socket with this inode, in ascending order and
/// at most [`MAX_NUMBERS`]. Empty where the thread has gone or may not be looked at. Of a program that
/// made itself not dumpable the first 1,024 numbers are tried.
///
/// # Races
/// Threads open and close descriptors meanwhile, and inodes are given to other sockets after 4
/// billion: whoever takes a descriptor finds out by its cookie what it is.
#[must_use]
pub fn numbers_of(tid: i32, inode: u64) -> Vec<i32> {
    let mut numbers = Vec::new();
    let mut left = usize::MAX;
    let directory = format!("/proc/{tid}/fd");
    if fs::read_dir(&directory).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
        return try_numbers(tid, inode);
    }
    each_number(&directory, inode, &mut left, |number| {
        numbers.push(number);
        (numbers.len() == MAX_NUMBERS).then_some(())
    });
    numbers.sort_unstable();
    numbers
}

fn try_numbers(tid: i32, inode: u64) -> Vec<i32> {
    let Ok(target) = PidFd::open(tid) else { return Vec::new() };
    let is_it = |number: &i32| match target.take_fd(*number) {
        Ok(Taken::Fd(taken)) => inode_of(taken).is_ok_and(|other| other == inode),
        _ => false,
    };
    (0..TRIED.cast_signed()).filter(is_it).take(MAX_NUMBERS).collect()
}

/// Calls `take` with the process and number of each descriptor of the socket with this inode that
/// other processes in the thread's network namespace have, until that returns something.
///
/// Processes that may not be looked at are passed over, as are those whose first thread has ended,
/// and further ones after 65,536 descriptors.
pub fn find_beside<T>(
    tid: i32,
    inode: u64,
    mut take: impl FnMut(i32, i32) -> Option<T>,
) -> Option<T> {
    let namespace = |id: i32| fs::read_link(format!("/proc/{id}/ns/net")).ok();
    let (group, own) = (group_of(tid).ok()?, namespace(tid)?);
    let mut left = MAX_LOOKED_AT;
    let mut processes: Vec<i32> = fs::read_dir("/proc")
        .ok()?
        .map_while(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    // Those that were made last, such as children, first.
    processes.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
    for process in processes {
        if process == group || namespace(process).as_ref() != Some(&own) {
            continue;
        }
        let directory = format!("/proc/{process}/fd");
        let found = each_number(&directory, inode, &mut left, |number| take(process, number));
        if found.is_some() || left == 0 {
            return found;
        }
    }
    None
}

/// Whether a process runs in the memory of the thread's program, as the child of vfork(2) and
/// posix_spawn(3) does until it executes another. False where that cannot be told.
#[must_use]
pub fn shares_memory(tid: i32, process: i32) -> bool {
    sys::kcmp_memory(tid, process).unwrap_or(false)
}

/// Passes on the numbers in a descriptor directory that are the socket with this inode. Looks at no
/// more than `left`, which it counts down.
fn each_number<T>(
    directory: &str,
    inode: u64,
    left: &mut usize,
    mut each: impl FnMut(i32) -> Option<T>,
) -> Option<T> {
    let link = format!("socket:[{inode}]");
    let is_it = |path: &Path| fs::read_link(path).is_ok_and(|to| to.as_os_str() == link.as_str());
    for entry in fs::read_dir(directory).ok()?.map_while(io::Result::ok) {
        *left = left.checked_sub(1)?;
        if is_it(&entry.path())
            && let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && let Some(found) = each(number)
        {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_socket_is_open_until_its_last_descriptor_is_closed() {
        let witness = Witness::new().unwrap();
        for _ in 0..3 {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let copy = socket.try_clone().unwrap();
            assert!(!witness.is_open().unwrap());
            witness.watch(&socket).unwrap();
            assert!(witness.is_open().unwrap());
            drop(socket);
            assert!(witness.is_open().unwrap());
            drop(copy);
            assert!(!witness.is_open().unwrap());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_forgotten_one_is_not_told_of() {
        let witness = Witness::new().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        witness.watch(&socket).unwrap();
        witness.forget(&socket);
        assert!(!witness.is_open().unwrap());
        // Nor is one that never was.
        witness.forget(&socket);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn every_number_of_a_socket_is_found_and_no_other() {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let copies = [client.try_clone().unwrap(), client.try_clone().unwrap()];
        let mut expected: Vec<i32> =
            copies.iter().chain([&client]).map(|s| s.as_raw_fd()).collect();
        expected.sort_unstable();
        assert_eq!(numbers_of(own, inode_of(&client).unwrap()), expected);
        assert_eq!(numbers_of(own, inode_of(&listener).unwrap()), [listener.as_raw_fd()]);
        assert_eq!(numbers_of(i32::MAX, inode_of(&client).unwrap()), []);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn more_numbers_than_are_told_are_told_in_part() {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let copies: Vec<_> = (0..300).map(|_| socket.try_clone().unwrap()).collect();
        assert_eq!(numbers_of(own, inode_of(&socket).unwrap()).len(), MAX_NUMBERS);
        drop(copies);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn one_is_not_found_beside_oneself() {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = inode_of(&socket).unwrap();
        assert_eq!(find_beside(own, inode, |process, number| Some((process, number))), None);
    }
}
