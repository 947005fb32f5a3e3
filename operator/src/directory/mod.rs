//! Who has to hear of what: every change that is heard of comes through here, and wakes the
//! objects it matters to.
//!
//! | what changed | who is reconciled |
//! |---|---|
//! | an object's spec, deletion or finalizer | the object |
//! | a user's email, or a user with one is gone | the users with that email |
//! | what a user's status says, or of which generation; or a user is gone | the tokens of the user |
//! | a user's or token's spec, deletion or finalizer; or one comes or goes | the quotas of it |
//! | a Secret | the tokens that name it |
//! | whether a namespace's Secrets may be read | all in the namespace |
//! | a value that other tokens have was revoked | all in the namespace |
//! | a token was recalled, by a person above all | the token |

mod index;

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bursar_crds::{StoredToken, TokenQuota, TokenUser};
use bursar_vault::Email;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(crate) use index::{Asked, Place, Seen};

use crate::gone::Gone;
use crate::kind::{Kind, QuotaLink, Ref, TokenLink};
use index::Index;

/// Which objects exist, and how to wake them.
pub(crate) struct Directory {
    users: Mutex<Index<Email>>,
    tokens: Mutex<Index<TokenLink>>,
    quotas: Mutex<Index<QuotaLink>>,
    // Unbounded, and yet bounded: the controllers merge what waits for the same object.
    wake_users: UnboundedSender<Ref<TokenUser>>,
    wake_tokens: UnboundedSender<Ref<StoredToken>>,
    wake_quotas: UnboundedSender<Ref<TokenQuota>>,
    gone: UnboundedSender<Gone>,
}

/// The objects to reconcile, for the controllers.
pub(crate) struct Woken {
    pub(crate) users: UnboundedReceiver<Ref<TokenUser>>,
    pub(crate) tokens: UnboundedReceiver<Ref<StoredToken>>,
    pub(crate) quotas: UnboundedReceiver<Ref<TokenQuota>>,
    /// What is to be ended.
    pub(crate) gone: UnboundedReceiver<Gone>,
}

/// A kind that the directory lists.
pub(crate) trait Listed: Kind {
    /// An object was heard of.
    fn applied(directory: &Directory, place: &Place, seen: Seen<Self::Link>);
    /// An object is gone.
    fn removed(directory: &Directory, place: &Place);
    /// All that are listed.
    fn places(directory: &Directory) -> Vec<Place>;
    /// Reconciles an object.
    fn wake(directory: &Directory, place: &Place);
}

impl Directory {
    /// An empty one.
    pub(crate) fn new() -> (Self, Woken) {
        let (wake_users, users) = unbounded_channel();
        let (wake_tokens, tokens) = unbounded_channel();
        let (wake_quotas, quotas) = unbounded_channel();
        let (gone_sender, gone) = unbounded_channel();
        let directory = Self {
            users: Mutex::default(),
            tokens: Mutex::default(),
            quotas: Mutex::default(),
            wake_users,
            wake_tokens,
            wake_quotas,
            gone: gone_sender,
        };
        (
            directory,
            Woken {
                users,
                tokens,
                quotas,
                gone,
            },
        )
    }

    /// A Secret was changed, added or removed.
    pub(crate) fn secret_changed(&self, namespace: &str, name: &str) {
        self.wake_tokens_with(namespace, &TokenLink::Secret(name.to_owned()));
    }

    /// Tokens were recalled, by UID.
    pub(crate) fn tokens_recalled(&self, uids: &HashSet<String>) {
        if uids.is_empty() {
            return;
        }
        let places = lock(&self.tokens).of(uids);
        for place in places {
            StoredToken::wake(self, &place);
        }
    }

    /// Something has changed that may matter to any object there.
    pub(crate) fn namespace_changed(&self, namespace: &str) {
        let users = lock(&self.users).within(namespace);
        let tokens = lock(&self.tokens).within(namespace);
        let quotas = lock(&self.quotas).within(namespace);
        self.wake_all::<TokenUser>(namespace, users);
        self.wake_all::<StoredToken>(namespace, tokens);
        self.wake_all::<TokenQuota>(namespace, quotas);
    }

    /// Whether there is any object of ours.
    pub(crate) fn has_objects(&self, namespace: &str) -> bool {
        !lock(&self.users).is_empty_in(namespace)
            || !lock(&self.tokens).is_empty_in(namespace)
            || !lock(&self.quotas).is_empty_in(namespace)
    }

    /// The names of the users that have an e-mail address in their spec.
    pub(crate) fn users_with(&self, namespace: &str, email: &Email) -> Vec<String> {
        lock(&self.users).sharing(namespace, email)
    }

    /// The object that was seen before is another one now, or none.
    fn ended<K: Kind>(&self, namespace: &str, before: Option<&Asked>, now: Option<&Asked>) {
        let uid = |asked: Option<&Asked>| asked?.uid.as_deref()?.parse().ok();
        if let Some(before) = uid(before)
            && Some(before) != uid(now)
        {
            // Nobody listens only when the controllers have ended.
            let _ = self.gone.send(Gone {
                kind: K::METRIC,
                namespace: namespace.to_owned(),
                uid: before,
            });
        }
    }

    fn wake_tokens_with(&self, namespace: &str, link: &TokenLink) {
        let tokens = lock(&self.tokens).sharing(namespace, link);
        self.wake_all::<StoredToken>(namespace, tokens);
    }

    fn wake_quotas_with(&self, namespace: &str, link: &QuotaLink) {
        let quotas = lock(&self.quotas).sharing(namespace, link);
        self.wake_all::<TokenQuota>(namespace, quotas);
    }

    fn wake_users_with(&self, namespace: &str, email: &Email) {
        let users = self.users_with(namespace, email);
        self.wake_all::<TokenUser>(namespace, users);
    }

    fn wake_all<K: Listed>(&self, namespace: &str, names: Vec<String>) {
        for name in names {
            K::wake(self, &(namespace.to_owned(), name));
        }
    }
}

impl Listed for TokenUser {
    fn applied(directory: &Directory, place: &Place, seen: Seen<Email>) {
        let before = lock(&directory.users).insert(place, seen.clone());
        let (namespace, name) = place;
        let asked_before = before.as_ref().map(|before| &before.asked);
        directory.ended::<Self>(namespace, asked_before, Some(&seen.asked));
        if before.as_ref().map(|before| &before.asked) != Some(&seen.asked) {
            Self::wake(directory, place);
            directory.wake_quotas_with(namespace, &QuotaLink::User(name.clone()));
            let emails_before = before.iter().flat_map(|before| &before.links);
            for email in emails_before.chain(&seen.links) {
                directory.wake_users_with(namespace, email);
            }
        }
        if before.is_none_or(|before| before.said != seen.said) {
            directory.wake_tokens_with(namespace, &TokenLink::User(name.clone()));
        }
    }

    fn removed(directory: &Directory, place: &Place) {
        let before = lock(&directory.users).remove(place);
        let (namespace, name) = place;
        directory.ended::<Self>(namespace, before.as_ref().map(|before| &before.asked), None);
        for email in before.iter().flat_map(|before| &before.links) {
            directory.wake_users_with(namespace, email);
        }
        directory.wake_tokens_with(namespace, &TokenLink::User(name.clone()));
        directory.wake_quotas_with(namespace, &QuotaLink::User(name.clone()));
    }

    fn places(directory: &Directory) -> Vec<Place> {
        lock(&directory.users).places()
    }

    fn wake(directory: &Directory, (namespace, name): &Place) {
        // Nobody listens only when the controllers have ended.
        let _ = directory
            .wake_users
            .send(ObjectRef::new(name).within(namespace));
    }
}

impl Listed for StoredToken {
    fn applied(directory: &Directory, place: &Place, seen: Seen<TokenLink>) {
        let asked = seen.asked.clone();
        let before = lock(&directory.tokens).insert(place, seen);
        let (namespace, name) = place;
        let asked_before = before.as_ref().map(|before| &before.asked);
        directory.ended::<Self>(namespace, asked_before, Some(&asked));
        if asked_before != Some(&asked) {
            Self::wake(directory, place);
            directory.wake_quotas_with(namespace, &QuotaLink::Token(name.clone()));
        }
    }

    fn removed(directory: &Directory, place: &Place) {
        let before = lock(&directory.tokens).remove(place);
        let (namespace, name) = place;
        directory.ended::<Self>(namespace, before.as_ref().map(|before| &before.asked), None);
        directory.wake_quotas_with(namespace, &QuotaLink::Token(name.clone()));
    }

    fn places(directory: &Directory) -> Vec<Place> {
        lock(&directory.tokens).places()
    }

    fn wake(directory: &Directory, (namespace, name): &Place) {
        let _ = directory
            .wake_tokens
            .send(ObjectRef::new(name).within(namespace));
    }
}

impl Listed for TokenQuota {
    fn applied(directory: &Directory, place: &Place, seen: Seen<QuotaLink>) {
        let asked = seen.asked.clone();
        let before = lock(&directory.quotas).insert(place, seen);
        let asked_before = before.as_ref().map(|before| &before.asked);
        directory.ended::<Self>(&place.0, asked_before, Some(&asked));
        if asked_before != Some(&asked) {
            Self::wake(directory, place);
        }
    }

    fn removed(directory: &Directory, place: &Place) {
        let before = lock(&directory.quotas).remove(place);
        directory.ended::<Self>(&place.0, before.as_ref().map(|before| &before.asked), None);
    }

    fn places(directory: &Directory) -> Vec<Place> {
        lock(&directory.quotas).places()
    }

    fn wake(directory: &Directory, (namespace, name): &Place) {
        let _ = directory
            .wake_quotas
            .send(ObjectRef::new(name).within(namespace));
    }
}

fn lock<L>(index: &Mutex<Index<L>>) -> MutexGuard<'_, Index<L>> {
    // Nothing panics while one is held.
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
