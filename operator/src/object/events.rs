//! Events: what happened to an object, for `kubectl describe`.

use jiff::Timestamp;
use k8s_openapi::api::events::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};

use crate::kind::{Guarded, Kind, place};
use crate::refused;

/// A new version of a token was stored.
pub(crate) const VERSION_STORED: &str = "VersionStored";
/// The value of a version just stored is probably not what its author meant.
pub(crate) const VALUE_ENDS_IN_WHITESPACE: &str = "ValueEndsInWhitespace";
/// No broker holds any more what was taken back.
pub(crate) const REVOCATION_COMPLETE: &str = "RevocationComplete";

/// Who says so.
const REPORTER: &str = "bursar-operator";
const ACTION: &str = "Reconcile";
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

    /// Something went as it should, of which there is one event for each `time`, also when it is
    /// told again by who does not know that it was told.
    ///
    /// # Errors
    /// When the API server does not take it now, and may later.
    pub(crate) async fn once<K: Kind>(
        &self,
        object: &Guarded<K>,
        reason: &str,
        note: &str,
        time: Timestamp,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let (namespace, name) = place(object);
        let event = v1::Event {
            metadata: ObjectMeta {
                // A recorder's would be of its own time.
                name: Some(format!("{name}.{:x}", time.as_microsecond())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("Normal".to_owned()),
            reason: Some(reason.to_owned()),
            note: Some(shortened(note)),
            action: Some(ACTION.to_owned()),
            regarding: Some(object.object_ref(&())),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(REPORTER.to_owned()),
            reporting_instance: Some(REPORTER.to_owned()),
            ..v1::Event::default()
        };
        let events = Api::namespaced(self.client.clone(), &namespace);
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) if is_final(&error) => {
                tracing::warn!(%error, "an event was not published");
                Ok(())
            }
            Err(error) => Err(error),
        }
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
            note: Some(shortened(note)),
            action: ACTION.to_owned(),
            secondary: None,
        };
        // A recorder of its own for each event: one that lives on would count a second event of
        // the same reason under the note of the first, and "version 2" would read "version 1".
        let recorder = Recorder::new(self.client.clone(), Reporter::from(REPORTER));
        if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
            // An event is a courtesy; the status says the same and is written again.
            tracing::warn!(%error, "an event was not published");
        }
    }
}

/// Whether the API server will say the same again: an event is no reason to keep the status back
/// for ever.
fn is_final(error: &kube::Error) -> bool {
    const TOO_MANY_REQUESTS: u16 = 429;
    refused::of_call(error)
        .is_some_and(|status| (400..500).contains(&status.code) && status.code != TOO_MANY_REQUESTS)
}

fn shortened(note: &str) -> String {
    note[..note.floor_char_boundary(MAX_NOTE)].to_owned()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::{REVOCATION_COMPLETE, VALUE_ENDS_IN_WHITESPACE, VERSION_STORED, is_final};

    #[test]
    fn an_event_that_may_be_taken_later_is_tried_again_and_one_that_is_refused_is_not() {
        for (code, expected) in [
            (400, true),
            (403, true),
            (404, true),
            (422, true),
            (429, false),
            (500, false),
            (503, false),
        ] {
            let status = Status::failure("no", "No").with_code(code);
            let error = kube::Error::Api(Box::new(status));
            assert_eq!(is_final(&error), expected, "{code}");
        }
    }

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
