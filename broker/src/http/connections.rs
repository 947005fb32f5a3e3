//! Connections, and how long a client may keep one waiting.
//!
//! A timer set and cleared for each request costs a tenth of all that a request
//! costs. So there is one for all connections: it ticks, each connection
//! remembers at which tick it last moved on, and those that did not for too
//! long are cut.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::interval;

/// The time between two ticks.
const TICK: Duration = Duration::from_secs(1);
/// How long a connection may be idle, or take to send a request's head.
pub(super) const HEAD_TICKS: u64 = 60;
/// How long a request may take: most of it is the client's, to send the body.
const REQUEST_TICKS: u64 = 30;

/// All open connections of one server.
#[derive(Default)]
pub(crate) struct Connections {
    now: Rc<Cell<u64>>,
    open: RefCell<Vec<Weak<Connection>>>,
}

/// One connection.
pub(crate) struct Connection {
    now: Rc<Cell<u64>>,
    /// The tick at which it last moved on.
    since: Cell<u64>,
    /// Whether a request is being worked on.
    busy: Cell<bool>,
    order: Cell<Order>,
    ordered: Notify,
}

/// What a connection is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// Answer what is under way and end.
    Finish,
    /// End now.
    Cut,
}

impl Connections {
    /// Takes in a new connection.
    pub(crate) fn open(&self) -> Rc<Connection> {
        let connection = Rc::new(Connection {
            now: Rc::clone(&self.now),
            since: Cell::new(self.now.get()),
            busy: Cell::new(false),
            order: Cell::new(Order::Finish),
            ordered: Notify::new(),
        });
        self.open.borrow_mut().push(Rc::downgrade(&connection));
        connection
    }

    /// Cuts the connections of clients that are too slow, for ever.
    pub(crate) async fn watch(&self) {
        let mut ticks = interval(TICK);
        loop {
            ticks.tick().await;
            self.tick();
        }
    }

    /// Lets one [`TICK`] pass.
    pub(super) fn tick(&self) {
        self.now.set(self.now.get() + 1);
        self.each(|connection| {
            if connection.is_late() {
                connection.order(Order::Cut);
            }
        });
    }

    /// Tells all connections to finish.
    pub(crate) fn finish(&self) {
        self.each(|connection| connection.order(Order::Finish));
    }

    fn each(&self, tell: impl Fn(&Connection)) {
        self.open.borrow_mut().retain(|connection| {
            let connection = connection.upgrade();
            connection.iter().for_each(|connection| tell(connection));
            connection.is_some()
        });
    }
}

impl Connection {
    /// A request's head is here.
    pub(crate) fn begin(&self) {
        self.busy.set(true);
        self.since.set(self.now.get());
    }

    /// Its answer is ready.
    pub(crate) fn end(&self) {
        self.busy.set(false);
        self.since.set(self.now.get());
    }

    fn is_late(&self) -> bool {
        let patience = if self.busy.get() {
            REQUEST_TICKS
        } else {
            HEAD_TICKS
        };
        self.now.get() - self.since.get() > patience
    }

    fn order(&self, order: Order) {
        self.order.set(order);
        self.ordered.notify_one();
    }

    /// Waits for an order.
    pub(crate) async fn ordered(&self) -> Order {
        self.ordered.notified().await;
        self.order.get()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn ordered_after(connections: &Connections, connection: &Connection) -> u64 {
        (1..1_000)
            .find(|_| {
                connections.tick();
                connection.ordered().now_or_never() == Some(Order::Cut)
            })
            .unwrap()
    }

    #[test]
    fn a_connection_without_a_request_is_cut_after_a_minute() {
        let connections = Connections::default();
        assert_eq!(ordered_after(&connections, &connections.open()), 61);
    }

    #[test]
    fn a_request_that_is_not_sent_to_its_end_is_cut_after_half_a_minute() {
        let connections = Connections::default();
        let connection = connections.open();
        connections.tick();
        connection.begin();
        assert_eq!(ordered_after(&connections, &connection), 31);
    }

    #[test]
    fn a_connection_that_moves_on_is_never_cut() {
        let connections = Connections::default();
        let connection = connections.open();
        for _ in 0..100 {
            for _ in 0..30 {
                connections.tick();
            }
            connection.begin();
            for _ in 0..30 {
                connections.tick();
            }
            connection.end();
        }
        assert_eq!(connection.ordered().now_or_never(), None);
    }

    #[test]
    fn connections_that_have_ended_are_forgotten() {
        let connections = Connections::default();
        let kept = connections.open();
        for _ in 0..100 {
            drop(connections.open());
        }
        connections.finish();
        assert_eq!(connections.open.borrow().len(), 1);
        assert_eq!(kept.ordered().now_or_never(), Some(Order::Finish));
    }
}
