//! Receiving, checking and answering allocate nothing: they are on the path of every trapped call.

#![expect(clippy::cast_possible_truncation, reason = "call numbers are small")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;
use std::sync::mpsc;
use std::thread;

use seccomp_notify::{AddFd, AddFdOutcome, Filter, Received, Reply, ReplyOutcome};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged. Counting allocates nothing, since
// the counter is initialised at compile time and has no destructor.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is the one needed here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System` with this layout, as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn the_life_of_a_notification() {
    let (sender, receiver) = mpsc::channel();
    let target = thread::spawn(move || {
        sender.send(Filter::allow_all().notify(libc::SYS_getppid as i32).install()).unwrap();
        [parent_id(), parent_id()]
    });
    let listener = receiver.recv().unwrap().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();

    let before = ALLOCATIONS.get();
    let Received::Notification(call) = listener.recv().unwrap() else { panic!("target has gone") };
    assert_eq!(call.is_alive(), Ok(true));
    let added = call.add_fd(&AddFd::new(file.as_fd()).at(500).cloexec(true));
    assert_eq!(call.reply(Reply::value(7)), Ok(ReplyOutcome::Delivered));
    drop(listener.recv().unwrap());
    let after = ALLOCATIONS.get();

    assert_eq!(added, Ok(AddFdOutcome::Installed(500)));
    assert_eq!(target.join().unwrap()[0], 7);
    assert_ne!(before, 0, "allocations are not counted");
    assert_eq!(after - before, 0);
}
