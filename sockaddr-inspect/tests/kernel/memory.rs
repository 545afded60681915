//! `ProcessMemory` on this process, on a child, and on what is out of reach.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use sockaddr_inspect::{
    ForeignAddr, ProcessMemory, ReadError, ReadMemory, WriteError, WriteMemory, fetch_u32_array,
};

use crate::{Check, sys};

pub(crate) fn trials() -> Vec<Check> {
    vec![
        ("reads_and_writes_this_process", reads_and_writes_this_process),
        ("short_at_an_unmapped_page", short_at_an_unmapped_page),
        ("unmapped_addresses_are_faults", unmapped_addresses_are_faults),
        ("read_only_memory_is_not_written", read_only_memory_is_not_written),
        ("reads_a_thread_by_its_id", reads_a_thread_by_its_id),
        ("reads_a_child_until_it_is_gone", reads_a_child_until_it_is_gone),
        ("processes_of_an_outer_namespace_are_denied", processes_of_an_outer_namespace_are_denied),
        ("fetches_words_from_this_process", fetches_words_from_this_process),
    ]
}

fn own() -> ProcessMemory {
    ProcessMemory::of(std::process::id().try_into().unwrap())
}

fn addr_of<T>(data: &[T]) -> ForeignAddr {
    ForeignAddr::new(data.as_ptr().expose_provenance() as u64)
}

fn reads_and_writes_this_process() {
    let data: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let mut buf = vec![0; data.len()];
    assert_eq!(own().read(addr_of(&data), &mut buf).unwrap(), data.len());
    assert_eq!(buf, data);

    let (page, _) = sys::page_before_a_hole();
    let at = ForeignAddr::new(page as u64);
    assert_eq!(own().write(at, b"written").unwrap(), 7);
    let mut buf = [0; 7];
    assert_eq!(own().read(at, &mut buf).unwrap(), 7);
    assert_eq!(&buf, b"written");
}

fn short_at_an_unmapped_page() {
    let (start, page) = sys::page_before_a_hole();
    let near_end = ForeignAddr::new((start + page - 10) as u64);
    assert_eq!(own().read(near_end, &mut [0; 28]).unwrap(), 10);
    assert_eq!(own().write(near_end, &[1; 28]).unwrap(), 10);
    assert_eq!(own().read(near_end, &mut [0; 10]).unwrap(), 10);
}

fn unmapped_addresses_are_faults() {
    let (start, page) = sys::page_before_a_hole();
    for at in [0, 8, (start + page) as u64, 1 << 63, u64::MAX - 3, u64::MAX] {
        let at = ForeignAddr::new(at);
        let read = own().read(at, &mut [0; 16]);
        assert!(matches!(read, Err(ReadError::Fault)), "{at:?}: {read:?}");
        let write = own().write(at, &[0; 16]);
        assert!(matches!(write, Err(WriteError::Fault)), "{at:?}: {write:?}");
        assert_eq!(own().read(at, &mut []).unwrap(), 0);
    }
}

fn read_only_memory_is_not_written() {
    static TEXT: &[u8] = b"read only";
    let write = own().write(addr_of(TEXT), b"changed!!");
    assert!(matches!(write, Err(WriteError::Fault)), "{write:?}");
    assert_eq!(TEXT, b"read only");
}

/// The id of a notification is that of a thread, and need not be its process's.
fn reads_a_thread_by_its_id() {
    let data = *b"shared";
    std::thread::scope(|scope| {
        let tid = scope.spawn(|| {
            let link = fs::read_link("/proc/thread-self").unwrap();
            let tid: i32 = link.file_name().unwrap().to_str().unwrap().parse().unwrap();
            assert_ne!(tid.cast_unsigned(), std::process::id());
            let mut buf = [0; 6];
            ProcessMemory::of(tid).read(addr_of(&data), &mut buf).unwrap();
            assert_eq!(buf, data);
        });
        tid.join().unwrap();
    });
}

/// A process that waits for us to close its standard input.
fn child() -> Child {
    let mut command = Command::new("cat");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // It may not have mapped its program yet when `spawn` returns. When it echoes, it has.
    child.stdin.as_mut().unwrap().write_all(b"?").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    child
}

fn reads_a_child_until_it_is_gone() {
    let mut child = child();
    let memory = ProcessMemory::of(child.id().try_into().unwrap());
    let maps = fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
    let (start, _) = maps.split_once('-').unwrap();
    let at = ForeignAddr::new(u64::from_str_radix(start, 16).unwrap());

    // The program file's first page: an ELF header.
    let mut magic = [0; 4];
    assert_eq!(memory.read(at, &mut magic).unwrap(), 4);
    assert_eq!(&magic, b"\x7fELF");

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(memory.read(at, &mut magic), Err(ReadError::Gone)));
    assert!(matches!(memory.write(at, &magic), Err(WriteError::Gone)));
    for nobody in [0, -1, i32::MIN] {
        let read = ProcessMemory::of(nobody).read(at, &mut magic);
        assert!(matches!(read, Err(ReadError::Gone)), "{nobody}: {read:?}");
    }
}

/// Our own parent is outside our user namespace, hence out of bounds, even to its own user.
fn processes_of_an_outer_namespace_are_denied() {
    let parent = ProcessMemory::of(std::os::unix::process::parent_id().try_into().unwrap());
    let at = ForeignAddr::new(8);
    assert!(matches!(parent.read(at, &mut [0; 4]), Err(ReadError::Denied)));
    assert!(matches!(parent.write(at, &[0; 4]), Err(WriteError::Denied)));
}

fn fetches_words_from_this_process() {
    let words = [3_u32, 0xffff_ee00, 16];
    assert_eq!(fetch_u32_array(&own(), addr_of(&words)).unwrap(), words);
}
