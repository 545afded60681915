//! What `--help` says below the options, and the man pages after them.
//!
//! A line at the margin that ends with a colon is a heading. The others are shown as they stand, so they
//! are at most 80 columns wide. Examples begin with `$ `: tests parse every one of them.

pub(crate) const CLI: &str = "\
Examples:
  $ bypass-cli run -- curl https://example.org
      A command with networking of its own, at the host's speed.
  $ bypass-cli doctor
      What of this machine stands in the way, and what to do about it.
  $ bypass-cli help run
      All options of a command.

Files:
  $XDG_CONFIG_HOME/bypass/config.toml
      Options that are not given on the command line; without XDG_CONFIG_HOME
      it is ~/.config/bypass/config.toml.

Environment:
  NO_COLOR
      Not empty: no colours. There are none but on terminals in any case.
  XDG_RUNTIME_DIR
      Where sockets are by default.";

pub(crate) const RUN: &str = "\
Examples:
  $ bypass-cli run -- curl https://example.org
      Nothing but TCP connections to the outside, made by the host.
  $ bypass-cli run --net pasta --udp connected -- sh
      A shell that has a network for everything else too.
  $ bypass-cli run --map-root -p 127.0.0.1:8080:80 -- nginx -g 'daemon off;'
      A server on port 80, published on port 8080 of the host's loopback.
  $ bypass-cli run --deny-preset metadata,private,host -- ./untrusted
      Only the Internet may be reached.
  $ bypass-cli run --report - --audit log.jsonl -- make
      What was enforced and decided, at the end; every destination, as it comes.

Exit status:
  That of the command, or
  125   run itself failed
  126   the command could not be executed
  127   the command was not found
  128+N signal N ended the command

Files:
  $XDG_CONFIG_HOME/bypass/config.toml
      What stands above its tables, and in [run].";

pub(crate) const SERVE: &str = "\
Examples:
  $ bypass-cli serve --deny-preset metadata
      Containers whose profile `bypass-cli profile --deny-preset metadata` made.
  $ bypass-cli serve --publish 8080:80 --ignore auto
      Port 80 of the first container that binds it, on port 8080 of the host.
  $ bypass-cli serve --policy policy.toml --pid-file serve.pid
      After a change of the file: kill -HUP $(cat serve.pid).

Signals:
  HUP   reads the policy anew, for containers that run as well
  TERM  ends it, and with it the networking of its containers

Exit status:
  0     it was told to end
  125   it failed

Files:
  $XDG_RUNTIME_DIR/bypass4netns.sock
      Where runtimes connect.
  $XDG_CONFIG_HOME/bypass/config.toml
      What stands above its tables, and in [serve].";

pub(crate) const DAEMON: &str = "\
Examples:
  $ bypass-cli daemon
      What nerdctl takes for bypass4netnsd.
  $ bypass-cli daemon --deny-preset metadata,host --audit audit.jsonl
      The same, with a policy for all containers and a record of destinations.

Signals:
  HUP   reads the policy anew, for containers that run as well
  TERM  ends the API; containers keep what they have

Exit status:
  0     it was told to end
  125   it failed

Files:
  $XDG_RUNTIME_DIR/bypass4netnsd.sock, bypass4netnsd-com.sock
      Where engines connect.
  $XDG_CONFIG_HOME/bypass/config.toml
      What stands above its tables, and in [daemon]. As bypass4netnsd the
      program does not read it.";

pub(crate) const PROFILE: &str = "\
Examples:
  $ bypass-cli profile --base podman > bypass.json
      For linux.seccomp of a bundle.
  $ bypass-cli profile --base docker --format docker > bypass.json
      For docker run --security-opt seccomp=bypass.json.
  $ bypass-cli profile --base podman --udp all --explain
      What is different from the base.

Exit status:
  0     the profile was printed
  125   it could not be made

Files:
  /usr/share/containers/seccomp.json
      The profile of Podman, for --base podman.
  $XDG_CONFIG_HOME/bypass/config.toml
      What stands above its tables, and in [profile].";

pub(crate) const OCI_RUNTIME: &str = "\
Examples:
  $ bypass-cli oci-runtime --runtime crun run --bundle /srv/web web
      A container of crun's.
  $ docker run --runtime bypass alpine
      With this in daemon.json:
      { \"runtimes\": { \"bypass\": { \"path\": \"/usr/local/bin/bypass-runtime\" } } }
      where bypass-runtime is a link to bypass-cli.

Environment:
  BYPASS_OPTIONS
      Options, between spaces, where the program is called as bypass-runtime,
      bypass-runtime-runc or bypass-runtime-crun, whose arguments are all the
      other runtime's.

Exit status:
  That of the other runtime; 1 if it was not started.

Files:
  $XDG_CONFIG_HOME/bypass/config.toml
      What stands above its tables, and in [oci-runtime].";

pub(crate) const DOCTOR: &str = "\
Examples:
  $ bypass-cli doctor
      For people.
  $ bypass-cli doctor --json
      For programs.

Exit status:
  0     connections can be bypassed here
  1     nothing can be bypassed
  125   the machine could not be looked at";

pub(crate) const EXPLAIN: &str = "\
Examples:
  $ bypass-cli explain --policy policy.toml tcp://10.1.2.3:443
      What becomes of a connection, and the rule that decides, with its line.
  $ bypass-cli explain --deny-preset private --default leave udp://[fd00::1]:53
      Options are tried the same way; nothing is connected.
  $ bypass-cli explain --policy policy.toml --container web-1 tcp://192.0.2.7:25
      For a container that sections of the file are about.

Exit status:
  0     every question was answered, whatever the verdict
  125   the policy has a mistake, which is told with its line

Files:
  $XDG_CONFIG_HOME/bypass/config.toml
      The policy in it counts as well, after that of --policy.";

pub(crate) const STATUS: &str = "\
Examples:
  $ bypass-cli status
      What the server with the default socket serves: daemon first, then serve.
  $ bypass-cli status --json --socket /run/user/1000/other-status.sock
      The same for programs, of a server that was started with another socket.

Exit status:
  0     the server answered
  125   there is none, or it is another user's";

pub(crate) const TOP: &str = "\
Examples:
  $ bypass-cli top
      Once a second, until q or Ctrl-C.
  $ bypass-cli top --interval 0.2
      Five times a second.

Keys:
  q       end
  arrows  choose the container whose reasons are shown
  s       another order: by rate, total or id";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use crate::args::Cli;

    /// The texts of all commands, with their names.
    fn texts() -> Vec<(String, String)> {
        let cli = Cli::command();
        let commands = [&cli].into_iter().chain(cli.get_subcommands());
        commands
            .map(|command| {
                let text = command.get_after_long_help().map(ToString::to_string);
                (command.get_name().to_owned(), text.unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn every_command_has_examples_which_are_understood() {
        for (name, text) in texts() {
            let mut seen = 0;
            for line in text.lines().filter_map(|line| line.strip_prefix("  $ ")) {
                seen += 1;
                let line = line.split(" > ").next().unwrap();
                let words = line.split(' ').map(|word| word.trim_matches('\''));
                let words: Vec<&str> = words.collect();
                if words[0] != "bypass-cli" {
                    continue;
                }
                let help = words[1] == "help";
                match Cli::try_parse_from(&words) {
                    Ok(_) => assert!(!help, "{line}"),
                    Err(said) => assert!(help && !said.use_stderr(), "{line}: {said}"),
                }
            }
            assert!(seen > 0, "{name} has no example");
        }
    }

    #[test]
    fn texts_fit_a_terminal() {
        for (name, text) in texts() {
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
        }
    }
}
