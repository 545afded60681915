//! RabbitMQ, published: its virtual machine, its port mapper and its own distribution are inside,
//! its clients outside.

use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6};
use test_support::{Result, ensure_eq};

use crate::container::Container;
use crate::place::Place;
use crate::program::{Expected, Program, Subject};

pub(crate) const RABBITMQ: Program = Program {
    name: "rabbitmq",
    requires: &[Requirement::Program("rabbitmq-server"), Requirement::Program("python3")],
    start,
    // The port mapper, and the virtual machine that asks it.
    expected: Expected { switched: (1, 0), otherwise: &["left/local", "left/host_loopback"] },
};

fn start<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let client = place.file("queue.py", include_bytes!("sources/queue.py"))?;
    let configuration = place.file(
        "rabbitmq.conf",
        "listeners.tcp.default = 5672\nloopback_users = none\nlog.console = true\n\
         log.console.level = info\nvm_memory_high_watermark.absolute = 256MB\n\
         disk_free_limit.absolute = 1MB\n",
    )?;
    let at = place.path("");
    let mut container = Container::start(place, &["-p", "18090:5672"])?;
    let server = format!(
        "env HOME={at} RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_MNESIA_BASE={at}/mnesia \
         RABBITMQ_LOG_BASE={at}/log RABBITMQ_LOGS=- RABBITMQ_CONFIG_FILE={configuration} \
         RABBITMQ_CONF_ENV_FILE={at}/none RABBITMQ_ENABLED_PLUGINS_FILE={at}/plugins \
         RABBITMQ_PID_FILE={at}/pid /usr/lib/rabbitmq/bin/rabbitmq-server"
    );
    container.serve(&server, "Server startup complete")?;
    let place = place.clone();
    let round = move |_: &mut Container| {
        for host in [HOST_V4.to_string(), HOST_V6.to_string()] {
            let said = place.ask(&format!("python3 {client} {host} 18090 100"))?;
            ensure_eq!(said, "ok\n", "messages through the broker at {host}");
        }
        Ok(())
    };
    Ok(Subject { container, peers: Vec::new(), round: Box::new(round) })
}
