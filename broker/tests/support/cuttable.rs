//! A connection that the test can cut, as a network does.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bursar_wire::tls::ServerStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tonic::transport::server::Connected;

/// A connection until `cut` changes.
pub struct Cuttable {
    stream: ServerStream,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Cuttable {
    pub fn new(stream: ServerStream, mut cut: watch::Receiver<u64>) -> Self {
        cut.mark_unchanged();
        let cut = Box::pin(async move {
            let _ = cut.changed().await;
        });
        Self { stream, cut }
    }
}

impl Connected for Cuttable {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            // Once is enough: the connection is over.
            self.cut = Box::pin(std::future::pending());
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
