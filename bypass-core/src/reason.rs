//! Why a call ended as it did: one code per cause, for logs and counters.

use serde::Serialize;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Why a trapped call ended as it did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the reports.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that logs and reports use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

reasons! {
    /// The policy bypasses the destination and nothing stood against it.
    Allowed = "allowed",
    /// A rule of the user leaves the destination to the container.
    Ignored = "ignored",
    /// The destination is the host's loopback, or an address that lives on it.
    HostLoopback = "host_loopback",
    /// The destination is a multicast or broadcast address.
    Multicast = "multicast",
    /// The destination is an IPv6 link-local address: which link is meant, only the container
    /// knows (`sin6_scope_id` is a device number of its namespace).
    LinkLocal = "link_local",
    /// The destination is in a network of the container's own interfaces, which the user leaves to it.
    OwnNetwork = "own_network",
    /// Which networks the container's interfaces are in cannot be told, and the user leaves these to
    /// it.
    NetworksUnknown = "networks_unknown",
    /// A rule of the user denies the destination.
    DenyRule = "deny_rule",
    /// No rule of the user names the destination, and what none names is not to be bypassed.
    NotAllowed = "not_allowed",
    /// The socket's protocol is not one that is bypassed.
    Protocol = "protocol",
    /// The kernel would refuse this address on this socket, and does.
    Address = "address",
    /// The socket is connected, connecting or listening already.
    SocketState = "socket_state",
    /// The socket lives in a network namespace of the container's own making.
    NestedNetns = "nested_netns",
    /// The application chose a source address that the host does not have.
    SourceAddress = "source_address",
    /// The application chose a source port that is taken on the host.
    SourcePort = "source_port",
    /// The socket has a property that cannot be copied.
    Option = "option",
    /// The port is published.
    Published = "published",
    /// The destination is a published port of another container, which its networks lead to.
    Neighbour = "neighbour",
    /// `bind` and `listen` act in the container.
    Local = "local",
    /// The host has no route to the destination.
    NoRoute = "no_route",
    /// The host socket could not be bound to its device.
    Pin = "pin",
    /// The host socket could not be made (descriptor or memory limits).
    HostSocket = "host_socket",
    /// The socket's epoll registrations could not be given to the host socket.
    Epoll = "epoll",
    /// Another process has the socket as well, and could not be given the host socket.
    Shared = "shared",
    /// The target's descriptor table did not take the host socket.
    Install = "install",
    /// Too many calls of this container are waiting already.
    Limit = "limit",
    /// The container socket could not be made again.
    PutBack = "put_back",
    /// The target's memory or descriptors may not be looked at.
    Uninspectable = "uninspectable",
    /// The connection was dissolved (`AF_UNSPEC`).
    Dissolve = "dissolve",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_in_all_is_the_number_of_the_variant() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }

    #[test]
    fn names_are_what_serde_writes() {
        for reason in Reason::ALL {
            let written = format!("{reason:?}")
                .chars()
                .flat_map(|c| {
                    if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] }
                })
                .collect::<String>();
            assert_eq!(written.trim_start_matches('_'), reason.name());
        }
    }
}
