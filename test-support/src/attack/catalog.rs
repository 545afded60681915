//! The attacks.
//!
//! What an attack tries is said in the comment that its source begins with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use self::Goal::{
    Answers, Broadcast, Denied, EverySpelling, FromLoopback, Kill, Loopback, Multicast, Port,
    Taken, Theft, Unix,
};
use super::Layer::{
    self, Again, Bind, Confine, Control, FastOpen, Foreign, Init, IoUring, Landlock, Listen,
    LockedFilter, Mptcp, Nested, OwnCall, Owner, Pin, Policy, Profile, Sends, Shutdown,
    SourceRoutes, Threads, Udp,
};
use crate::World;
use crate::failure::{Context, Result};
use crate::process::{self, PATIENCE};

/// What an attack is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Goal {
    /// A service on the host's loopback.
    Loopback,
    /// The same, by every spelling of such an address.
    EverySpelling,
    /// The same, where only an answer counts.
    Answers,
    /// The broadcast address of the host's loopback device.
    Broadcast,
    /// A multicast group on the host's loopback device.
    Multicast,
    /// A service at another address of the host, as if from its loopback.
    FromLoopback,
    /// An address outside that the policy denies.
    Denied,
    /// A port of the host that is not published.
    Port,
    /// Another program of the host, that has taken a published port.
    Taken,
    /// A UNIX socket of the host.
    Unix,
    /// Descriptors or memory of the supervisor, or of others outside.
    Theft,
    /// The supervisor's life.
    Kill,
}

/// One attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// The name of its source, without `.c`.
    pub program: &'static str,
    /// What it is after.
    pub goal: Goal,
    /// What stands in its way somewhere. With all of these switched off it must get through.
    pub layers: &'static [Layer],
    /// It takes a published port.
    pub publishes: bool,
    /// Options for `run` that it takes.
    pub options: &'static [&'static str],
    /// Two threads race: that it does not get through once does not mean that it cannot.
    pub races: bool,
    /// It cannot get through with the layers off either, for this reason.
    pub never: Option<&'static str>,
    /// There are no layers of ours in its way, but this; where nothing is, it gets through.
    pub kernel: Option<&'static str>,
}

impl Attack {
    const fn new(program: &'static str, goal: Goal, layers: &'static [Layer]) -> Self {
        Self {
            program,
            goal,
            layers,
            publishes: false,
            options: &[],
            races: false,
            never: None,
            kernel: None,
        }
    }

    const fn publishes(self) -> Self {
        Self { publishes: true, ..self }
    }

    const fn options(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    const fn races(self) -> Self {
        Self { races: true, ..self }
    }

    const fn never(self, why: &'static str) -> Self {
        Self { never: Some(why), ..self }
    }

    const fn kernel(self, what: &'static str) -> Self {
        Self { kernel: Some(what), ..self }
    }

    /// Where its source is.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks").join(self.program).with_extension("c")
    }

    /// What it tries, as its source says.
    ///
    /// # Errors
    /// When there is no such comment.
    pub fn tries(&self) -> Result<String> {
        let source = fs::read_to_string(self.source()).context(self.program)?;
        let comment = source.strip_prefix("/* ").and_then(|rest| rest.split_once("*/"));
        let (comment, _) =
            comment.context(format!("{} does not begin with a comment", self.program))?;
        let lines = comment.lines().map(|line| line.trim().trim_start_matches("* "));
        Ok(lines.collect::<Vec<_>>().join(" ").trim().to_owned())
    }

    /// Compiles it to where the ordinary user may run it, once.
    ///
    /// # Errors
    /// When gcc is not content.
    pub fn build(&self, world: &World) -> Result {
        let program = world.programs().join(self.program);
        if program.exists() {
            return Ok(());
        }
        let mut gcc = world.on_host("gcc");
        gcc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]);
        gcc.arg(&program).arg(self.source());
        process::run(&mut gcc, PATIENCE)?.success()?;
        // A copy that nobody but root may read.
        let opaque = program.with_file_name(format!("{}-opaque", self.program));
        fs::copy(&program, &opaque)?;
        fs::set_permissions(&opaque, fs::Permissions::from_mode(0o711))?;
        Ok(())
    }
}

/// Every attack, by what it is after, in the order of the table.
pub const SECTIONS: &[(&str, &[Attack])] = &[
    ("TCP services on the host's loopback", TCP),
    ("The same, from sockets of published ports", PUBLISHED),
    ("UDP services on the host's loopback", UDP),
    ("Answers of UDP services on the host's loopback", ANSWERS),
    ("Addresses that the policy denies, behind the device", DENIED),
    ("Ports of the host that are not published", PORTS),
    ("Other sockets of the host, and the supervisor", OTHERS),
];

const TCP: &[Attack] = &[
    Attack::new("connect", EverySpelling, &[Policy]),
    Attack::new("connect_odd_length", Loopback, &[Policy]),
    Attack::new("connect_after_refusal", Loopback, JUDGED),
    Attack::new("connect_after_unspec", EverySpelling, JUDGED),
    Attack::new("connect_while_connecting", Loopback, JUDGED),
    Attack::new("connect_deferred", Loopback, JUDGED),
    Attack::new("connect_in_child", Loopback, JUDGED),
    Attack::new("connect_after_exec", Loopback, JUDGED),
    Attack::new("connect_passed", Loopback, JUDGED),
    Attack::new("connect_taken", Loopback, JUDGED),
    Attack::new("connect_with_ulp", Loopback, JUDGED),
    Attack::new("connect_unpinned", Loopback, JUDGED),
    Attack::new("connect_in_repair", Loopback, &[]).never(
        "takes CAP_NET_ADMIN over the host's network namespace, which no layer of ours gives",
    ),
    Attack::new("fastopen_sendto", EverySpelling, &[FastOpen, Pin]),
    Attack::new("fastopen_sendmsg", Loopback, &[FastOpen, Pin]),
    Attack::new("fastopen_sendmmsg", Loopback, &[FastOpen, Pin]),
    Attack::new("i386_connect", Loopback, FOREIGN),
    Attack::new("i386_socketcall", Loopback, FOREIGN),
    Attack::new("x32_connect", Loopback, FOREIGN),
    Attack::new("traced_call", Loopback, JUDGED),
    Attack::new("io_uring_connect", Loopback, &[IoUring, Pin, Landlock]),
    Attack::new("mptcp_connect", Loopback, &[Mptcp, Policy])
        .never("no socket but of TCP or UDP becomes one of the host"),
    Attack::new("other_protocols", Loopback, &[Policy])
        .never("no socket but of TCP or UDP becomes one of the host"),
    Attack::new("toctou_address", Loopback, &[OwnCall, Pin, Landlock]).races(),
    Attack::new("toctou_descriptor", Loopback, &[OwnCall, Pin, Landlock]).races(),
    Attack::new("continue_connect", Loopback, &[Pin, Landlock]).races(),
    Attack::new("nested_namespace", Loopback, &[Policy, Nested]),
    Attack::new("namespace_of_socket", Loopback, &[]).never(
        "takes CAP_NET_ADMIN over the host's network namespace, which no layer of ours gives",
    ),
    Attack::new("enter_namespace", Loopback, &[]).kernel("namespaces"),
    Attack::new("own_supervisor", Loopback, &[]).kernel("one listener per filter"),
];

const PUBLISHED: &[Attack] = &[
    Attack::new("published_bound", Loopback, &[Again, Landlock]).publishes(),
    Attack::new("published_bound_fastopen", Loopback, &[FastOpen]).publishes(),
    Attack::new("published_bound_io_uring", Loopback, &[IoUring, Landlock]).publishes(),
    Attack::new("published_listener", Loopback, &[Again, Landlock]).publishes(),
    Attack::new("published_listener_fastopen", Loopback, &[FastOpen]).publishes(),
    Attack::new("published_accepted_unspec", Loopback, &[Again, Landlock]).publishes(),
    Attack::new("published_accepted_fastopen", Loopback, &[Shutdown, FastOpen]).publishes(),
    Attack::new("own_port_unspec", Loopback, &[Again, Landlock]).publishes(),
    Attack::new("own_port_fastopen", Loopback, &[Shutdown, FastOpen]).publishes(),
    Attack::new("continue_listener", Loopback, &[Landlock]).publishes().races(),
    Attack::new("own_port_taken", Taken, &[Owner]).publishes().races(),
];

const UDP: &[Attack] = &[
    Attack::new("udp_connect", EverySpelling, &[Policy, Udp, Profile]),
    Attack::new("udp_sendto", EverySpelling, &[Pin, Udp, Profile]),
    Attack::new("udp_sendmsg", Loopback, &[Sends, Pin, Udp, Profile]),
    Attack::new("udp_sendmmsg", Loopback, &[Sends, Pin, Udp, Profile]),
    Attack::new("udp_pktinfo", EverySpelling, &[Sends, Control, Udp, Profile]),
    Attack::new("udp_unspec", Loopback, &[Again, Pin, Udp, Profile]),
    Attack::new("udp_unpin", Loopback, &[Pin, Udp, Profile]),
    Attack::new("udp_device_before", Loopback, &[Pin, Udp, Profile])
        .never("a socket with such an option stays in the container"),
    Attack::new("io_uring_sendmsg", Loopback, &[IoUring, Udp, Profile]),
    Attack::new("published_udp_sendto", Loopback, &[Pin, Profile]).publishes(),
    Attack::new("published_udp_connect", Loopback, &[Again, Pin, Profile]).publishes(),
    Attack::new("published_udp_unspec", Loopback, &[Again, Pin, Profile]).publishes(),
    Attack::new("published_udp_pktinfo", Loopback, &[Sends, Control, Profile]).publishes(),
    Attack::new("opaque_sendmsg", Loopback, &[Sends, Udp, Profile]),
    Attack::new("other_table", Loopback, &[Threads, Udp, Profile]),
    Attack::new("continue_dissolve", Loopback, &[Udp, Profile]).races(),
    Attack::new("continue_sendmsg", Loopback, &[Udp, Profile]).races(),
    Attack::new("udp_broadcast", Broadcast, &[Pin, Udp, Profile]),
    Attack::new("udp_multicast", Multicast, &[Pin, Udp, Profile]),
    Attack::new("udp_from_loopback", FromLoopback, &[Sends, Control, Udp, Profile]),
];

const ANSWERS: &[Attack] = &[
    Attack::new("published_udp_sendto", Answers, &[Pin, LockedFilter, Profile]).publishes(),
    Attack::new("continue_dissolve", Answers, &[LockedFilter, Udp, Profile]).races(),
    Attack::new("continue_published_dissolve", Answers, &[LockedFilter, Profile])
        .publishes()
        .races(),
    Attack::new("continue_published_sendmsg", Answers, &[LockedFilter, Profile])
        .publishes()
        .races(),
];

const DENIED: &[Attack] = &[
    Attack::new("connect", Denied, &[Policy]),
    Attack::new("connect_after_refusal", Denied, &[Again, Landlock]),
    Attack::new("connect_after_unspec", Denied, &[Again, Landlock]),
    Attack::new("connect_passed", Denied, &[Again, Landlock]),
    Attack::new("fastopen_sendto", Denied, &[FastOpen]),
    Attack::new("i386_connect", Denied, &[Foreign, Again, Landlock]),
    Attack::new("io_uring_connect", Denied, &[IoUring, Landlock]),
    Attack::new("toctou_address", Denied, &[OwnCall, Landlock]).races(),
    Attack::new("continue_connect", Denied, &[Landlock]).races(),
    Attack::new("udp_connect", Denied, &[Policy, Udp, Profile]),
    Attack::new("udp_sendto", Denied, &[Sends, Udp, Profile]),
    Attack::new("opaque_sendto", Denied, &[Sends, Udp, Profile]),
    Attack::new("udp_sendmsg", Denied, &[Sends, Udp, Profile]),
    Attack::new("udp_sendmmsg", Denied, &[Sends, Udp, Profile]),
    Attack::new("published_udp_sendto", Denied, &[Sends, Profile]).publishes(),
    Attack::new("published_udp_connect", Denied, &[Again, Profile]).publishes(),
    Attack::new("source_route", Denied, &[SourceRoutes]),
    Attack::new("source_route_message", Denied, &[Sends, Control, Udp, Profile]).never(
        "the kernel takes no route in a message but that of Mobile IPv6, if it was built with that",
    ),
];

const PORTS: &[Attack] = &[
    Attack::new("bind_unpublished", Port, &[]).never("the socket is the container's"),
    Attack::new("bind_after_unspec", Port, &[Bind, Listen, Landlock]),
    Attack::new("listen_after_refusal", Port, &[Listen]),
    Attack::new("listen_after_unspec", Port, &[Listen]),
    Attack::new("continue_listen", Port, &[Listen]).races(),
    Attack::new("continue_bind", Port, &[Listen, Landlock]).races(),
    Attack::new("continue_udp_port", Port, &[Udp, Profile]).races(),
];

const OTHERS: &[Attack] = &[
    Attack::new("unix_abstract", Unix, &[]).kernel("network namespace"),
    Attack::new("unix_path", Unix, &[]).kernel("mount namespace"),
    // Without it, pid 1 has capabilities that the attack has not.
    Attack::new("supervisor_trace", Theft, &[Init, Landlock, Confine])
        .options(&["--map-root"])
        .kernel("namespaces"),
    Attack::new("supervisor_kill", Kill, &[Landlock]).kernel("process namespace"),
    Attack::new("inherited_descriptors", Theft, &[]).kernel("close-on-exec"),
];

/// What judges a host socket's second connect, and what holds it where that judge is not asked.
const JUDGED: &[Layer] = &[Again, Pin, Landlock];
const FOREIGN: &[Layer] = &[Foreign, Again, Pin, Landlock];
