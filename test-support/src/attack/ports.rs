//! The ports that are open on the host.

use crate::Result;

/// Sockets of this network namespace that anybody may talk to: TCP sockets that listen, and UDP
/// sockets that are not connected, as the kernel lists them. Those at `expected` ports are left out.
///
/// # Errors
/// When the list cannot be read.
pub fn open(expected: &[u16]) -> Result<Vec<String>> {
    let mut ports = Vec::new();
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        for line in std::fs::read_to_string(format!("/proc/net/{table}"))?.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [_, local, _, found, ..] = fields.as_slice() else { continue };
            let Some((_, port)) = local.rsplit_once(':') else { continue };
            if *found == state && !expected.contains(&u16::from_str_radix(port, 16)?) {
                ports.push(format!("{table} {local}"));
            }
        }
    }
    Ok(ports)
}
