//! What an OCI runtime sends: a container process state in one piece or two, with descriptors beside
//! each; and the metadata in it.
//!
//! Input: how many descriptors come with either piece (1 byte each), where the second begins (2),
//! then the text. It goes through a real socket, so that descriptors are real too.

#![no_main]
#![expect(clippy::panic, reason = "which is how a target says that it found something")]

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use seccomp_notify::{ContainerProcessState, HandoffError, receive_handoff};

#[path = "../../bypass-cli/src/metadata.rs"]
mod metadata;
#[expect(dead_code, reason = "only what is read from metadata is used here")]
#[path = "../../bypass-cli/src/traps.rs"]
mod traps;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some(([first, second, at @ ..], text)) = input.split_first_chunk::<4>() else { return };
    let (first, second) = (usize::from(first % 20), usize::from(second % 20));
    let at = usize::from(u16::from_le_bytes(*at)).min(text.len());
    let (head, tail) = text.split_at(at);
    let lowest = lowest_free();
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .unwrap_or_else(|errno| panic!("{errno}"));
    send(&theirs, head, first);
    send(&theirs, tail, second);
    drop(theirs);
    let received = receive_handoff(&ours, Duration::from_secs(5));
    drop(ours);
    assert_eq!(lowest_free(), lowest, "a descriptor is left: {received:?}");
    // None goes with nothing.
    let counts = [head.is_empty(), tail.is_empty()];
    let [first, second] = [if counts[0] { 0 } else { first }, if counts[1] { 0 } else { second }];
    let Err(error) = received else { panic!("no listener was sent") };
    judge(&error, text, first, second);
});

static FILE: LazyLock<File> =
    LazyLock::new(|| File::open("/dev/null").unwrap_or_else(|error| panic!("{error}")));

fn lowest_free() -> i32 {
    let copy = FILE.as_fd().try_clone_to_owned();
    copy.map_or(-1, |copy| copy.as_raw_fd())
}

fn send(to: &OwnedFd, bytes: &[u8], fds: usize) {
    if bytes.is_empty() {
        return;
    }
    let fds: Vec<BorrowedFd<'_>> = std::iter::repeat_n(FILE.as_fd(), fds).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(20))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    }
    let sent = sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::DONTWAIT);
    assert_eq!(sent, Ok(bytes.len()));
}

fn judge(error: &HandoffError, text: &[u8], first: usize, second: usize) {
    // Whichever bytes one look at the socket gave, either all descriptors came or the first ones.
    let came = |count: usize| count == first || count == first + second;
    let state = serde_json::Deserializer::from_slice(text)
        .into_iter::<ContainerProcessState>()
        .next()
        .and_then(Result::ok)
        // Bytes that are no object are no state, though an array would pass for one.
        .filter(|_| text.trim_ascii_start().first() == Some(&b'{'));
    if let Some(state) = &state {
        again(state);
        let named = state.fds.iter().any(|name| name == "seccompFd");
        let count = state.fds.len();
        let (few, certain) = (first <= 16 && second == 0, count == first);
        match error {
            HandoffError::FdCountMismatch { named, received } => {
                assert!(*named == count && came(*received) && named != received);
            }
            HandoffError::NoSeccompFd => assert!(!named && came(count)),
            HandoffError::NotAListener { .. } => assert!(named && came(count)),
            HandoffError::ControlTruncated => assert!(first > 16 || second > 16),
            HandoffError::TooManyFds => assert!(first + second > 16),
            other => panic!("{other:?} for {state:?}"),
        }
        if few && certain {
            let listener = matches!(error, HandoffError::NotAListener { .. });
            assert_eq!(listener, named, "{error:?} for {state:?}");
        }
    } else {
        match error {
            HandoffError::NotJson { .. } => {}
            HandoffError::PeerClosed => assert!(text.is_empty()),
            HandoffError::ControlTruncated => assert!(first > 16 || second > 16),
            HandoffError::TooManyFds => assert!(first + second > 16),
            other => panic!("{other:?} for {}", text.escape_ascii()),
        }
    }
}

fn again(state: &ContainerProcessState) {
    let written = serde_json::to_string(state).unwrap_or_default();
    let read = serde_json::from_str::<ContainerProcessState>(&written);
    assert_eq!(read.ok().as_ref(), Some(state), "{written}");
    if let Some(told) = metadata::Metadata::parse(&state.metadata) {
        assert_eq!(metadata::Metadata::parse(&told.to_string()), Some(told));
        let mut words = state.metadata.split_ascii_whitespace();
        assert_eq!(words.next(), Some("bypass"));
        let words: Vec<&str> = words.collect();
        let traps::Traps { names, messages, sends } = told.0;
        for (told, word) in [(names, "names"), (messages, "messages"), (sends, "sends")] {
            assert_eq!(told, words.contains(&word), "{words:?}");
        }
    }
}
