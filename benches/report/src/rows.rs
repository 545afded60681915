//! The rows of the report, in its order.

/// One row, before anything was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowSpec {
    pub(crate) key: &'static str,
    pub(crate) group: Group,
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) larger_is_better: bool,
}

/// Rows that stand in one table, and in one plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Tcp,
    Udp,
    Published,
    Connections,
    Proxy,
    Applications,
    Untouched,
    Cpu,
    Memory,
}

impl Group {
    /// Its title.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Tcp => "TCP throughput",
            Self::Udp => "UDP",
            Self::Published => "Published ports",
            Self::Connections => "Connections and latency",
            Self::Proxy => "A reverse proxy",
            Self::Applications => "Clients of servers",
            Self::Untouched => "What has nothing to do with networks",
            Self::Cpu => "CPU time",
            Self::Memory => "Memory",
        }
    }
}

const fn more(key: &'static str, group: Group, title: &'static str, unit: &'static str) -> RowSpec {
    RowSpec { key, group, title, unit, larger_is_better: true }
}

const fn less(key: &'static str, group: Group, title: &'static str, unit: &'static str) -> RowSpec {
    RowSpec { key, group, title, unit, larger_is_better: false }
}

/// All of them.
pub(crate) const ROWS: &[RowSpec] = &[
    more("tcp-up-1", Group::Tcp, "up, 1 stream", "Gbit/s"),
    more("tcp-up-4", Group::Tcp, "up, 4 streams", "Gbit/s"),
    more("tcp-up-16", Group::Tcp, "up, 16 streams", "Gbit/s"),
    more("tcp-down-1", Group::Tcp, "down, 1 stream", "Gbit/s"),
    more("tcp-down-4", Group::Tcp, "down, 4 streams", "Gbit/s"),
    more("tcp-down-16", Group::Tcp, "down, 16 streams", "Gbit/s"),
    more("udp-up", Group::Udp, "received of 2 Gbit/s, up", "Gbit/s"),
    less("udp-up-lost", Group::Udp, "lost of 2 Gbit/s, up", "%"),
    more("udp-down", Group::Udp, "received of 2 Gbit/s, down", "Gbit/s"),
    less("udp-down-lost", Group::Udp, "lost of 2 Gbit/s, down", "%"),
    less("udp-echo", Group::Udp, "datagram and its echo, p50", "µs"),
    more("published-to", Group::Published, "TCP to the server, 1 stream", "Gbit/s"),
    more("published-from", Group::Published, "TCP from the server, 1 stream", "Gbit/s"),
    more("nginx-keep", Group::Published, "wrk → nginx, connections kept", "1/s"),
    more("nginx-close", Group::Published, "wrk → nginx, a connection per request", "1/s"),
    less("cycle", Group::Connections, "connect, 1 byte, close, p50", "µs"),
    more("rate-1", Group::Connections, "connections per second, 1 client", "1/s"),
    more("rate-8", Group::Connections, "connections per second, 8 clients", "1/s"),
    more("rate-64", Group::Connections, "connections per second, 64 clients", "1/s"),
    less("request-p50", Group::Connections, "64 bytes and their echo, p50", "µs"),
    less("request-p99", Group::Connections, "64 bytes and their echo, p99", "µs"),
    more("proxy-pool", Group::Proxy, "nginx, upstream connections kept", "1/s"),
    more("proxy-fresh", Group::Proxy, "nginx, an upstream connection per request", "1/s"),
    more("redis", Group::Applications, "redis-benchmark GET", "1/s"),
    more("redis-pipelined", Group::Applications, "redis-benchmark GET, 16 at a time", "1/s"),
    more("pgbench", Group::Applications, "pgbench, connections kept", "1/s"),
    more("pgbench-connect", Group::Applications, "pgbench, a connection per transaction", "1/s"),
    less("open-close", Group::Untouched, "open and close a file", "µs"),
    less("tar", Group::Untouched, "tar of 4,000 files", "ms"),
    less("compile", Group::Untouched, "gcc -O1", "ms"),
    less("cpu-up", Group::Cpu, "1 GiB up", "s"),
    less("cpu-down", Group::Cpu, "1 GiB down", "s"),
    less("cpu-connection", Group::Cpu, "1 connection, of 8 clients", "µs"),
    less("memory-1", Group::Memory, "proportional set size, 1 container", "MiB"),
    less("memory-10", Group::Memory, "proportional set size, 10 containers", "MiB"),
    less("memory-100", Group::Memory, "proportional set size, 100 containers", "MiB"),
    less("anonymous-1", Group::Memory, "anonymous, 1 container", "MiB"),
    less("anonymous-10", Group::Memory, "anonymous, 10 containers", "MiB"),
    less("anonymous-100", Group::Memory, "anonymous, 100 containers", "MiB"),
];

/// Rows for the plot that stands for all, in its order.
pub(crate) const HEADLINE: &[&str] = &[
    "tcp-up-1",
    "tcp-down-1",
    "published-to",
    "nginx-close",
    "rate-8",
    "request-p50",
    "redis",
    "pgbench-connect",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_is_made_of_rows() {
        assert!(HEADLINE.iter().all(|key| ROWS.iter().any(|row| row.key == *key)));
    }

    #[test]
    fn keys_are_told_apart_and_groups_stand_together() {
        let mut keys: Vec<_> = ROWS.iter().map(|row| row.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), ROWS.len());
        let mut titles: Vec<_> = ROWS.iter().map(|row| row.group.title()).collect();
        titles.dedup();
        let runs = titles.len();
        titles.sort_unstable();
        titles.dedup();
        assert_eq!(runs, titles.len(), "a group comes twice");
    }
}
