//! Processes that do nothing but make one kind of call, as fast as they can, until they are killed:
//! a hostile container, and for comparison the same without a supervisor.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;

use rustix::event::epoll;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, connect, connect_unspec, listen,
    socket_with,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use test_support::failure::Result;
use test_support::{fail, sys};

/// `processes` of them.
pub(crate) fn flood(kind: &str, address: SocketAddr, processes: usize) -> Result<Value> {
    let program = std::env::current_exe()?;
    let others: Vec<_> = (1..processes)
        .map(|_| Command::new(&program).args(["flood", kind, &address.to_string(), "1"]).spawn())
        .collect::<io::Result<_>>()?;
    let call = call(kind, address)?;
    println!("{}", json!({ "flooding": others.len() + 1 }));
    call.run()
}

/// What is done over and over; none of it needs to succeed.
struct Call(Box<dyn FnMut() -> io::Result<()>>);

impl Call {
    fn run(mut self) -> ! {
        loop {
            (self.0)().ok();
        }
    }
}

fn call(kind: &str, address: SocketAddr) -> Result<Call> {
    Ok(Call(match kind {
        // No call at all: what the others take of the CPUs is taken by this as well.
        "spin" => Box::new(|| {
            std::hint::spin_loop();
            Ok(())
        }),
        "connect" => Box::new(move || Ok(connect(tcp()?, &address)?)),
        // Each time another address, of those that nobody has (RFC 3849).
        "scatter" => {
            let mut number = std::process::id();
            Box::new(move || {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let [a, b, c, d] = number.to_be_bytes().map(u16::from);
                let somewhere = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, a, b, c, d);
                let flags = FLAGS;
                let socket = socket_with(AddressFamily::INET6, SocketType::STREAM, flags, None)?;
                Ok(connect(socket, &SocketAddr::new(somewhere.into(), 9))?)
            })
        }
        "dissolve" => {
            let socket = tcp()?;
            Box::new(move || {
                connect(&socket, &address).ok();
                Ok(connect_unspec(&socket)?)
            })
        }
        "bind" => Box::new(|| {
            let socket = tcp()?;
            bind(&socket, &SocketAddr::from(([0, 0, 0, 0], 0)))?;
            Ok(listen(&socket, 1)?)
        }),
        "epolls" => {
            let kept: Vec<OwnedFd> = (0..DESCRIPTORS).map(|_| tcp()).collect::<io::Result<_>>()?;
            Box::new(move || {
                let (socket, _kept) = (tcp()?, &kept);
                let watching = epoll::create(epoll::CreateFlags::CLOEXEC)?;
                epoll::add(
                    &watching,
                    &socket,
                    epoll::EventData::new_u64(0),
                    epoll::EventFlags::IN,
                )?;
                Ok(connect(&socket, &address)?)
            })
        }
        "forks" => Box::new(move || match sys::fork()? {
            Some(child) => {
                let child = nix::unistd::Pid::from_raw(i32::try_from(child).unwrap_or_default());
                Ok(nix::sys::wait::waitpid(child, None).map(drop)?)
            }
            None => {
                connect(tcp()?, &address).ok();
                #[expect(clippy::exit, reason = "the child must not run on as a second parent")]
                std::process::exit(0)
            }
        }),
        // A process that is stopped and goes on while the supervisor is busy with its call.
        "stops" => {
            let mut child = Command::new(std::env::current_exe()?);
            child.args(["flood", "connect", &address.to_string(), "1"]).stdout(Stdio::null());
            let child = Pid::from_child(&child.spawn()?);
            Box::new(move || {
                kill_process(child, Signal::STOP)?;
                Ok(kill_process(child, Signal::CONT)?)
            })
        }
        "waiting" => {
            // Those for which there is no room try again, and so does whoever has waited.
            let wait = move || -> io::Result<()> { Ok(connect(blocking_tcp()?, &address)?) };
            for _ in 1..WAITING {
                let builder = thread::Builder::new().stack_size(SMALL_STACK);
                builder.spawn(move || Call(Box::new(wait)).run())?;
            }
            Box::new(wait)
        }
        "sends" => {
            let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, FLAGS, None)?;
            connect(&socket, &address)?;
            Box::new(move || {
                let vectors = [io::IoSlice::new(b"flood")];
                let mut none = rustix::net::SendAncillaryBuffer::default();
                rustix::net::sendmsg(&socket, &vectors, &mut none, SendFlags::DONTWAIT)?;
                Ok(())
            })
        }
        _ => fail!("no such flood: {kind}"),
    }))
}

/// Descriptors of a process whose epolls have to be found among them.
const DESCRIPTORS: usize = 800;
/// Threads that wait, of each process.
const WAITING: usize = 200;
const SMALL_STACK: usize = 64 << 10;
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

fn tcp() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, FLAGS, None)?)
}

fn blocking_tcp() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}
