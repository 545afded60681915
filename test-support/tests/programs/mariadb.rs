//! MariaDB: a published server that replicates a server on the remote, and clients of both.

use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6};
use test_support::{Result, ensure, ensure_eq};

use crate::container::Container;
use crate::place::{Place, succeed};
use crate::program::{Expected, Program, Subject};

pub(crate) const MARIADB: Program = Program {
    name: "mariadb_and_its_replica",
    requires: &[Requirement::Program("mariadbd"), Requirement::Program("mariadb-slap")],
    start,
    // The clients of the benchmark, over either family, and the replica, which comes back.
    expected: Expected { switched: (2, 17), otherwise: &["left/local", "left/protocol"] },
};

const READY: &str = "ready for connections";

fn server(place: &Place<'_>, name: &str, port: u16, id: u8) -> String {
    let at = place.path(name);
    format!(
        "mariadbd --no-defaults --datadir={at} --socket={at}.sock --pid-file={at}.pid \
         --port={port} --bind-address='*' --skip-name-resolve --server-id={id} --log-bin \
         --init-file={} --innodb-buffer-pool-size=16M --innodb-log-file-size=8M \
         --innodb-flush-log-at-trx-commit=0 --performance-schema=off",
        place.path("init.sql")
    )
}

fn client(host: &str, port: u16, statements: &str) -> String {
    format!("mariadb --no-defaults -u test -h {host} -P {port} -N -B -e \"{statements}\"")
}

fn slap(host: &str, port: u16, schema: &str) -> String {
    format!(
        "mariadb-slap --no-defaults -u test -h {host} -P {port} --create-schema={schema} \
         --concurrency=8 --number-of-queries=200 --auto-generate-sql"
    )
}

fn start<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    place.file("init.sql", "CREATE OR REPLACE USER test@'%';\nGRANT ALL ON *.* TO test@'%';\n")?;
    let prepare = "mariadb-install-db --no-defaults --auth-root-authentication-method=normal \
         --datadir=\"$PWD/remote\" --skip-test-db && cp -r remote inside";
    succeed(place.host("sh").args(["-ec", prepare]))?;
    let peer = place.serve(&format!("exec {}", server(place, "remote", 9089, 1)), READY)?;
    let mut container = Container::start(place, &["-p", "18089:3306"])?;
    container.serve(&server(place, "inside", 3306, 2), READY)?;
    let (local, published) = ("127.0.0.1", HOST_V4.to_string());
    let replicate = format!(
        "CHANGE MASTER TO MASTER_HOST='{REMOTE_V4}', MASTER_PORT=9089, MASTER_USER='test', \
         MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos; START SLAVE"
    );
    place.ask(&client(&published, 18089, &replicate))?;
    place.ask(&client(local, 9089, "CREATE DATABASE here; CREATE TABLE here.t (id INT)"))?;
    let place = place.clone();
    let mut rows = 0;
    let round = move |container: &mut Container| {
        for (remote, host) in [
            (REMOTE_V4.to_string(), HOST_V4.to_string()),
            (REMOTE_V6.to_string(), HOST_V6.to_string()),
        ] {
            let said = container.ask(&slap(&remote, 9089, "out"))?;
            ensure!(said.contains("Average number of queries per client"), "{said}");
            let said = place.ask(&slap(&host, 18089, "in"))?;
            ensure!(said.contains("Average number of queries per client"), "{said}");
        }
        // The replica connects anew.
        place.ask(&client(&published, 18089, "STOP SLAVE IO_THREAD; START SLAVE IO_THREAD"))?;
        rows += 1;
        let insert = format!("INSERT INTO here.t VALUES ({rows}); SELECT @@gtid_binlog_pos");
        let position = place.ask(&client(local, 9089, &insert))?;
        let wait = format!("SELECT MASTER_GTID_WAIT('{}', 60)", position.trim());
        ensure_eq!(place.ask(&client(&published, 18089, &wait))?, "0\n", "wait for the replica");
        let count = place.ask(&client(&published, 18089, "SELECT COUNT(*) FROM here.t"))?;
        ensure_eq!(count, format!("{rows}\n"), "rows that came to the replica");
        Ok(())
    };
    Ok(Subject { container, peers: vec![peer], round: Box::new(round) })
}
