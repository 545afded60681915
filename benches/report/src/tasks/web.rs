//! nginx, with one worker: as a server whose port is published, and as a reverse proxy of a server on the
//! remote. wrk asks from the remote.

use std::fs;
use std::path::{Path, PathBuf};

use test_support::failure::{Context, Result};
use test_support::process::{self, Finished, Running};
use test_support::stacks::HTTP;
use test_support::world::REMOTE_V4;

use super::{Figures, Task};
use crate::lab::{LIMIT, Lab, end, serve};
use crate::ways::Way;

pub(super) fn tasks() -> Vec<Box<dyn Task>> {
    vec![Box::new(Server::default()), Box::new(Proxy::default())]
}

#[derive(Default)]
struct Server {
    configuration: PathBuf,
}

impl Task for Server {
    fn keys(&self) -> &'static [&'static str] {
        &["nginx-keep", "nginx-close"]
    }

    fn left_out(&self, way: &Way) -> Option<&'static str> {
        way.no_server()
    }

    fn prepare(&mut self, lab: &Lab<'_>) -> Result {
        let server = format!("server {{ listen {}; {HELLO} }}", HTTP.number);
        self.configuration = configure(lab, "nginx", &server)?;
        Ok(())
    }

    fn measure(&self, lab: &Lab<'_>, way: &Way) -> Result<Figures> {
        let server = started(lab, way, &self.configuration)?;
        let url = format!("http://{}/", way.published(HTTP)?);
        let kept = wrk(lab, &url, &[])?;
        let fresh = wrk(lab, &url, &["--header=Connection: close"])?;
        end(server)?;
        Ok(vec![("nginx-keep", kept), ("nginx-close", fresh)])
    }
}

#[derive(Default)]
struct Proxy {
    configuration: PathBuf,
    _upstream: Option<Running>,
}

impl Task for Proxy {
    fn keys(&self) -> &'static [&'static str] {
        &["proxy-pool", "proxy-fresh"]
    }

    fn left_out(&self, way: &Way) -> Option<&'static str> {
        way.no_server()
    }

    fn prepare(&mut self, lab: &Lab<'_>) -> Result {
        let upstream =
            configure(lab, "upstream", &format!("server {{ listen {UPSTREAM}; {HELLO} }}"))?;
        let mut upstream_command = lab.remote("sh");
        upstream_command.args(["-c", RUN]).arg(&upstream);
        self._upstream = Some(serve(&mut upstream_command, READY)?);
        let proxy = format!(
            "upstream pool {{ server {REMOTE_V4}:{UPSTREAM}; keepalive 32; }}
             proxy_http_version 1.1; proxy_set_header Connection '';
             server {{ listen {};
               location = /pool {{ proxy_pass http://pool; }}
               location = /fresh {{ proxy_set_header Connection close;
                 proxy_pass http://{REMOTE_V4}:{UPSTREAM}; }} }}",
            HTTP.number
        );
        self.configuration = configure(lab, "proxy", &proxy)?;
        Ok(())
    }

    fn measure(&self, lab: &Lab<'_>, way: &Way) -> Result<Figures> {
        let proxy = started(lab, way, &self.configuration)?;
        let url = |path: &str| Ok(format!("http://{}/{path}", way.published(HTTP)?));
        let pool = url("pool").and_then(|url| wrk(lab, &url, &[]))?;
        let fresh = url("fresh").and_then(|url| wrk(lab, &url, &[]))?;
        end(proxy)?;
        Ok(vec![("proxy-pool", pool), ("proxy-fresh", fresh)])
    }
}

fn started(lab: &Lab<'_>, way: &Way, configuration: &Path) -> Result<Running> {
    let configuration = configuration.to_str().context("a path in UTF-8")?;
    serve(&mut way.server(lab.world, &["sh", "-c", RUN, configuration])?, READY)
}

/// Writes a configuration with this section `http`. The user is root's namesake in a container, the only one
/// there, and an ordinary one outside, where the line has no effect.
fn configure(lab: &Lab<'_>, name: &str, http: &str) -> Result<PathBuf> {
    let directory = lab.world.directory(name)?;
    let at = directory.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};"));
    let configuration = directory.join("nginx.conf");
    fs::write(
        &configuration,
        format!(
            "daemon off; user root; worker_processes 1; pid {at}/pid; error_log stderr notice;
             events {{ worker_connections 512; }}
             http {{ access_log off; keepalive_requests 1000000; {} {http} }}",
            temporary.concat()
        ),
    )?;
    Ok(configuration)
}

/// Requests per second.
fn wrk(lab: &Lab<'_>, url: &str, options: &[&str]) -> Result<f64> {
    let mut client = lab.remote("wrk");
    client.args(["--threads=1", "--connections=16", "--duration=1s"]).args(options).arg(url);
    let finished = process::run(&mut client, LIMIT)?.success()?;
    if ["Socket errors", "Non-2xx"].iter().any(|trouble| finished.stdout.contains(trouble)) {
        return Err(finished.failure("requests failed"));
    }
    rate(&finished)
}

fn rate(finished: &Finished) -> Result<f64> {
    let line = finished.stdout.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    Ok(line.context("wrk reports no rate")?.trim().parse()?)
}

/// What it logs goes to standard error, and nothing else says that it is ready.
const RUN: &str = "exec nginx -e stderr -c \"$0\" 2>&1";
const READY: &str = "start worker process ";
const HELLO: &str = "location / { return 200 \"hello\\n\"; }";
const UPSTREAM: u16 = 9081;
