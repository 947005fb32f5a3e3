//! Events: what happened to an object, for `kubectl describe`.

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::kind::{Guarded, Kind};

/// A new version of a token was stored.
pub(crate) const VERSION_STORED: &str = "VersionStored";
/// The value of a version just stored is probably not what its author meant.
pub(crate) const VALUE_ENDS_IN_WHITESPACE: &str = "ValueEndsInWhitespace";
/// No broker holds any more what was taken back.
pub(crate) const REVOCATION_COMPLETE: &str = "RevocationComplete";

/// Longer notes, in bytes, are refused by the API server.
const MAX_NOTE: usize = 1024;

/// Publishes events.
#[derive(Clone)]
pub(crate) struct Events {
    client: Client,
}

impl Events {
    /// Through this client.
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Something went as it should.
    pub(crate) async fn normal<K: Kind>(&self, object: &Guarded<K>, reason: &str, note: &str) {
        self.publish(object, EventType::Normal, reason, note).await;
    }

    /// Something has to be mended.
    pub(crate) async fn warning<K: Kind>(&self, object: &Guarded<K>, reason: &str, note: &str) {
        self.publish(object, EventType::Warning, reason, note).await;
    }

    async fn publish<K: Kind>(
        &self,
        object: &Guarded<K>,
        type_: EventType,
        reason: &str,
        note: &str,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note[..note.floor_char_boundary(MAX_NOTE)].to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        // A recorder of its own for each event: one that lives on would count a second event of
        // the same reason under the note of the first, and "version 2" would read "version 1".
        let recorder = Recorder::new(self.client.clone(), Reporter::from("bursar-operator"));
        if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
            // An event is a courtesy; the status says the same and is written again.
            tracing::warn!(%error, "an event was not published");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{REVOCATION_COMPLETE, VALUE_ENDS_IN_WHITESPACE, VERSION_STORED};

    #[test]
    fn the_reference_has_every_event_that_no_condition_gives() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");
        let page = std::fs::read_to_string(page).unwrap();
        for (reason, type_) in [
            (VERSION_STORED, "Normal"),
            (REVOCATION_COMPLETE, "Normal"),
            (VALUE_ENDS_IN_WHITESPACE, "Warning"),
        ] {
            let row = format!("| `{reason}` | {type_} |");
            assert!(page.contains(&row), "no row {row:?}");
        }
    }
}
