//! One published host address: who has it.

use std::os::fd::OwnedFd;

use netns_socket::{Vigil, Watched};
use rustix::io::Errno;
use rustix::net::sockopt;

use super::reserve;
use super::table::{Entry, Families};

/// A host address, with the socket that keeps it and those that use it.
#[derive(Debug)]
pub(super) struct Slot {
    entry: Entry,
    /// Keeps the address from others. It gives way to a socket that is not bound to a device.
    front: Option<OwnedFd>,
    /// The application's sockets that are bound to the address.
    sockets: Vec<Watched>,
    /// The families that the last of them serves in the container.
    families: Families,
}

impl Slot {
    pub(super) fn new(entry: Entry, front: OwnedFd) -> Self {
        Self { entry, front: Some(front), sockets: Vec::new(), families: Families::default() }
    }

    /// Whether the front and another socket of ours may have the same address for now.
    pub(super) fn share(&self, share: bool) -> Result<(), Errno> {
        match &self.front {
            Some(front) => sockopt::set_socket_reuseport(front, share),
            None => Ok(()),
        }
    }

    pub(super) fn has_front(&self) -> bool {
        self.front.is_some()
    }

    pub(super) fn give_way(&mut self) {
        self.front = None;
    }

    /// A socket of the application has the address from now on.
    pub(super) fn serve(&mut self, socket: Option<Watched>, families: Families) {
        self.sockets.extend(socket);
        self.families = families;
    }

    /// The families that are served, if there is an application.
    pub(super) fn serving(&self) -> Option<Families> {
        (!self.sockets.is_empty()).then_some(self.families)
    }

    /// Forgets the sockets that are closed, and takes the address back after the last of them.
    /// False if that is still to come.
    pub(super) fn settle(&mut self, vigil: &Vigil) -> bool {
        if !self.sockets.is_empty() {
            // Looked up now: one that was added since an earlier look would seem closed.
            let Ok(open) = vigil.open() else { return false };
            self.sockets.retain(|socket| open.contains(socket));
        }
        if self.sockets.is_empty() && self.front.is_none() {
            // Refused as long as the socket is on its way to the application, or somebody else
            // was faster.
            self.front = reserve::front_again(&self.entry).ok();
        }
        self.sockets.is_empty() && self.front.is_some()
    }
}
