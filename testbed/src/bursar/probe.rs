//! Asking a process over HTTP whether it is ready.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// `Some` once `GET /readyz` on this port of 127.0.0.1 answers 200.
pub(super) async fn ready(port: u16) -> Option<()> {
    let answer = get(port).await.ok()?;
    answer.starts_with("HTTP/1.1 200 ").then_some(())
}

/// The whole answer, up to 4 KiB: a readiness answer is a line or two.
async fn get(port: u16) -> io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut connection = TcpStream::connect(address).await?;
    let request = "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.take(4_096).read_to_string(&mut answer).await?;
    Ok(answer)
}
