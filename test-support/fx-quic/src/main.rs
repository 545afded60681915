//! A QUIC server and client for tests: UDP with everything that fast programs use of it
//! (`recvmmsg`, `UDP_SEGMENT`, `UDP_GRO`, `IP_PKTINFO`, ECN).
//!
//! ```text
//! fx-quic serve CERTIFICATE ADDR        writes its certificate there, echoes every stream
//! fx-quic ask CERTIFICATE ADDR BYTES    sends that many and expects them back
//! ```
//!
//! The server prints `ready`, and `peer ADDR at IP` for every connection: who the client is,
//! and by which of our addresses it came. The client prints `echoed BYTES`.

#![expect(clippy::print_stdout, reason = "what it prints is its interface")]

use std::env;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Endpoint, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use test_support::failure::{Context, Result};
use test_support::{ensure, fail};

fn main() -> Result {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.as_slice() {
        ["serve", certificate, address] => runtime.block_on(serve(certificate, address.parse()?)),
        ["ask", certificate, address, bytes] => {
            let asked = ask(certificate, address.parse()?, bytes.parse()?);
            runtime.block_on(async { tokio::time::timeout(LIMIT, asked).await })?
        }
        _ => fail!("see the source for the usage; not {arguments:?}"),
    }
}

async fn serve(certificate: &str, address: SocketAddr) -> Result {
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    fs::write(certificate, own.cert.der()).context(certificate)?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let config = ServerConfig::with_single_cert(vec![own.cert.into()], key.into())?;
    let endpoint = Endpoint::server(config, address).context(address)?;
    println!("ready");
    while let Some(incoming) = endpoint.accept().await {
        let local = incoming.local_ip();
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            let peer = connection.remote_address();
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            let local = local.map_or_else(|| "?".to_owned(), |ip| ip.to_canonical().to_string());
            println!("peer {peer} at {local}");
            // Until the client is gone.
            while let Ok((send, receive)) = connection.accept_bi().await {
                tokio::spawn(echo(send, receive));
            }
        });
    }
    Ok(())
}

async fn echo(mut send: quinn::SendStream, mut receive: quinn::RecvStream) -> Result {
    while let Some(chunk) = receive.read_chunk(CHUNK, true).await? {
        send.write_chunk(chunk.bytes).await?;
    }
    send.finish()?;
    Ok(())
}

async fn ask(certificate: &str, to: SocketAddr, bytes: usize) -> Result {
    let mut trusted = quinn::rustls::RootCertStore::empty();
    trusted.add(CertificateDer::from(fs::read(certificate).context(certificate)?))?;
    let config = ClientConfig::with_root_certificates(Arc::new(trusted))?;
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let endpoint = Endpoint::client(any)?;
    let connection = endpoint.connect_with(config, to, NAME)?.await.context("connect")?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let sent: Vec<u8> = (0..bytes).map(|at| at.to_le_bytes()[0]).collect();
    let all = sent.clone();
    let sending = tokio::spawn(async move {
        send.write_all(&all).await?;
        send.finish()?;
        Result::Ok(())
    });
    let back = receive.read_to_end(bytes).await.context("echo")?;
    sending.await??;
    ensure!(back == sent, "{} bytes came back, and not those that were sent", back.len());
    println!("echoed {}", back.len());
    connection.close(0_u8.into(), b"");
    endpoint.wait_idle().await;
    Ok(())
}

const NAME: &str = "fx-quic";
const CHUNK: usize = 1 << 16;
const LIMIT: Duration = Duration::from_secs(20);
