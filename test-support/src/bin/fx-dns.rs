//! A name server for tests, over UDP and TCP.
//!
//! ```text
//! fx-dns ADDR NAME=IP...
//! ```
//!
//! It knows the names it is given, answers NXDOMAIN to others, and prints `ready`
//! and then `query PROTOCOL NAME` for each question.

#![expect(clippy::print_stdout, reason = "what it prints is its interface")]

use std::env;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;

use test_support::failure::{Context, Result};

type Zone = Vec<(String, IpAddr)>;

fn main() -> Result {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().context("an address is needed")?;
    let mut zone = Zone::new();
    for argument in arguments {
        let (name, ip) = argument.split_once('=').context("NAME=IP")?;
        zone.push((name.to_owned(), ip.parse()?));
    }
    let zone = Arc::new(zone);
    let (socket, listener) = (UdpSocket::bind(&address)?, TcpListener::bind(&address)?);
    println!("ready");
    let streams = Arc::clone(&zone);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let zone = Arc::clone(&streams);
            // A client that hangs up in the middle is no reason to end.
            thread::spawn(move || drop(serve_stream(stream, &zone)));
        }
    });
    let mut buffer = [0; 1500];
    loop {
        let (read, peer) = socket.recv_from(&mut buffer)?;
        if let Some(answer) = answer(buffer.get(..read).unwrap_or_default(), &zone, "udp") {
            socket.send_to(&answer, peer)?;
        }
    }
}

fn serve_stream(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        let Some(answer) = answer(&query, zone, "tcp") else { return Ok(()) };
        let length = u16::try_from(answer.len()).unwrap_or(0).to_be_bytes();
        stream.write_all(&[&length, answer.as_slice()].concat())?;
    }
}

/// The answer to `query`, or nothing when it is none (RFC 1035, section 4.1).
fn answer(query: &[u8], zone: &Zone, protocol: &str) -> Option<Vec<u8>> {
    let (name, end) = question_name(query)?;
    let question = query.get(HEADER..end + 4)?;
    let kind = u16::from_be_bytes(query.get(end..end + 2)?.try_into().ok()?);
    println!("query {protocol} {name}");

    let known = zone.iter().any(|(owner, _)| *owner == name);
    let records: Vec<Vec<u8>> = zone
        .iter()
        .filter(|(owner, _)| *owner == name)
        .filter_map(|(_, ip)| match ip {
            IpAddr::V4(ip) if kind == 1 => Some(ip.octets().to_vec()),
            IpAddr::V6(ip) if kind == 28 => Some(ip.octets().to_vec()),
            _ => None,
        })
        .collect();

    // Response, authoritative, recursion available; code 3 for a name that does not exist.
    let flags: u16 = if known { 0x8580 } else { 0x8583 };
    let count = u16::try_from(records.len()).ok()?;
    let mut answer = query.get(..2)?.to_vec();
    for word in [flags, 1, count, 0, 0] {
        answer.extend(word.to_be_bytes());
    }
    answer.extend(question);
    for record in records {
        // A pointer to the question's name, the question's type, class IN, a lifetime.
        answer.extend([0xc0, 0x0c]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend(u16::try_from(record.len()).ok()?.to_be_bytes());
        answer.extend(record);
    }
    Some(answer)
}

/// The queried name in lower case, and where its encoding ends.
fn question_name(query: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), HEADER);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

const HEADER: usize = 12;
