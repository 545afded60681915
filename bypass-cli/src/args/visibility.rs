//! Options of who tells what is served, and of who asks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

#[derive(Args, Debug)]
#[command(next_help_heading = "Visibility")]
pub(crate) struct VisibilityArgs {
    /// Where `status` and `top` ask, with GET /v1/status, and GET /metrics for Prometheus; `none` for
    /// nowhere [default: beside --socket, NAME-status.sock for NAME.sock].
    #[arg(long, value_name = "PATH|none")]
    pub(crate) status_socket: Option<PathBuf>,

    /// Answer GET /metrics to everybody who can connect to this address, too: any user of this machine, for
    /// one of its loopback.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics_listen: Option<SocketAddr>,
}

impl VisibilityArgs {
    /// The socket for this, where that of the server is the other one.
    pub(crate) fn path(&self, beside: &Path) -> Option<PathBuf> {
        match &self.status_socket {
            Some(path) if path.as_os_str() == "none" => None,
            Some(path) => Some(path.clone()),
            None => Some(beside_of(beside)),
        }
    }
}

/// `NAME-status.sock` for `NAME.sock`.
pub(crate) fn beside_of(socket: &Path) -> PathBuf {
    let mut name = socket.file_stem().unwrap_or_default().to_owned();
    name.push("-status.sock");
    socket.with_file_name(name)
}

/// Whom to ask.
#[derive(Args, Debug)]
pub(crate) struct AskedArgs {
    /// The status socket of `serve` or `daemon` [default: that of the one that runs with its default
    /// socket, `daemon` first].
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) asked: AskedArgs,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) asked: AskedArgs,

    /// Seconds between two looks, from 0.1.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) interval: Duration,
}

fn interval(text: &str) -> Result<Duration, &'static str> {
    let seconds: f64 = text.parse().map_err(|_error| "a number of seconds is expected")?;
    if !(0.1..=3600.0).contains(&seconds) {
        return Err("from 0.1 to 3600 seconds");
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_beside_that_of_the_server() {
        let args = |path: Option<&str>| VisibilityArgs {
            status_socket: path.map(Into::into),
            metrics_listen: None,
        };
        let beside = Path::new("/run/user/1000/bypass4netns.sock");
        let default = args(None).path(beside).unwrap();
        assert_eq!(default, Path::new("/run/user/1000/bypass4netns-status.sock"));
        assert_eq!(args(Some("none")).path(beside), None);
        assert_eq!(args(Some("/s")).path(beside).unwrap(), Path::new("/s"));
        assert_eq!(beside_of(Path::new("s")), Path::new("s-status.sock"));
    }

    #[test]
    fn an_interval_is_a_number_of_seconds() {
        assert_eq!(interval("0.5").unwrap(), Duration::from_millis(500));
        for text in ["0", "-1", "NaN", "inf", "1e9", "x"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
