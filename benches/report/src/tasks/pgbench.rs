//! pgbench, selecting, against a PostgreSQL on the remote.

use test_support::failure::{Context, Result};
use test_support::process::{self, PATIENCE, Running};
use test_support::world::REMOTE_V4;

use super::{Figures, Task};
use crate::lab::{LIMIT, Lab, finish};
use crate::ways::Way;

pub(super) fn tasks() -> Vec<Box<dyn Task>> {
    vec![Box::new(Pgbench::default())]
}

#[derive(Default)]
struct Pgbench {
    /// The program itself: Debian's wrapper of that name is a script in Perl.
    program: String,
    _server: Option<Running>,
}

impl Task for Pgbench {
    fn keys(&self) -> &'static [&'static str] {
        &["pgbench", "pgbench-connect"]
    }

    fn prepare(&mut self, lab: &Lab<'_>) -> Result {
        let mut find = lab.world.as_user("sh");
        let found = finish(find.args(["-c", "ls -d /usr/lib/postgresql/*/bin | tail -n 1"]))?;
        let bin = found.stdout.trim();
        self.program = format!("{bin}/pgbench");
        let directory = lab.world.directory("postgres")?;
        let script = format!(
            "PATH={bin}:$PATH; initdb -D data -A trust -N -U postgres --no-locale -E UTF8 > /dev/null
             echo 'host all all all trust' >> data/pg_hba.conf
             exec postgres -D data -p {PORT} -h 0.0.0.0 -k '' -c fsync=off -c shared_buffers=64MB \
               -c autovacuum=off 2>&1"
        );
        let mut server = lab.remote("sh");
        server.args(["-ec", &script]).current_dir(&directory);
        let mut server = process::start(&mut server)?;
        server.line("ready to accept connections", LIMIT)?;
        let mut fill = lab.remote(&self.program);
        process::run(fill.args(["-iq"]).args(to()), PATIENCE)?.success()?;
        self._server = Some(server);
        Ok(())
    }

    fn measure(&self, lab: &Lab<'_>, way: &Way) -> Result<Figures> {
        let rate = |transactions: u32, options: &[&str]| -> Result<f64> {
            let (transactions, to) = (transactions.to_string(), to());
            let words =
                [&*self.program, "-S", "-n", "-c", "4", "-j", "2", "-t", &transactions].into_iter();
            let words: Vec<&str> =
                words.chain(options.iter().copied()).chain(to.iter().map(String::as_str)).collect();
            let finished = finish(&mut way.command(lab.world, &words)?)?;
            let line = finished.stdout.lines().find_map(|line| line.strip_prefix("tps = "));
            let rate = line.and_then(|rest| rest.split(' ').next()?.parse().ok());
            rate.context("a rate").map_err(|_none| finished.failure("no rate"))
        };
        Ok(vec![
            ("pgbench", rate(lab.choose(2_500, 250), &[])?),
            ("pgbench-connect", rate(lab.choose(100, 10), &["-C"])?),
        ])
    }
}

fn to() -> Vec<String> {
    let words = ["-h", &REMOTE_V4.to_string(), "-p", PORT, "-U", "postgres", "postgres"];
    words.map(str::to_owned).to_vec()
}

const PORT: &str = "9088";
