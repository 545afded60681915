//! One datagram on its way from a container's memory to a host socket, in our own copy.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sockaddr_inspect::msghdr::{self, IoVecs, MsgHdrName, PayloadError};
use sockaddr_inspect::{FetchError, ForeignAddr, ProcessMemory, RawSockAddr, ReadMemory as _};

use crate::call::Message;
use crate::engine::confine;
use crate::weaken::{Layer, is_off};

/// The largest payload of UDP, and of several datagrams that are sent in one (`UDP_SEGMENT`).
const MAX_DATA: usize = 65_535;
/// Room for a message as most are, no longer than a frame of Ethernet. What is kept here is kept for
/// each container.
const USUAL_DATA: usize = 2048;
/// More than all control messages together that UDP knows.
const MAX_CONTROL: usize = 512;
/// How long a send waits for room in the socket's buffer. Only the container's own calls wait
/// with it, and devices empty their queues much faster.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The message that was copied last; its buffers are kept from one to the next.
pub(crate) struct Outbox {
    name: Option<RawSockAddr>,
    /// Room for a usual message, from the first longer one on for the largest.
    buffer: Vec<u8>,
    /// How much of it the message is.
    data: usize,
    control: [u8; MAX_CONTROL],
    /// The same.
    control_len: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        let (buffer, control) = (Vec::new(), [0; MAX_CONTROL]);
        Self { name: None, buffer, data: 0, control, control_len: 0 }
    }
}

impl Outbox {
    /// Copies a message; the destination that it names.
    ///
    /// # Errors
    /// What the call fails with, in the kernel's order.
    pub(crate) fn gather(
        &mut self,
        memory: ProcessMemory,
        message: &Message,
    ) -> Result<Option<RawSockAddr>, PayloadError> {
        self.control_len = 0;
        match *message {
            Message::To { name, name_len, data, len, .. } => {
                self.name =
                    if name.is_null() { None } else { Some(address(memory, name, name_len)?) };
                self.copy(|buffer| read(memory, data, len, buffer))?;
            }
            Message::Header { at, word_size, .. } => {
                let header = msghdr::fetch_header(&memory, at, word_size)?;
                self.name = header.name.map(|name: MsgHdrName| name.fetch(&memory)).transpose()?;
                self.copy(|buffer| IoVecs::gather(&header.iov, &memory, buffer))?;
                if let Some(control) = header.control {
                    self.control_len = control.copy_to(&memory, &mut self.control)?;
                }
            }
            // These come one by one.
            Message::Headers { .. } => return Err(FetchError::Fault.into()),
        }
        Ok(self.name)
    }

    /// Copies the data, which is either not longer than usual or gets room for any.
    fn copy(
        &mut self,
        into: impl Fn(&mut [u8]) -> Result<usize, PayloadError>,
    ) -> Result<(), PayloadError> {
        if self.buffer.is_empty() {
            self.buffer.resize(USUAL_DATA, 0);
        }
        let mut copied = into(&mut self.buffer);
        if matches!(copied, Err(PayloadError::TooLong { .. })) && self.buffer.len() < MAX_DATA {
            self.buffer.resize(MAX_DATA, 0);
            copied = into(&mut self.buffer);
        }
        self.data = copied?;
        Ok(())
    }

    /// Sends it from a UDP socket that is bound to the device `pin`, and by no other device; how
    /// long it was.
    ///
    /// # Errors
    /// What sendmsg(2) said.
    pub(crate) fn send(
        &mut self,
        socket: &OwnedFd,
        pin: Option<u32>,
        flags: i32,
    ) -> Result<u32, Errno> {
        if !is_off(Layer::Control) {
            confine(self.control.get_mut(..self.control_len).unwrap_or_default(), pin)?;
        }
        if flags & ZEROCOPY != 0 {
            // Our copy is not the program's memory. The kernel says this too where it cannot, and
            // programs send a copy then.
            return Err(Errno::NOBUFS);
        }
        match self.send_at_once(socket, flags) {
            Err(Errno::AGAIN) if flags & DONTWAIT == 0 && is_blocking(socket) => {
                poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&PATIENCE)).ok();
                self.send_at_once(socket, flags)
            }
            result => result,
        }
    }

    fn send_at_once(&self, socket: &OwnedFd, flags: i32) -> Result<u32, Errno> {
        let name = self.name.as_ref().map_or(&[][..], |name| name.as_bytes());
        let data = self.buffer.get(..self.data).unwrap_or_default();
        let control = self.control.get(..self.control_len).unwrap_or_default();
        netns_socket::send_copied(socket, name, data, control, flags)
            .map(|sent| u32::try_from(sent).unwrap_or(u32::MAX))
    }
}

/// Reads the data of a sendto(2) to the start of the buffer.
fn read(
    memory: ProcessMemory,
    at: ForeignAddr,
    len: u64,
    buffer: &mut [u8],
) -> Result<usize, PayloadError> {
    let room = usize::try_from(len).ok().and_then(|len| buffer.get_mut(..len));
    let buffer = room.ok_or(PayloadError::TooLong { len })?;
    let read = if buffer.is_empty() { 0 } else { memory.read(at, buffer)? };
    if read == buffer.len() { Ok(read) } else { Err(FetchError::Fault.into()) }
}

/// The address of a sendto(2), which must not be empty where there is one.
fn address(memory: ProcessMemory, at: ForeignAddr, len: u64) -> Result<RawSockAddr, PayloadError> {
    let name = sockaddr_inspect::fetch(&memory, at, len)?;
    if name.is_empty() {
        return Err(FetchError::InvalidLength { len: 0 }.into());
    }
    Ok(name)
}

fn is_blocking(socket: &OwnedFd) -> bool {
    rustix::fs::fcntl_getfl(socket).is_ok_and(|flags| !flags.contains(rustix::fs::OFlags::NONBLOCK))
}

/// `MSG_ZEROCOPY` and `MSG_DONTWAIT` of `linux/socket.h`.
const ZEROCOPY: i32 = 0x400_0000;
const DONTWAIT: i32 = 0x40;

#[cfg(test)]
mod tests {
    use super::*;

    fn own_memory() -> ProcessMemory {
        ProcessMemory::of(i32::try_from(std::process::id()).unwrap())
    }

    /// sendto(2) of these bytes of ours, on a connected socket.
    fn message(bytes: &[u8]) -> Message {
        let data = ForeignAddr::new(u64::try_from(bytes.as_ptr().addr()).unwrap());
        let (name, len) = (ForeignAddr::new(0), u64::try_from(bytes.len()).unwrap());
        Message::To { name, name_len: 0, data, len, flags: 0 }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn a_container_that_sends_usual_messages_costs_little() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.buffer.capacity(), 0);
        for len in [0, 1, 1472, USUAL_DATA] {
            let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
            outbox.gather(own_memory(), &message(&bytes)).unwrap();
            assert_eq!(outbox.buffer[..outbox.data], bytes);
        }
        assert_eq!(outbox.buffer.capacity(), USUAL_DATA);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such system calls")]
    fn the_longest_message_passes_and_a_longer_one_takes_no_memory() {
        let bytes: Vec<u8> = (0..=250).cycle().take(MAX_DATA + 1).collect();
        let mut outbox = Outbox::default();
        for len in [USUAL_DATA + 1, 1, MAX_DATA] {
            outbox.gather(own_memory(), &message(&bytes[..len])).unwrap();
            assert_eq!(outbox.buffer[..outbox.data], bytes[..len]);
        }
        let refused = outbox.gather(own_memory(), &message(&bytes));
        assert!(matches!(refused, Err(PayloadError::TooLong { .. })), "{refused:?}");
        assert_eq!(outbox.buffer.len(), MAX_DATA);
    }
}
