//! Options that say which ports are published, and what is done for it and for UDP.

use bypass_core::{Ports, Publish, PublishConflict, PublishList, Published, ReserveError};
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

    /// Which UDP sockets are bypassed. Those of published ports always are.
    #[arg(long, value_name = "WHICH", default_value = "connected")]
    pub(crate) udp: Udp,

    /// When getsockname(2) and getpeername(2) are trapped, to tell the port inside where
    /// another shows on the host.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    virtual_names: VirtualNames,
}

impl PublishArgs {
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

    /// The traps that these options need beyond those of every container.
    pub(crate) fn traps(&self, list: &PublishList) -> Traps {
        Traps::for_publish(self.virtual_names, self.udp, list)
    }
}

/// Which UDP sockets are bypassed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Udp {
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

/// When a socket's names are those that the container would see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VirtualNames {
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
        assert_eq!((args.udp, args.virtual_names), (Udp::Connected, VirtualNames::Auto));
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
        assert_eq!(args.traps(&list), Traps { names: false, sends: true });
    }
}
