//! apt against a repository on the remote.

use test_support::requirement::Requirement;
use test_support::world::{REMOTE_V4, REMOTE_V6};
use test_support::{Result, ensure_eq};

use crate::container::Container;
use crate::place::{Place, succeed};
use crate::program::{Expected, Program, Subject};
use crate::web;

pub(crate) const APT: Program = Program {
    name: "apt_from_a_repository",
    requires: &[
        Requirement::Program("apt-get"),
        Requirement::Program("apt-ftparchive"),
        Requirement::Program("dpkg-deb"),
        Requirement::Program("nginx"),
    ],
    start,
    // Lists and packages, from either address.
    expected: Expected { switched: (0, 3), otherwise: &[] },
};

/// Twenty packages, an index of them, and directories for an apt that leaves the machine's alone.
const PREPARE: &str = r#"
mkdir -p repository state/lists/partial cache/archives/partial etc/apt.conf.d etc/preferences.d
touch status
for n in $(seq 20); do
    mkdir -p package/DEBIAN package/usr/share/example
    head -c 50000 /dev/urandom > package/usr/share/example/file
    printf 'Package: example%s\nVersion: 1\nArchitecture: all\nMaintainer: test <test@name.test>\n' \
        "$n" > package/DEBIAN/control
    echo 'Description: example' >> package/DEBIAN/control
    dpkg-deb --root-owner-group -Znone -b package "repository/example$n.deb" > /dev/null
done
cd repository
apt-ftparchive packages . > Packages
apt-ftparchive release . > Release
"#;

fn start<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    succeed(place.host("sh").args(["-ec", PREPARE]))?;
    let peer = web::remote(place, 9102)?;
    let at = place.path("");
    // Read before any other, and names where those would be.
    let configuration = place.file(
        "apt.conf",
        format!(
            "Dir::Etc \"{at}etc\"; Dir::State \"{at}state\"; Dir::State::status \"{at}status\";\n\
             Dir::Cache \"{at}cache\"; APT::Sandbox::User \"\";\n"
        ),
    )?;
    place.file(
        "etc/sources.list",
        format!(
            "deb [trusted=yes] http://{REMOTE_V4}:9102/repository ./\n\
             deb [trusted=yes] http://[{REMOTE_V6}]:9102/repository ./\n"
        ),
    )?;
    let mut container = Container::start(place, &[])?;
    container.ask(&format!("export APT_CONFIG={configuration}"))?;
    let round = move |container: &mut Container| {
        container.ask(
            "rm -rf state/lists/* && apt-get -q -o APT::Update::Error-Mode=any update > log 2>&1 \
             || { cat log; false; }",
        )?;
        let same = container.ask(
            "mkdir got && cd got && apt-get -q download $(seq -f example%g 20) > ../log 2>&1 \
             || { cat ../log; false; } && cd .. && for n in $(seq 20); do \
             cmp repository/example$n.deb got/example${n}_1_all.deb || break; done; echo $n; rm -r got",
        )?;
        ensure_eq!(same, "20\n", "packages that are the same");
        Ok(())
    };
    Ok(Subject { container, peers: vec![peer], round: Box::new(round) })
}
