//! Requests to the vault for allowances: numbered, one at a time.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use bursar_wire::v1alpha1::GrantRequest;
use tokio::sync::Notify;

use super::denials::Generation;
use super::key::EntryKey;
use crate::clock::BootTime;

/// Keys that may wait at a time: as many as there are connections.
const MOST_WAITING: usize = 1_024;

/// The keys that wait, and the request whose answer is not here yet.
///
/// The vault may have decided a request whose answer did not arrive, so its number is
/// sent again until an answer comes. After a failure another key may go first under
/// the same number, so that one key's trouble does not keep the others waiting: the
/// vault decides only once under a number. What arrives under it later, however late,
/// is granted nothing and takes nothing back. It is told which allowance to close, and
/// asks under the next number.
#[derive(Default)]
pub(crate) struct GrantQueue {
    /// Successors of allowances that are being served from. They go first, so
    /// that callers who ask for what is not held cannot keep them waiting.
    renewals: VecDeque<EntryKey>,
    waiting: VecDeque<EntryKey>,
    in_doubt: Option<InDoubt>,
    last_no: u64,
    /// Told when there is something to send.
    pub(crate) wake: Rc<Notify>,
}

/// How much is asked for, and for how many that wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) want: u32,
    pub(crate) waiting: u32,
}

/// A request that was sent at least once and is not answered.
pub(crate) struct InDoubt {
    pub(crate) key: EntryKey,
    pub(crate) request: GrantRequest,
    /// When its number was sent for the first time: the lease may have begun then.
    pub(crate) sent: BootTime,
    /// The last call for it failed, and nobody waits for it any more.
    gives_way: bool,
    pub(crate) denials: Generation,
    /// Recalled since then. The allowance that will be its answer may be
    /// among them: the event can be faster than the answer.
    pub(crate) recalled: Meanwhile,
    /// Superseded since then.
    pub(crate) superseded: Meanwhile,
}

impl GrantQueue {
    /// Queues a request that somebody waits for; false when there is no room.
    #[must_use]
    pub(crate) fn push(&mut self, key: EntryKey) -> bool {
        if self.waiting.len() >= MOST_WAITING {
            return false;
        }
        self.waiting.push_back(key);
        self.wake.notify_one();
        true
    }

    /// Queues a request that nobody waits for yet.
    pub(crate) fn push_renewal(&mut self, key: EntryKey) {
        self.renewals.push_back(key);
        self.wake.notify_one();
    }

    /// The next key; none while somebody waits for the request that is in doubt.
    pub(crate) fn pop(&mut self) -> Option<EntryKey> {
        if self.in_doubt.as_ref().is_some_and(|it| !it.gives_way) {
            return None;
        }
        self.renewals
            .pop_front()
            .or_else(|| self.waiting.pop_front())
    }

    /// The request that is in doubt, to be sent again.
    pub(crate) fn unanswered(&self) -> Option<GrantRequest> {
        self.in_doubt
            .as_ref()
            .map(|in_doubt| in_doubt.request.clone())
    }

    /// Gives a request its number: the one that is in doubt, if there is one.
    /// From now on it is in doubt itself.
    ///
    /// What is known about the number stays: its answer may be what the vault
    /// granted when it saw the number first.
    pub(crate) fn begin(&mut self, key: EntryKey, ask: Ask, denials: Generation, now: BootTime) {
        let before = self.in_doubt.take();
        if before.is_none() {
            self.last_no += 1;
        }
        let request = GrantRequest {
            request_no: self.last_no,
            user_id: key.user_id().to_owned(),
            token: key.token().map(str::to_owned),
            want: ask.want,
            waiting: ask.waiting,
        };
        let (sent, recalled, superseded) = match before {
            Some(before) => (before.sent, before.recalled, before.superseded),
            None => (now, Meanwhile::default(), Meanwhile::default()),
        };
        self.in_doubt = Some(InDoubt {
            key,
            request,
            sent,
            gives_way: false,
            denials,
            recalled,
            superseded,
        });
    }

    /// The answer is here.
    pub(crate) fn answered(&mut self) -> Option<InDoubt> {
        self.in_doubt.take()
    }

    /// The call for it failed: the next key may have its number.
    pub(crate) fn failed(&mut self) {
        if let Some(in_doubt) = &mut self.in_doubt {
            in_doubt.gives_way = true;
        }
    }

    pub(crate) fn in_doubt_mut(&mut self) -> Option<&mut InDoubt> {
        self.in_doubt.as_mut()
    }

    pub(crate) fn in_doubt(&self) -> Option<&InDoubt> {
        self.in_doubt.as_ref()
    }

    /// Nobody waits any more; what is in doubt stays.
    pub(crate) fn clear(&mut self) {
        self.renewals.clear();
        self.waiting.clear();
    }

    /// Whether a vault that has answered `request_no` last can have got there
    /// with this queue.
    pub(crate) fn agrees_with(&self, request_no: u64) -> bool {
        let before = self.last_no - u64::from(self.in_doubt.is_some());
        (before..=self.last_no).contains(&request_no)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.renewals.is_empty() && self.waiting.is_empty()
    }

    /// Numbers start again, for a new incarnation. The key that was in doubt is
    /// the first to be asked for.
    pub(crate) fn restart(&mut self) {
        self.last_no = 0;
        if let Some(lost) = self.in_doubt.take() {
            self.waiting.push_front(lost.key);
        }
    }
}

/// A bounded set of allowance ids. When it overflows it claims to have all.
#[derive(Default)]
pub(crate) struct Meanwhile {
    ids: HashSet<String>,
    overflowed: bool,
}

impl Meanwhile {
    const MOST: usize = 4_096;

    pub(crate) fn extend<'a>(&mut self, ids: impl IntoIterator<Item = &'a String>) {
        for id in ids {
            if self.ids.len() < Self::MOST {
                self.ids.insert(id.clone());
            } else if !self.ids.contains(id) {
                self.overflowed = true;
            }
        }
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.overflowed || self.ids.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: BootTime = BootTime::after_boot(Duration::from_secs(1));

    fn begin(queue: &mut GrantQueue, token: &str) -> GrantRequest {
        queue.begin(
            EntryKey::new("ana", Some(token)),
            Ask {
                want: 256,
                waiting: 1,
            },
            Generation::default(),
            NOW,
        );
        queue.unanswered().unwrap()
    }

    #[test]
    fn a_request_is_repeated_with_its_number_until_it_is_answered() {
        let mut queue = GrantQueue::default();
        let first = begin(&mut queue, "github");
        assert_eq!(first.request_no, 1);
        assert_eq!(queue.unanswered(), Some(first.clone()));
        assert_eq!(queue.unanswered(), Some(first));
        queue.answered();
        assert_eq!(queue.unanswered(), None);
        assert_eq!(begin(&mut queue, "slack").request_no, 2);
    }

    #[test]
    fn a_request_whose_call_failed_gives_its_number_to_another() {
        let mut queue = GrantQueue::default();
        begin(&mut queue, "github");
        assert!(queue.push(EntryKey::new("ana", Some("slack"))));
        assert!(queue.pop().is_none(), "the first is still under way");
        queue.failed();
        assert!(queue.unanswered().is_some());
        assert_eq!(queue.pop().unwrap().token(), Some("slack"));
        assert_eq!(begin(&mut queue, "slack").request_no, 1);
        assert!(queue.push(EntryKey::new("ana", Some("github"))));
        assert!(queue.pop().is_none());
    }

    #[test]
    fn renewals_go_first_and_those_who_wait_are_bounded() {
        let mut queue = GrantQueue::default();
        for n in 0..MOST_WAITING {
            assert!(queue.push(EntryKey::new("ana", Some(&n.to_string()))));
        }
        assert!(!queue.push(EntryKey::new("ana", Some("one-more"))));
        queue.push_renewal(EntryKey::new("ana", Some("held")));
        assert_eq!(queue.pop().unwrap().token(), Some("held"));
        assert_eq!(queue.pop().unwrap().token(), Some("0"));
        assert!(queue.push(EntryKey::new("ana", Some("one-more"))));
    }

    #[test]
    fn a_vault_with_other_numbers_does_not_agree() {
        let mut queue = GrantQueue::default();
        assert!(queue.agrees_with(0) && !queue.agrees_with(1));
        begin(&mut queue, "github");
        assert!(queue.agrees_with(0) && queue.agrees_with(1) && !queue.agrees_with(2));
        queue.answered();
        assert!(queue.agrees_with(1) && !queue.agrees_with(0));
    }

    #[test]
    fn a_new_incarnation_starts_at_one_with_what_was_in_doubt() {
        let mut queue = GrantQueue::default();
        begin(&mut queue, "github");
        assert!(queue.push(EntryKey::new("ana", Some("slack"))));
        queue.restart();
        assert!(queue.pop().unwrap() == EntryKey::new("ana", Some("github")));
        assert_eq!(begin(&mut queue, "github").request_no, 1);
    }

    #[test]
    fn a_set_that_overflows_has_every_id() {
        let mut meanwhile = Meanwhile::default();
        let ids: Vec<String> = (0..=Meanwhile::MOST).map(|n| n.to_string()).collect();
        meanwhile.extend(&ids[..Meanwhile::MOST]);
        assert!(meanwhile.has("0") && !meanwhile.has("unknown"));
        meanwhile.extend(&ids[..1]);
        assert!(!meanwhile.has("unknown"));
        meanwhile.extend(&ids);
        assert!(meanwhile.has("unknown"));
    }
}
