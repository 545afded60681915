//! The steps inside the namespaces: see [`plan`](super::plan).

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::mpsc;
use std::thread;

use bypass_core::weaken::{self, Layer};
use nix::sched::CloneFlags;
use rustix::process::{DumpableBehavior, PidfdFlags, Signal, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccomp_notify::{InstallError, Listener};

use super::plan::{Message, Plan, STEPS, wait_for_go};
use super::{landlock, network, resolver};
use crate::channel::Channel;
use crate::confine;
use crate::doctor;
use crate::exit;
use crate::filter::{Traps, filter};

/// What went wrong in a step, told to the user by the parent.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("no namespaces can be made here; {remedy}")]
    Unshare { remedy: String, source: nix::Error },
    #[error("the ids inside cannot be set ({path}); `bypass-cli doctor` may say why")]
    IdMap { path: &'static str, source: io::Error },
    #[error("the mount namespace cannot be made private")]
    Private(#[source] io::Error),
    #[error("/etc/resolv.conf cannot be replaced inside")]
    ResolvConf(#[source] io::Error),
    #[error("the loopback device cannot be set up; `bypass-cli doctor` may say why")]
    Loopback(#[source] io::Error),
    #[error(
        "/proc cannot be mounted inside; where this runs in a container itself, start that one \
         with a /proc of which nothing is masked (podman: --security-opt unmask=ALL, docker: \
         --security-opt systempaths=unconfined)"
    )]
    MountProc(#[source] io::Error),
    #[error("capabilities cannot be handed on or dropped")]
    Capabilities(#[source] io::Error),
    #[error("the next step cannot be started; see `ulimit -u`, the limit on processes")]
    Spawn(#[source] io::Error),
    #[error("the command cannot be waited for")]
    Wait(#[source] io::Error),
    #[error("the Landlock layer cannot be set up, which is a bug, please report it")]
    Landlock(#[source] ::landlock::RulesetError),
    #[error(
        "this is under a supervisor already: a command of `run`, or a container that is bypassed. Its \
         connections are at host speed as they are; leave `run` out, or start it outside"
    )]
    Nested,
    #[error("the seccomp filter cannot be installed; `bypass-cli doctor` may say why")]
    Filter(#[source] InstallError),
    #[error("the parent cannot be reached")]
    Control(#[source] io::Error),
    #[error("the parent has gone")]
    Orphaned,
}

/// Runs the step that the command line names, if it names one.
pub(crate) fn stage() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let name = args.next()?;
    let step = STEPS.iter().position(|step| *step == name)?;
    let plan: Plan = serde_json::from_str(args.next()?.to_str()?).ok()?;
    let command: Vec<OsString> = args.collect();
    let control = Channel::inherited(plan.control).ok()?;
    let result = match step {
        0 => namespace(&control, &plan, &command),
        1 => init(&control, &plan, &command),
        _ => run_command(&control, &plan, &command),
    };
    Some(result.unwrap_or_else(|error| {
        let what = exit::chain(&error);
        // Without a parent there is nobody to tell.
        control.send(&Message::Failed { what }, None).ok();
        ExitCode::from(exit::OWN_FAILURE)
    }))
}

/// This program again, as one of the steps.
pub(super) fn step(
    index: usize,
    plan: &Plan,
    control: &Channel,
    command: &[OsString],
) -> io::Result<Child> {
    let plan = Plan { control: control.pass_on()?, ..plan.clone() };
    let name = STEPS.get(index).copied().unwrap_or_default();
    Command::new("/proc/self/exe")
        .arg0(name)
        .arg(serde_json::to_string(&plan)?)
        .args(command)
        .spawn()
}

/// Step 1: makes the namespaces and what belongs into them.
fn namespace(control: &Channel, plan: &Plan, command: &[OsString]) -> Result<ExitCode, StepError> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    nix::sched::unshare(
        CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID,
    )
    .map_err(|source| StepError::Unshare { remedy: doctor::namespaces_remedy(), source })?;
    die_with(plan.parent)?;
    let (inner_uid, inner_gid) = if plan.map_root { (0, 0) } else { (uid, gid) };
    for (path, content) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{inner_uid} {uid} 1")),
        ("/proc/self/gid_map", format!("{inner_gid} {gid} 1")),
    ] {
        std::fs::write(path, content).map_err(|source| StepError::IdMap { path, source })?;
    }
    // Nothing mounted inside shows outside.
    let private =
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|errno| StepError::Private(errno.into()))?;
    if let Some(content) = &plan.resolv_conf {
        resolver::install(content).map_err(StepError::ResolvConf)?;
    }
    network::raise_loopback().map_err(StepError::Loopback)?;

    let pid = std::process::id();
    control.send(&Message::Namespaces { pid }, None).map_err(StepError::Control)?;
    if !wait_for_go(control).map_err(StepError::Control)? {
        return Err(StepError::Orphaned);
    }
    // Whoever has attached a network has looked at us, and nobody else is to.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| StepError::Capabilities(errno.into()))?;
    // A user other than root loses all capabilities at execve, unless they are ambient;
    // the next step needs them to mount /proc, and drops them.
    set_ambient(true).map_err(StepError::Capabilities)?;
    let plan = Plan { parent: pid, ..plan.clone() };
    let mut child = step(1, &plan, control, command).map_err(StepError::Spawn)?;
    // Terminal signals are for the command; this process only passes its status on.
    nix::sys::signal::SigSet::all().thread_block().ok();
    let status = child.wait().map_err(StepError::Wait)?;
    Ok(ExitCode::from(code(status)))
}

/// Step 2: is pid 1 inside, so that whatever the command leaves behind ends with it.
fn init(control: &Channel, plan: &Plan, command: &[OsString]) -> Result<ExitCode, StepError> {
    // Inside, the parent's number shows as 0 as long as it is there.
    die_with(0)?;
    rustix::mount::mount(
        "proc",
        "/proc",
        "proc",
        rustix::mount::MountFlags::NOSUID
            | rustix::mount::MountFlags::NODEV
            | rustix::mount::MountFlags::NOEXEC,
        None,
    )
    .map_err(|errno| StepError::MountProc(errno.into()))?;
    set_ambient(false).map_err(StepError::Capabilities)?;
    let child = step(2, plan, control, command).map_err(StepError::Spawn)?;
    // What the command's processes could learn or take from pid 1 is none of theirs.
    if !weaken::is_off(Layer::Init) {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|errno| StepError::Capabilities(errno.into()))?;
    }
    let id = rustix::process::Pid::from_child(&child);
    if let Ok(pidfd) = rustix::process::pidfd_open(id, PidfdFlags::empty()) {
        control.send(&Message::Command, Some(pidfd.as_fd())).map_err(StepError::Control)?;
    }
    // Orphans come to pid 1 and are reaped until it is the command's turn.
    let status = loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == id => {
                break code(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(StepError::Wait(errno.into())),
        }
    };
    control.send(&Message::Exited { status }, None).map_err(StepError::Control)?;
    Ok(ExitCode::from(status))
}

/// Step 3: puts on the layers and becomes the command.
fn run_command(
    control: &Channel,
    plan: &Plan,
    command: &[OsString],
) -> Result<ExitCode, StepError> {
    let [program, arguments @ ..] = command else { return Err(StepError::Orphaned) };
    let netns_cookie = network::own_netns_cookie();
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| StepError::Capabilities(errno.into()))?;
    let landlock = landlock::restrict().map_err(StepError::Landlock)?;
    // kill(0) reaches all of a process group, and so the supervisor and whoever started it.
    let signals = confine::scope().map_err(StepError::Landlock)?;
    install_filter(plan.traps, |listener| {
        control
            .send(&Message::Listener { netns_cookie, landlock, signals }, Some(listener.as_fd()))
            .map_err(StepError::Control)
    })?;
    let error = Command::new(program).args(arguments).exec();
    let errno = error.raw_os_error().unwrap_or(0);
    control.send(&Message::ExecFailed { errno }, None).map_err(StepError::Control)?;
    let status = if errno == libc::ENOENT { exit::NOT_FOUND } else { exit::NOT_EXECUTABLE };
    Ok(ExitCode::from(status))
}

/// Binds the calling thread to the filter, and hands the listener on from a thread that it
/// does not bind: it may trap sendmsg(2), which nobody answers before the listener is there.
fn install_filter(
    traps: Traps,
    hand_on: impl FnOnce(Listener) -> Result<(), StepError> + Send,
) -> Result<(), StepError> {
    thread::scope(move |scope| {
        let (sender, receiver) = mpsc::channel();
        let free = scope.spawn(move || receiver.recv().map_or(Ok(()), hand_on));
        // Without a listener the sender goes, and with it the other thread.
        let listener = filter(traps).install().map_err(|error| match error {
            // The kernel has one for a chain of filters, seccomp(2).
            InstallError::ListenerExists => StepError::Nested,
            other => StepError::Filter(other),
        })?;
        sender.send(listener).ok();
        free.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Has the kernel end this process with the thread that started it.
fn die_with(parent: u32) -> Result<(), StepError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| StepError::Capabilities(errno.into()))?;
    // It may have gone before we asked.
    if std::os::unix::process::parent_id() == parent { Ok(()) } else { Err(StepError::Orphaned) }
}

/// Makes all capabilities ambient, or none.
fn set_ambient(on: bool) -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    if on {
        let sets = rustix::thread::capabilities(None)?;
        rustix::thread::set_capabilities(
            None,
            CapabilitySets { inheritable: sets.permitted, ..sets },
        )?;
        for capability in sets.permitted.iter() {
            rustix::thread::configure_capability_in_ambient_set(capability, true)?;
        }
    } else {
        let sets = rustix::thread::capabilities(None)?;
        rustix::thread::set_capabilities(
            None,
            CapabilitySets { inheritable: CapabilitySet::empty(), ..sets },
        )?;
    }
    Ok(())
}

fn code(status: ExitStatus) -> u8 {
    let number = |value: i32| u8::try_from(value).unwrap_or(exit::OWN_FAILURE);
    match (status.code(), status.signal()) {
        (Some(code), _) => number(code),
        (None, Some(signal)) => exit::SIGNAL_BASE.saturating_add(number(signal)),
        (None, None) => exit::OWN_FAILURE,
    }
}
