//! The test of everything at once: a command in namespaces of its own connects to us.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::Finding;

/// What the command in there does.
pub(super) fn connect(to: SocketAddr) -> ExitCode {
    match TcpStream::connect_timeout(&to, Duration::from_secs(5)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

const ABOUT: &str = "self-test";

pub(super) fn finding() -> Finding {
    match switched() {
        Ok(Some(ip)) => Finding::ok(
            ABOUT,
            format!(
                "a command in a namespace of its own reached {ip} by a \
                                                    socket of the host"
            ),
        ),
        Ok(None) => Finding::warning(
            ABOUT,
            "this host has no address but loopback, so there is nothing to connect to",
            "connect it to a network and try again",
        ),
        Err(said) => Finding::failed(
            ABOUT,
            said,
            "see to what else failed above; if nothing did, please report this with the output of \
             `bypass-cli run --debug --report - -- true`",
        ),
    }
}

/// The address that was reached; `None` if there is none to try.
fn switched() -> Result<Option<IpAddr>, String> {
    let Some(ip) = own_address() else { return Ok(None) };
    let listener = TcpListener::bind((ip, 0)).map_err(|error| error.to_string())?;
    let to = listener.local_addr().map_err(|error| error.to_string())?;
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(&this);
    command.args(["run", "--report", "-", "--"]).arg(&this).args(["doctor", "--connect"]);
    let ran = command.arg(to.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).output();
    let ran = ran.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&ran.stderr);
    let report = said.find("\n{").or_else(|| said.starts_with('{').then_some(0));
    let report = report.and_then(|at| said.get(at..)).unwrap_or_default();
    let report: Value = serde_json::from_str(report.trim()).unwrap_or_default();
    let switched = report.pointer("/verdicts/switched");
    let switched = switched.is_some_and(|count| count.as_u64() == Some(1) || count.is_object());
    if ran.status.success() && switched {
        return Ok(Some(ip));
    }
    let first = said.lines().next().unwrap_or_default();
    Err(format!("`bypass-cli run` ended with {}: {first}", ran.status))
}

/// The host's address on the way to the outside. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")].into_iter().find_map(
        |(from, to)| {
            let asker = UdpSocket::bind(from).ok()?;
            asker.connect(to).ok()?;
            let ip = asker.local_addr().ok()?.ip();
            (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
        },
    )
}
