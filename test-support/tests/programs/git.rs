//! git over HTTP and by its own protocol, with a server on the remote.

use test_support::requirement::Requirement;
use test_support::world::{REMOTE_V4, REMOTE_V6};
use test_support::{Result, ensure_eq};

use crate::container::Container;
use crate::place::{Place, succeed};
use crate::program::{Expected, Program, Subject};
use crate::web;

pub(crate) const GIT: Program = Program {
    name: "git_over_http_and_git",
    requires: &[
        Requirement::Program("git"),
        Requirement::Program("nginx"),
        Requirement::Program("fcgiwrap"),
    ],
    start,
    expected: Expected { switched: (0, 4), otherwise: &[] },
};

/// Makes a repository, pushes it, clones it by either way, and compares. A push of more than the
/// buffer is sent in chunks.
const WORK: &str = r#"
set -e
rm -rf work clone-http clone-git
git init -q -b main work
cd work
head -c 300000 /dev/urandom > file
git add file
git -c user.name=test -c user.email=test@name.test commit -q -m first
git -c http.postBuffer=65536 push -q "http://$V4:9099/git/repository" main
cd ..
git clone -q "http://[$V6]:9099/git/repository" clone-http
git clone -q "git://$V4:9100/repository" clone-git
cmp work/file clone-http/file
cmp work/file clone-git/file
git -C clone-git ls-remote -q "http://$V4:9099/git/repository" | grep -c refs/heads/main
"#;

fn start<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    succeed(place.host("mkdir").arg("served"))?;
    let socket = place.path("fcgi.sock");
    let backend = format!(
        "location ~ ^/git(/.*)$ {{ client_max_body_size 0; include /etc/nginx/fastcgi_params;\n\
         fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend;\n\
         fastcgi_param GIT_PROJECT_ROOT {}; fastcgi_param GIT_HTTP_EXPORT_ALL 1;\n\
         fastcgi_param PATH_INFO $1; fastcgi_pass unix:{socket}; }}",
        place.path("served")
    );
    let gateway = format!("exec fcgiwrap -f -s unix:{socket}");
    let gateway = test_support::process::start(place.remote("sh").args(["-c", &gateway]))?;
    let web = web::remote_with(place, 9099, &backend)?;
    let base = place.path("served");
    let daemon = place.serve(
        &format!(
            "exec git daemon --verbose --reuseaddr --export-all --base-path={base} --port=9100"
        ),
        "Ready to rumble",
    )?;
    let mut container = Container::start(place, &[])?;
    let script = place.file("work.sh", WORK)?;
    container.ask(&format!("export HOME={}", place.path("")))?;
    let place = place.clone();
    let round = move |container: &mut Container| {
        place.ask(
            "rm -rf served/repository; git init -q --bare -b main served/repository && \
             git -C served/repository config http.receivepack true",
        )?;
        let said = container.ask(&format!("V4={REMOTE_V4} V6={REMOTE_V6} sh {script}"))?;
        ensure_eq!(said, "1\n", "branches of the remote");
        Ok(())
    };
    Ok(Subject { container, peers: vec![gateway, web, daemon], round: Box::new(round) })
}
