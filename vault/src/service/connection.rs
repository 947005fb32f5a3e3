//! Connections that have not yet shown who they are.
//!
//! Anybody in the cluster may connect, so those who have not attached are few
//! and do not stay: a connection takes a place when it is accepted, gives it
//! back when it has attached, and is closed when that takes too long. From then
//! on it speaks for the incarnation that attached on it, and for no other, and
//! is one of the few that its pod may have.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bursar_wire::tls::ServerStream;
use futures::future::{AbortHandle, Abortable, Pending, pending};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use super::pods::{Full, Pods, Seat};
use super::watchers::WatcherId;
use crate::places;

/// A place among those who have not attached, in all and of one address: without the second
/// bound a single pod that holds every place keeps all brokers from attaching.
pub(crate) struct StrangersPlace {
    pub(crate) _in_all: OwnedSemaphorePermit,
    pub(crate) _of_source: places::Place<IpAddr>,
}

/// Who is at the other end of a connection.
#[derive(Clone)]
pub(crate) struct Place(Arc<Inner>);

struct Inner {
    /// Tells connections apart.
    number: u64,
    /// Closes the connection.
    close: AbortHandle,
    peer: Mutex<Peer>,
}

enum Peer {
    /// Nobody we know: it takes a place among those.
    Stranger { _place: StrangersPlace },
    /// A run of a broker: it is one of its pod's connections.
    Attached(Seat),
}

impl Place {
    fn new(number: u64, place: StrangersPlace, close: AbortHandle) -> Self {
        Self(Arc::new(Inner {
            number,
            close,
            peer: Mutex::new(Peer::Stranger { _place: place }),
        }))
    }

    /// The connection has shown who it is: its place is free for another.
    ///
    /// # Errors
    /// [`Full`] when the pod has too many connections, and nothing has changed.
    pub(crate) fn attached(&self, pods: &Pods, pod_uid: &str, id: WatcherId) -> Result<(), Full> {
        let mut peer = self.peer();
        match &*peer {
            Peer::Attached(seat) if seat.incarnation() == id => {}
            _ => {
                let seat = pods.seat(pod_uid, id, self.0.number, &self.0.close)?;
                *peer = Peer::Attached(seat);
            }
        }
        Ok(())
    }

    /// Who has attached on it.
    pub(crate) fn incarnation(&self) -> Option<WatcherId> {
        match &*self.peer() {
            Peer::Stranger { .. } => None,
            Peer::Attached(seat) => Some(seat.incarnation()),
        }
    }

    fn peer(&self) -> std::sync::MutexGuard<'_, Peer> {
        self.0.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that ends unless it attaches in time, and when its run is over.
pub(crate) struct Connection {
    tls: ServerStream,
    place: Place,
    deadline: Pin<Box<Sleep>>,
    /// Ready once the place is closed.
    closed: Abortable<Pending<()>>,
}

impl Connection {
    /// `number` is no other connection's.
    pub(crate) fn new(
        tls: ServerStream,
        number: u64,
        place: StrangersPlace,
        time_to_attach: Duration,
    ) -> Self {
        let deadline = Box::pin(tokio::time::sleep(time_to_attach));
        let (close, registration) = AbortHandle::new_pair();
        Self {
            tls,
            place: Place::new(number, place, close),
            deadline,
            closed: Abortable::new(pending(), registration),
        }
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let closed = Pin::new(&mut self.closed).poll(cx).is_ready();
        let stranger = self.place.incarnation().is_none();
        closed || stranger && self.deadline.as_mut().poll(cx).is_ready()
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
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
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
