//! Single calls in any order, with any fault on the way.

use super::*;

fn any_call() -> impl Strategy<Value = (i32, u8, u8, Option<Fault>)> {
    let fault = prop_oneof![
        6 => Just(None),
        1 => prop::sample::select(vec![
            Fault::Take(Fail::Gone),
            Fault::Dead,
            Fault::TwinOption,
            Fault::TwinPin,
            Fault::TwinMake,
            Fault::Finish,
            Fault::Transplant,
            Fault::Sight,
            Fault::InstallGone,
            Fault::InstallRefused,
            Fault::AnswerGone,
            Fault::Watch,
        ])
        .prop_map(Some),
    ];
    (1i32..4, 0u8..12, 0u8..8, fault)
}

proptest! {
    /// Whatever a container does in whatever order, and whatever fails on the way: a host
    /// socket is asked to connect only where the policy allows, with its pin; no host
    /// port is opened; nothing is answered twice.
    #[test]
    fn no_sequence_of_calls_escapes_the_policy(
        calls in prop::collection::vec(any_call(), 1..60)
    ) {
        let addrs = [REMOTE, OTHER, DENIED, IGNORED, LOOPBACK, "0.0.0.0:80", "[::1]:80", "[::ffff:127.0.0.1]:80"];
        let mut scene = Scene::new();
        for (tid, what, which, fault) in calls {
            if let Some(fault) = fault {
                scene.k.faults.insert(fault);
            }
            let addr = SockAddr::from(addrs[usize::from(which)].parse::<SocketAddr>().unwrap());
            match what {
                0..4 => { scene.connect_raw(tid, addr.encode()); }
                4 => { scene.connect_raw(tid, unspec()); }
                5 => { scene.call(tid, Call::Listen { fd: FD, backlog: 1 }); }
                6 => {
                    scene.k.memory.insert(64, addr.encode());
                    scene.call(tid, Call::Bind { fd: FD, at: ForeignAddr::new(64), len: 16 });
                }
                7 => scene.peer(REMOTE, [Peer::Accepts, Peer::Refuses, Peer::Silent][usize::from(which) % 3]),
                8 => scene.engine.handle_ready(&mut scene.k, Token(u32::from(which))),
                9 => {
                    // The container's other thread changes the socket under our feet.
                    let sock = scene.k.table[&FD];
                    let sock = &mut scene.k.socks[sock];
                    sock.state = [TcpState::Close, TcpState::SynSent, TcpState::CloseWait][usize::from(which) % 3];
                    sock.blocking = which % 2 == 0;
                }
                10 => {
                    scene.k.open(FD, [HOST, CONTAINER][usize::from(which) % 2], Domain::Inet, TCP);
                }
                _ => {
                    scene.now += Duration::from_millis(u64::from(which) * 40);
                    scene.engine.handle_timeout(&mut scene.k, scene.now);
                }
            }
        }
        for (dest, _) in &scene.k.host_connects {
            prop_assert_eq!(
                scene.policy.decide(&Flow::new(Protocol::Tcp, *dest)), Verdict::Bypass, "{}", dest
            );
        }
        prop_assert_eq!(scene.k.host_listens, 0);
        for id in 0..scene.next {
            scene.answer(id);
        }
        prop_assert_eq!(scene.k.watched.len(), scene.engine.waiting());
    }
}
