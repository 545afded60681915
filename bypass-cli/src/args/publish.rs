//! Options that say which ports are published, and what is done for it and for UDP.

use bypass_core::{
    Ports, Protocol, Publish, PublishConflict, PublishList, Published, ReserveError,
};
use clap::{Args, ValueEnum};

use crate::filter::Traps;

/// They decide which calls are trapped, so `profile` takes them as well.
#[derive(Args, Debug)]
#[command(next_help_heading = "Publishing and UDP")]
pub(crate) struct PublishArgs {
    /// Publish a port of the container on the host, like docker-run(1):
    /// `[[HOST_IP:][HOST_PORT]:]PORT[/udp]`. Without a host port any free one is taken; a port
    /// may be a range (8000-8010), an IPv6 address stands in brackets. Can be repeated.
    #[arg(short, long, value_name = "MAP")]
    publish: Vec<Publish>,

    /// Publish nothing, whatever -p says: what the container binds stays in it.
    #[arg(long)]
    ignore_bind: bool,

    #[command(flatten)]
    pub(crate) udp: UdpArgs,

    /// When getsockname(2) and getpeername(2) are trapped, to tell the port inside where
    /// another shows on the host.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    virtual_names: VirtualNames,
}

/// Whether containers get UDP sockets of the host.
#[derive(Args, Debug)]
pub(crate) struct UdpArgs {
    /// Which UDP sockets are bypassed. Those of published ports always are. No kernel layer keeps a
    /// UDP socket to its policy as Landlock does for TCP: hostile code that holds one can race the
    /// traps and send datagrams to the host's loopback.
    #[arg(long, value_name = "WHICH", default_value = "off")]
    udp: Udp,

    /// What is done about sendmsg(2) and sendmmsg(2) where the container may hold UDP sockets
    /// of the host. Under `--udp all` both are trapped in any case.
    #[arg(long, value_name = "HOW", default_value = "trapped")]
    udp_sends: UdpSends,
}

impl UdpArgs {
    /// Which UDP sockets are switched.
    pub(crate) fn udp(&self) -> bypass_core::Udp {
        self.udp.into()
    }

    /// Traps without which no container may be given UDP sockets of the host; `None` if these
    /// options give it none. They are no traps at all if the user wants to do without.
    /// `devices_suffice`: a socket that is bound to a device can send nowhere that the policy
    /// forbids.
    pub(crate) fn confining(&self, list: &PublishList, devices_suffice: bool) -> Option<Traps> {
        let published = list.iter().any(|(_, map)| map.protocol == Protocol::Udp);
        if published || self.udp != Udp::Off {
            Some(self.confining_published(devices_suffice))
        } else {
            None
        }
    }

    /// The same for a container that publishes UDP ports.
    pub(crate) fn confining_published(&self, devices_suffice: bool) -> Traps {
        let confined = self.udp_sends == UdpSends::Trapped;
        Traps { names: false, messages: confined, sends: confined && !devices_suffice }
    }
}

impl PublishArgs {
    /// Which UDP sockets are switched.
    pub(crate) fn udp(&self) -> bypass_core::Udp {
        self.udp.udp()
    }

    /// What is published.
    pub(crate) fn list(&self) -> Result<PublishList, PublishConflict> {
        // A contradiction is a mistake even where nothing comes of it.
        let list = PublishList::new(self.publish.clone())?;
        Ok(if self.ignore_bind { PublishList::default() } else { list })
    }

    /// Reserves the host ports of the list, and says which they are.
    pub(crate) fn reserve(&self, list: &PublishList) -> Result<Ports, ReserveError> {
        let ports = Ports::reserve(list)?;
        for Published { protocol, host, container_port, .. } in ports.published() {
            tracing::info!("published {host}/{protocol} -> {container_port}");
        }
        Ok(ports)
    }

    /// The traps that these options need beyond those of every container. `devices_suffice`: a
    /// socket that is bound to a device can send nowhere that the policy forbids.
    pub(crate) fn traps(&self, list: &PublishList, devices_suffice: bool) -> Traps {
        let names = match self.virtual_names {
            VirtualNames::Auto => list.iter().any(|(_, map)| !map.keeps_port()),
            VirtualNames::On => true,
            VirtualNames::Off => false,
        };
        let confining = self.confining(list, devices_suffice).unwrap_or_default();
        // Whatever these traps cost, the first send of a socket cannot decide without them.
        let all = self.udp.udp == Udp::All;
        Traps { names, messages: all || confining.messages, sends: all || confining.sends }
    }

    /// Those without which no container may be given UDP sockets of the host; see [`UdpArgs`].
    pub(crate) fn confining(&self, list: &PublishList, devices_suffice: bool) -> Option<Traps> {
        self.udp.confining(list, devices_suffice)
    }
}

/// Which UDP sockets are bypassed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Udp {
    /// None.
    Off,
    /// Those that the application connects.
    Connected,
    /// Unconnected senders too: each send with an address is trapped.
    All,
}

impl From<Udp> for bypass_core::Udp {
    fn from(udp: Udp) -> Self {
        match udp {
            Udp::Off => Self::Off,
            Udp::Connected => Self::Connected,
            Udp::All => Self::All,
        }
    }
}

/// How UDP sockets of the host are kept to their device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum UdpSends {
    /// Both are trapped, so that their control messages cannot lead a datagram past the device
    /// of its socket. Each such call then takes some 10 microseconds more, on sockets of any kind.
    /// A container of `serve` without these traps gets no UDP sockets of the host.
    Trapped,
    /// Nothing is trapped: full speed for programs that use sendmsg, but a program inside can
    /// then send IPv4 datagrams (it gets no answers) to services on the host's loopback, and
    /// datagrams to denied networks.
    Free,
}

/// When a socket's names are those that the container would see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum VirtualNames {
    /// If a published port may differ on the host.
    Auto,
    /// Always.
    On,
    /// Never: applications may see the host's port.
    Off,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(options: &[&str]) -> Result<PublishArgs, clap::Error> {
        let line = ["bypass-cli", "serve"].iter().chain(options);
        match Cli::try_parse_from(line)?.command {
            Command::Serve(args) => Ok(args.publish),
            _ => panic!("not serve"),
        }
    }

    #[test]
    fn maps_come_one_by_one_and_keep_their_order() {
        let args = args(&["-p", "8080:80", "--publish=[::1]::53/udp", "-p80"]).unwrap();
        let list = args.list().unwrap();
        let maps: Vec<String> = list.iter().map(|(_, map)| map.to_string()).collect();
        assert_eq!(maps, ["8080:80/tcp", "[::1]::53/udp", ":80/tcp"]);
        assert_eq!((args.udp.udp, args.virtual_names), (Udp::Off, VirtualNames::Auto));
    }

    #[test]
    fn a_wrong_map_is_named_with_its_option_and_a_remedy() {
        let message = args(&["-p", "localhost:8080:80"]).unwrap_err().to_string();
        for part in ["--publish", "localhost:8080:80", "write the IP address"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn contradictory_maps_are_named_with_their_option() {
        let args = args(&["-p", "8080:80", "-p", "127.0.0.1:8080:81", "--ignore-bind"]).unwrap();
        let message = args.list().unwrap_err().to_string();
        assert!(message.contains("`-p 8080:80` and `-p 127.0.0.1:8080:81`"), "{message}");
    }

    #[test]
    fn ignore_bind_publishes_nothing() {
        let args = args(&["-p", "8080:80", "--ignore-bind", "--udp", "all"]).unwrap();
        let list = args.list().unwrap();
        assert!(list.is_empty());
        assert_eq!(args.traps(&list, true), Traps { names: false, messages: true, sends: true });
    }

    fn traps(options: &[&str], devices_suffice: bool) -> Traps {
        let args = args(options).unwrap();
        args.traps(&args.list().unwrap(), devices_suffice)
    }

    #[test]
    fn names_are_trapped_where_a_host_port_may_differ() {
        for (maps, differ) in [
            (&[][..], false),
            (&["-p80:80"], false),
            (&["-p127.0.0.1:8000-8010:8000-8010", "-p53:53/udp"], false),
            (&["-p80:80", "-p8080:8081"], true),
            (&["-p80:80", "-p[::1]::80"], true),
            (&["-p8000-8001:8000"], true),
        ] {
            for (when, expected) in [("auto", differ), ("on", true), ("off", false)] {
                let options = [maps, &["--virtual-names", when]].concat();
                assert_eq!(traps(&options, false).names, expected, "{options:?}");
            }
        }
    }

    #[test]
    fn sends_are_trapped_where_a_host_udp_socket_may_be_and_nobody_objects() {
        const UDP: &str = "-p53:53/udp";
        const FREE: &str = "--udp-sends=free";
        const NONE: (bool, bool) = (false, false);
        const MESSAGES: (bool, bool) = (true, false);
        const BOTH: (bool, bool) = (true, true);

        // (messages, sends), where a device suffices to keep to the policy and where it does not.
        for (options, suffices, does_not) in [
            (&[][..], NONE, NONE),
            (&[UDP], MESSAGES, BOTH),
            (&["--udp=connected"], MESSAGES, BOTH),
            (&["--udp=connected", UDP], MESSAGES, BOTH),
            (&["--udp=off"], NONE, NONE),
            (&["--udp=off", "-p53:53/tcp"], NONE, NONE),
            (&["--udp=off", UDP], MESSAGES, BOTH),
            (&["--udp=off", UDP, "--ignore-bind"], NONE, NONE),
            (&["--udp=all"], BOTH, BOTH),
            (&["--udp=connected", FREE], NONE, NONE),
            (&["--udp=off", UDP, FREE], NONE, NONE),
            (&["--udp=off", FREE], NONE, NONE),
            (&["--udp=all", FREE], BOTH, BOTH),
        ] {
            for (devices_suffice, expected) in [(true, suffices), (false, does_not)] {
                let Traps { messages, sends, .. } = traps(options, devices_suffice);
                assert_eq!((messages, sends), expected, "{options:?}, {devices_suffice}");
            }
        }
    }

    #[test]
    fn what_confines_host_udp_sockets_is_always_trapped() {
        for udp in ["--udp=off", "--udp=connected", "--udp=all"] {
            for how in ["--udp-sends=trapped", "--udp-sends=free"] {
                for devices_suffice in [false, true] {
                    let args = args(&[udp, how]).unwrap();
                    let list = args.list().unwrap();
                    let confining = args.confining(&list, devices_suffice);
                    assert_eq!(confining.is_none(), udp == "--udp=off", "{udp} {how}");
                    let confining = confining.unwrap_or_default();
                    assert!(args.traps(&list, devices_suffice).cover(confining), "{udp} {how}");
                    let confined = udp != "--udp=off" && how != "--udp-sends=free";
                    assert_eq!(confining.messages, confined, "{udp} {how}");
                    assert_eq!(confining.sends, confined && !devices_suffice, "{udp} {how}");
                }
            }
        }
    }
}
