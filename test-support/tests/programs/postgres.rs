//! PostgreSQL: a published server that subscribes to a server on the remote, and clients of both.

use test_support::process::Running;
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6};
use test_support::{Result, ensure, ensure_eq};

use crate::container::Container;
use crate::place::{Place, succeed};
use crate::program::{Expected, Program, Subject};

pub(crate) const POSTGRES: Program = Program {
    name: "postgres_with_logical_replication",
    requires: &[Requirement::Program("psql"), Requirement::Program("sh")],
    start,
    // Each transaction of pgbench has a connection of its own, and the subscriber comes back.
    expected: Expected { switched: (3, TRANSACTIONS + 2), otherwise: &["left/local"] },
};

const CLIENTS: u64 = 4;
const TRANSACTIONS: u64 = CLIENTS * 15;

/// Debian keeps all but the clients in a directory for each version.
const BIN: &str = "PG=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)";
const READY: &str = "database system is ready to accept connections";

fn server(place: &Place<'_>, data: &str, port: u16, options: &str) -> String {
    let (data, at) = (place.path(data), place.path(""));
    format!(
        "{BIN}; exec \"$PG/postgres\" -D {data} -p {port} -h '0.0.0.0,::' -k {at} -c fsync=off \
         -c shared_buffers=16MB -c autovacuum=off {options}"
    )
}

/// An URI of the server at `host`, an address as URIs have them.
fn uri(host: &str, port: u16) -> String {
    format!("postgres://postgres@{host}:{port}/postgres")
}

fn start<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let prepare = format!(
        "{BIN}; \"$PG/initdb\" -D remote -A trust -N -U postgres --no-locale -E UTF8 && \
         echo 'host all all all trust' >> remote/pg_hba.conf && cp -r remote inside"
    );
    succeed(place.host("sh").args(["-ec", &prepare]))?;
    // A commit that waits for replicas waits for the one inside.
    let options = "-c wal_level=logical -c synchronous_standby_names=inside \
                   -c synchronous_commit=local";
    let peer: Running = place.serve(&server(place, "remote", 9088, options), READY)?;
    let mut container = Container::start(place, &["-p", "18088:5432"])?;
    let options = "-c wal_retrieve_retry_interval=100ms";
    let script = server(place, "inside", 5432, options);
    container.serve(&format!("sh -c '{}'", script.replace('\'', "\"")), READY)?;

    let (local, published) = (uri("127.0.0.1", 9088), uri(&HOST_V4.to_string(), 18088));
    let psql = "psql -XqAt -v ON_ERROR_STOP=1";
    for to in [&local, &published] {
        place.ask(&format!(
            "{BIN}; \"$PG/pgbench\" -iq {to} && {psql} -c 'create table t (id int)' {to}"
        ))?;
    }
    place.ask(&format!("{psql} -c 'create publication p for table t' {local}"))?;
    let subscribe = format!(
        "create subscription inside connection '{}' publication p",
        uri(&REMOTE_V4.to_string(), 9088)
    );
    place.ask(&format!("{psql} -c \"{subscribe}\" {published}"))?;

    let place = place.clone();
    let mut rows = 0;
    let round = move |container: &mut Container| {
        let bench = |to: &str, options: &str| {
            let each = TRANSACTIONS / CLIENTS;
            format!("{BIN}; \"$PG/pgbench\" -n -c {CLIENTS} -t {each} {options} {to}")
        };
        let done = format!("processed: {TRANSACTIONS}/{TRANSACTIONS}");
        let said = container.ask(&bench(&uri(&REMOTE_V4.to_string(), 9088), "-C"))?;
        ensure!(said.contains(&done), "pgbench inside: {said}");
        for host in [HOST_V4.to_string(), format!("[{HOST_V6}]")] {
            let said = place.ask(&bench(&uri(&host, 18088), ""))?;
            ensure!(said.contains(&done), "pgbench on the remote: {said}");
        }
        let six = uri(&format!("[{REMOTE_V6}]"), 9088);
        let seen = container.ask(&format!("{psql} -c 'select inet_client_addr()' {six}"))?;
        ensure!(seen.lines().any(|line| line == HOST_V6.to_string()), "client: {seen}");
        // The subscriber connects anew, and gets what is committed meanwhile.
        rows += 1;
        place.ask(&format!(
            "{psql} -c 'select pg_terminate_backend(pid) from pg_stat_replication' \
             -c 'set synchronous_commit = remote_apply' -c 'insert into t values ({rows})' {local}"
        ))?;
        let got = place.ask(&format!("{psql} -c 'select count(*) from t' {published}"))?;
        ensure_eq!(got, format!("{rows}\n"), "rows that came to the subscriber");
        Ok(())
    };
    Ok(Subject { container, peers: vec![peer], round: Box::new(round) })
}
