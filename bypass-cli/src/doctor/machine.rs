//! The kernel, its settings, and what the user may.

use std::fs::{self, File};

use nix::unistd::{Uid, User};
use seccomp_notify::Features;

use super::Finding;

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = vec![notifications(), cookies()];
    findings.extend(USER_NAMESPACES.iter().filter_map(Setting::finding));
    let forbidden = OTHER_NAMESPACES.iter().filter_map(Setting::finding);
    findings.extend(forbidden.filter(|finding| finding.remedy.is_some()));
    findings.push(subordinate_ids());
    findings.push(tun());
    findings.push(ports());
    findings.extend(YAMA.finding());
    findings
}

fn notifications() -> Finding {
    let about = "seccomp notifications";
    if Features::probe().user_notif {
        return Finding::ok(about, "the kernel has them");
    }
    Finding::failed(
        about,
        "the kernel has none, or a filter forbids seccomp(2)",
        "use Linux 5.14 or later; in a container, allow seccomp(2) in its profile",
    )
}

fn cookies() -> Finding {
    let about = "SO_NETNS_COOKIE";
    match netns_socket::own_netns_cookie() {
        Ok(Some(_)) => Finding::ok(about, "the kernel has it"),
        Ok(None) | Err(_) => {
            Finding::failed(about, "the kernel lacks it", "use Linux 5.14 or later")
        }
    }
}

/// A file of /proc/sys with a number that says no.
struct Setting {
    about: &'static str,
    path: &'static str,
    says_no: fn(i64) -> bool,
    remedy: &'static str,
    /// Whether nothing can be done then.
    fatal: bool,
}

const USER_NAMESPACES: &[Setting] = &[
    Setting {
        about: "user.max_user_namespaces",
        path: "/proc/sys/user/max_user_namespaces",
        says_no: |number| number == 0,
        remedy: "have the administrator run `sysctl user.max_user_namespaces=15000`",
        fatal: true,
    },
    Setting {
        about: "kernel.unprivileged_userns_clone",
        path: "/proc/sys/kernel/unprivileged_userns_clone",
        says_no: |number| number == 0,
        remedy: "have the administrator run `sysctl kernel.unprivileged_userns_clone=1`",
        fatal: true,
    },
    Setting {
        about: "kernel.apparmor_restrict_unprivileged_userns",
        path: "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        says_no: |number| number != 0,
        remedy: "have the administrator install an AppArmor profile for bypass-cli with `userns,`, or \
                 run `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        fatal: false,
    },
];

/// What to do where `run` could make no namespaces, for its message.
pub(crate) fn namespaces_remedy() -> String {
    let settings = USER_NAMESPACES.iter().chain(OTHER_NAMESPACES).filter_map(Setting::finding);
    let mut said: Vec<String> = settings
        .filter_map(|finding| {
            Some(format!("{} is {}: {}", finding.about, finding.found, finding.remedy?))
        })
        .collect();
    if said.is_empty() {
        said.push(
            "no setting forbids it: is this in a container or sandbox, whose profile forbids \
             unshare(2), or at the end of a limit (`sysctl -a -r max_.*_namespaces`)?"
                .to_owned(),
        );
    }
    said.join("; ")
}

/// The other kinds that `run` makes. Nobody sets these but to forbid them.
const OTHER_NAMESPACES: &[Setting] = &[
    Setting {
        about: "user.max_net_namespaces",
        path: "/proc/sys/user/max_net_namespaces",
        says_no: |number| number == 0,
        remedy: "have the administrator run `sysctl user.max_net_namespaces=15000`",
        fatal: true,
    },
    Setting {
        about: "user.max_mnt_namespaces",
        path: "/proc/sys/user/max_mnt_namespaces",
        says_no: |number| number == 0,
        remedy: "have the administrator run `sysctl user.max_mnt_namespaces=15000`",
        fatal: true,
    },
    Setting {
        about: "user.max_pid_namespaces",
        path: "/proc/sys/user/max_pid_namespaces",
        says_no: |number| number == 0,
        remedy: "have the administrator run `sysctl user.max_pid_namespaces=15000`",
        fatal: true,
    },
];

/// Taking sockets out of containers needs ptrace access.
const YAMA: Setting = Setting {
    about: "kernel.yama.ptrace_scope",
    path: "/proc/sys/kernel/yama/ptrace_scope",
    says_no: |number| number >= 3,
    remedy: "have the administrator boot with `kernel.yama.ptrace_scope` below 3, which cannot be \
             lowered later",
    fatal: true,
};

impl Setting {
    /// `None` where the kernel has no such setting.
    fn finding(&self) -> Option<Finding> {
        let number: i64 = fs::read_to_string(self.path).ok()?.trim().parse().ok()?;
        let found = number.to_string();
        Some(match ((self.says_no)(number), self.fatal) {
            (false, _) => Finding::ok(self.about, found),
            (true, false) => Finding::warning(self.about, found, self.remedy),
            (true, true) => Finding::failed(self.about, found, self.remedy),
        })
    }
}

/// OCI runtimes and engines map a range of ids; `run` does without.
fn subordinate_ids() -> Finding {
    let about = "subordinate ids";
    let uid = Uid::current();
    let name = User::from_uid(uid).ok().flatten().map_or_else(String::new, |user| user.name);
    if ["newuidmap", "newgidmap"].iter().any(|program| super::runtimes::find(program).is_none()) {
        let remedy = "install them (Debian: uidmap); container engines need them";
        return Finding::warning(about, "newuidmap or newgidmap is not in PATH", remedy);
    }
    let lacking: Vec<&str> = ["/etc/subuid", "/etc/subgid"]
        .into_iter()
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let of = |line: &str| line.split(':').next().map(str::to_owned);
            !uid.is_root()
                && !text.lines().filter_map(of).any(|who| who == name || who == uid.to_string())
        })
        .collect();
    if lacking.is_empty() {
        return Finding::ok(about, "there are some, and newuidmap and newgidmap");
    }
    Finding::warning(
        about,
        format!("none in {}", lacking.join(" and ")),
        format!(
            "have the administrator run `usermod --add-subuids 100000-165535 --add-subgids \
             100000-165535 {name}`, with a range that nobody has"
        ),
    )
}

/// For slirp4netns and pasta, which carry what is not bypassed.
fn tun() -> Finding {
    let about = "/dev/net/tun";
    match File::options().read(true).write(true).open(about) {
        Ok(_) => Finding::ok(about, "can be opened"),
        Err(error) => Finding::warning(
            about,
            error.to_string(),
            "have the administrator run `modprobe tun; chmod 666 /dev/net/tun`; slirp4netns and pasta \
             need it, for what is not bypassed",
        ),
    }
}

fn ports() -> Finding {
    let about = "net.ipv4.ip_unprivileged_port_start";
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let start = fs::read_to_string(path).unwrap_or_default();
    Finding::ok(about, format!("{}: lower host ports cannot be published", start.trim()))
}
