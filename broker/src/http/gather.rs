//! Sending an answer's head and body as one piece.
//!
//! hyper hands over both in one vectored write. For so few bytes the system call
//! `writev` costs more than copying them and calling `send`: a twentieth of all that a
//! request costs. That hyper copies them itself (`writev(false)`) is no way out: its
//! buffer would keep the token until the next answer.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longer answers are sent without being copied.
const ROOM: usize = 4 * 1024;

/// Where answers are gathered: one for all connections of a server, because no answer
/// stays in it.
pub(super) struct GatherBuffer(RefCell<[u8; ROOM]>);

impl Default for GatherBuffer {
    fn default() -> Self {
        Self(RefCell::new([0; ROOM]))
    }
}

/// A connection that gathers what is written to it.
pub(super) struct Gathering<S> {
    stream: S,
    buffer: Rc<GatherBuffer>,
}

impl<S> Gathering<S> {
    pub(super) fn new(stream: S, buffer: Rc<GatherBuffer>) -> Self {
        Self { stream, buffer }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, buffer } = &mut *self;
        let stream = Pin::new(stream);
        let length = pieces.iter().map(|piece| piece.len()).sum();
        let mut buffer = buffer.0.borrow_mut();
        let Some(whole) = buffer.get_mut(..length) else {
            return stream.poll_write_vectored(context, pieces);
        };
        let mut rest = &mut *whole;
        for piece in pieces {
            let place;
            (place, rest) = rest.split_at_mut(piece.len());
            place.copy_from_slice(piece);
        }
        let written = stream.poll_write(context, whole);
        // There is a token in it. It is read again, so this is never optimised away.
        whole.fill(0);
        written
    }

    /// So that hyper leaves the body where it is until it is sent.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// A peer that takes up to so many bytes at once; remembers each write.
    struct Peer {
        takes: usize,
        writes: Vec<Vec<u8>>,
    }

    impl Peer {
        fn take(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.takes);
            self.writes.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }
    }

    impl AsyncWrite for Peer {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.take(bytes)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            self.take(&whole)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes `pieces` at once; gives what was taken, all writes, and the buffer.
    async fn write(takes: usize, pieces: &[&[u8]]) -> (usize, Vec<Vec<u8>>, Rc<GatherBuffer>) {
        let buffer = Rc::<GatherBuffer>::default();
        let writes = Vec::new();
        let mut stream = Gathering::new(Peer { takes, writes }, Rc::clone(&buffer));
        let pieces: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let taken = poll_fn(|context| Pin::new(&mut stream).poll_write_vectored(context, &pieces));
        let taken = taken.await.unwrap();
        (taken, stream.stream.writes, buffer)
    }

    #[tokio::test]
    async fn head_and_body_are_one_write_and_leave_nothing_behind() {
        let (taken, writes, buffer) = write(usize::MAX, &[b"head;", b"", b"s3cret"]).await;
        assert_eq!(taken, 11);
        assert_eq!(writes, [b"head;s3cret"]);
        assert!(buffer.0.borrow().iter().all(|&byte| byte == 0));
    }

    #[tokio::test]
    async fn what_a_slow_peer_takes_is_told_and_nothing_is_left_behind() {
        let (taken, writes, buffer) = write(7, &[b"head;", b"s3cret"]).await;
        assert_eq!((taken, &writes[0][..]), (7, &b"head;s3"[..]));
        assert!(buffer.0.borrow().iter().all(|&byte| byte == 0));
    }

    #[tokio::test]
    async fn what_is_longer_than_the_room_is_written_as_it_is() {
        for (length, over) in [(ROOM, 0), (ROOM + 1, 1)] {
            let body = vec![b'b'; length - 1];
            let (taken, writes, _) = write(usize::MAX, &[b"h", &body]).await;
            assert_eq!(taken, ROOM + over);
            assert_eq!(writes[0].len(), taken);
            assert_eq!(&writes[0][..2], b"hb");
        }
    }
}
