//! Connections that have not yet shown who they are.
//!
//! Anybody in the cluster may connect, so those who have not attached are few
//! and do not stay: a connection takes a place when it is accepted, gives it
//! back when it has attached, and is closed when that takes too long. From then
//! on it speaks for the incarnation that attached on it, and for no other.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bursar_wire::tls::ServerStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use super::watchers::WatcherId;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Place(Arc<Mutex<Peer>>);

#[derive(Debug)]
enum Peer {
    /// Nobody we know: it takes a place among those.
    Stranger { _place: OwnedSemaphorePermit },
    /// This run of a broker.
    Attached(WatcherId),
}

impl Place {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Mutex::new(Peer::Stranger { _place: permit })))
    }

    /// The connection has shown who it is: its place is free for another.
    pub(crate) fn attached(&self, id: WatcherId) {
        *self.peer() = Peer::Attached(id);
    }

    /// Who has attached on it.
    pub(crate) fn incarnation(&self) -> Option<WatcherId> {
        match *self.peer() {
            Peer::Stranger { .. } => None,
            Peer::Attached(id) => Some(id),
        }
    }

    fn peer(&self) -> std::sync::MutexGuard<'_, Peer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that ends unless it attaches in time.
pub(crate) struct Connection {
    tls: ServerStream,
    place: Place,
    deadline: Pin<Box<Sleep>>,
}

impl Connection {
    pub(crate) fn new(tls: ServerStream, place: Place, time_to_attach: Duration) -> Self {
        let deadline = Box::pin(tokio::time::sleep(time_to_attach));
        Self {
            tls,
            place,
            deadline,
        }
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        self.place.incarnation().is_none() && self.deadline.as_mut().poll(cx).is_ready()
    }
}

impl Connected for Connection {
    type ConnectInfo = Place;

    fn connect_info(&self) -> Place {
        self.place.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 always has a read under way, so this wakes in time.
        if self.is_late(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
