//! OpenSSH: commands and files by a server on the remote, files by a published server, and rsync
//! over it and by its own daemon.

use test_support::process::{self, Running};
use test_support::requirement::Requirement;
use test_support::world::{HOST_V4, HOST_V6, REMOTE_V4, REMOTE_V6, USER};
use test_support::{Result, ensure, ensure_eq};

use crate::container::Container;
use crate::place::{LIMIT, Place, succeed};
use crate::program::{Expected, Program, Subject};
use crate::web;

pub(crate) const SSH: Program = Program {
    name: "ssh_and_scp",
    requires: &[
        Requirement::Program("ssh"),
        Requirement::Program("sshd"),
        Requirement::Program("nginx"),
    ],
    start: ssh,
    expected: Expected {
        switched: (2, 5),
        otherwise: &["left/local", "left/host_loopback", "left/protocol"],
    },
};

pub(crate) const RSYNC: Program = Program {
    name: "rsync_over_ssh_and_by_its_daemon",
    requires: &[
        Requirement::Program("ssh"),
        Requirement::Program("sshd"),
        Requirement::Program("rsync"),
    ],
    start: rsync,
    // Names are looked up for the log, and no name server answers.
    expected: Expected { switched: (1, 4), otherwise: &["left/protocol", "failed/allowed"] },
};

/// What both sides need: keys, and the client's options.
fn prepare(place: &Place<'_>) -> Result<String> {
    let keys = "for key in host client; do ssh-keygen -q -t ed25519 -N '' -f $key; done";
    succeed(place.host("sh").args(["-ec", keys]))?;
    Ok(format!(
        "-i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
         -o BatchMode=yes",
        place.path("client")
    ))
}

/// The options of a server that listens at a port and takes that key.
fn server(place: &Place<'_>, port: u16) -> String {
    format!(
        "$(command -v sshd) -D -e -f /dev/null -p {port} -h {} -o AuthorizedKeysFile={} \
         -o 'Subsystem=sftp internal-sftp' -o StrictModes=no -o UsePAM=no -o PidFile=none -o PermitRootLogin=yes",
        place.path("host"),
        place.path("client.pub")
    )
}

/// One on the remote, which has to be root's in order to run commands.
fn remote(place: &Place<'_>, port: u16) -> Result<Running> {
    // It wants a directory that its service would make, and an account that is not locked.
    let script = format!(
        "mount --rbind /run /mnt && mount -t tmpfs tmpfs /run && \
         mkdir /run/sshd /run/bypass-test && mount --rbind /mnt/bypass-test /run/bypass-test && \
         umask 077 && sed 's/^root:[^:]*/root:*/' /etc/shadow > /run/shadow && \
         mount --bind /run/shadow /etc/shadow && umask 022 && exec {} 2>&1",
        server(place, port)
    );
    let mut command = place.world.in_remote("unshare");
    let mut server = process::start(command.args(["--mount", "--", "sh", "-c", &script]))?;
    server.line("Server listening on 0.0.0.0", LIMIT)?;
    Ok(server)
}

fn ssh<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let options = prepare(place)?;
    let peer = remote(place, 9022)?;
    let web = web::remote(place, 9101)?;
    let mut container = Container::start(place, &["-p", "18022:8022"])?;
    // The user has no shell, and takes none for files.
    let server = format!("{} -o ForceCommand=internal-sftp", server(place, 8022));
    container.serve(&server, "Server listening on 0.0.0.0")?;
    place.file("sent", "x".repeat(1 << 20))?;
    let place = place.clone();
    let round = move |container: &mut Container| {
        for (to, seen) in [
            (REMOTE_V4.to_string(), HOST_V4.to_string()),
            (REMOTE_V6.to_string(), HOST_V6.to_string()),
        ] {
            let ssh = format!("ssh {options} -p 9022 root@{to}");
            let said = container.ask(&format!("{ssh} 'echo ${{SSH_CONNECTION%% *}}'"))?;
            ensure!(said.lines().any(|line| line == seen), "client that sshd sees: {said}");
        }
        let (at, scp) = (place.path(""), format!("scp -q {options} -P 9022"));
        container.ask(&format!(
            "{scp} sent root@{REMOTE_V4}:{at}there && {scp} root@{REMOTE_V4}:{at}there back && \
             cmp sent back; ok=$?; rm -f there back; (exit $ok)"
        ))?;
        // A forwarded port: the client listens inside, the server connects there.
        let ssh = format!("ssh {options} -p 9022 root@{REMOTE_V4}");
        let who = container.ask(&format!(
            "{ssh} -f -M -S control -N -L 127.0.0.1:8023:{REMOTE_V4}:9101 -o ExitOnForwardFailure=yes \
             && curl -sSf -m 60 http://127.0.0.1:8023/who && {ssh} -S control -O exit 2> /dev/null"
        ))?;
        ensure!(who.lines().any(|line| line == REMOTE_V4.to_string()), "behind the tunnel: {who}");
        for host in [HOST_V4.to_string(), format!("[{HOST_V6}]")] {
            let scp = format!("scp -q {options} -P 18022");
            place.ask(&format!(
                "{scp} sent {USER}@{host}:{at}there && {scp} {USER}@{host}:{at}there back && \
                 cmp sent back && rm there back"
            ))?;
        }
        Ok(())
    };
    Ok(Subject { container, peers: vec![peer, web], round: Box::new(round) })
}

const TREE: &str = "mkdir tree; for n in $(seq 200); do head -c 5000 /dev/urandom > tree/$n; done";

fn rsync<'w>(place: &Place<'w>) -> Result<Subject<'w>> {
    let options = prepare(place)?;
    let peer = remote(place, 9023)?;
    succeed(place.host("sh").args(["-ec", TREE]))?;
    let module = format!("use chroot = no\n[files]\npath = {}\nread only = no\n", place.path(""));
    let daemon = "rsync --daemon --no-detach --log-file=/dev/stdout";
    let outside = place.file("outside.conf", &module)?;
    // It opens the file, which it may if the pipe is its user's own.
    let outside = format!("{daemon} --config={outside} --port=9873 | cat");
    let outside = place.serve(&outside, "listening on port")?;
    let mut container = Container::start(place, &["-p", "18873:8873"])?;
    let inside = place.file("inside.conf", &module)?;
    container
        .serve(&format!("{daemon} --config={inside} --port=8873 | cat"), "listening on port")?;
    let place = place.clone();
    let round = move |container: &mut Container| {
        let at = place.path("");
        let ways = [
            format!("-e 'ssh {options} -p 9023' tree root@{REMOTE_V4}:{at}there"),
            format!("-e 'ssh {options} -p 9023' root@{REMOTE_V4}:{at}there/tree back"),
            format!("rsync://[{REMOTE_V6}]:9873/files/tree by-daemon"),
            format!("tree rsync://{REMOTE_V4}:9873/files/to-daemon"),
        ];
        for way in ways {
            container.ask(&format!("rsync -a {way}"))?;
        }
        let same = "diff -r tree back/tree && diff -r tree by-daemon/tree && \
                    diff -r tree to-daemon/tree";
        container
            .ask(&format!("{same}; ok=$?; rm -rf there back by-daemon to-daemon; (exit $ok)"))?;
        let said = place.ask(&format!(
            "rsync -a rsync://{HOST_V4}:18873/files/tree by-published && \
             diff -r tree by-published/tree; echo $?; rm -rf by-published"
        ))?;
        ensure_eq!(said, "0\n", "files of the published daemon");
        Ok(())
    };
    Ok(Subject { container, peers: vec![peer, outside], round: Box::new(round) })
}
