//! The body of a successful access, all but ready.

use std::io::Write as _;
use std::time::Duration;

use hyper::body::Bytes;
use serde::Serialize;
use zeroize::Zeroizing;

/// What the caller is told about the token beside its value.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Metadata<'a> {
    pub(crate) user_id: &'a str,
    /// The token's name.
    pub(crate) name: &'a str,
    pub(crate) provider: &'a str,
    pub(crate) version: u32,
    /// RFC 3339.
    pub(crate) version_time: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expiration_time: Option<String>,
}

/// The answer with a gap for the value and the lease: the metadata of a version
/// never changes, so it is written as JSON once.
pub(crate) struct Answer {
    /// `,"user_id":...}`
    tail: Box<[u8]>,
    /// Bytes of the value as a JSON string.
    value_length: usize,
}

impl Answer {
    /// Prepares the answer for a version whose value is `value`, and keeps no
    /// copy of that.
    ///
    /// # Errors
    /// Never with these types; the signature is `serde_json`'s.
    pub(crate) fn new(metadata: &Metadata<'_>, value: &str) -> serde_json::Result<Self> {
        let mut tail = serde_json::to_vec(metadata)?;
        tail[0] = b',';
        let mut length = ByteCount(0);
        serde_json::to_writer(&mut length, value)?;
        Ok(Self {
            tail: tail.into(),
            value_length: length.0,
        })
    }

    /// The whole body: `{"token":VALUE,"expires_in":SECONDS,...}`. Its memory
    /// is zeroed when the last reference to it is dropped.
    ///
    /// # Errors
    /// Never with these types; the signature is `serde_json`'s.
    pub(crate) fn fill(&self, value: &str, lease_left: Duration) -> serde_json::Result<Bytes> {
        const HEAD: &[u8] = br#"{"token":"#;
        const MIDDLE: &[u8] = br#","expires_in":"#;
        const LONGEST_NUMBER: usize = 20;
        // Room for all of it at once: a vector that grows leaves a copy behind.
        let room = HEAD.len() + self.value_length + MIDDLE.len() + LONGEST_NUMBER + self.tail.len();
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        body.extend_from_slice(HEAD);
        if self.value_length == value.len() + 2 {
            // Nothing to escape, as in most values. Not to look for it again makes the
            // body of a value of 1 kB in a third of the time.
            body.push(b'"');
            body.extend_from_slice(value.as_bytes());
            body.push(b'"');
        } else {
            serde_json::to_writer(&mut *body, value)?;
        }
        body.extend_from_slice(MIDDLE);
        write!(body, "{}", lease_left.as_secs()).map_err(serde_json::Error::io)?;
        body.extend_from_slice(&self.tail);
        Ok(Bytes::from_owner(body))
    }
}

/// Counts what is written and keeps nothing of it.
struct ByteCount(usize);

impl std::io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn metadata() -> Metadata<'static> {
        Metadata {
            user_id: "ana",
            name: "github",
            provider: "git\"hub",
            version: 4,
            version_time: "2026-11-21T09:00:00Z".to_owned(),
            expiration_time: None,
        }
    }

    fn body(metadata: &Metadata<'_>, value: &str) -> Value {
        let answer = Answer::new(metadata, value).unwrap();
        let bytes = answer.fill(value, Duration::from_millis(57_900)).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn the_answer_has_the_value_the_lease_and_the_metadata() {
        assert_eq!(
            body(&metadata(), "s3cret"),
            json!({
                "token": "s3cret",
                "expires_in": 57,
                "user_id": "ana",
                "name": "github",
                "provider": "git\"hub",
                "version": 4,
                "version_time": "2026-11-21T09:00:00Z",
            })
        );
    }

    #[test]
    fn an_expiration_time_is_told() {
        let expiring = Metadata {
            expiration_time: Some("2027-01-31T00:00:00Z".into()),
            ..metadata()
        };
        assert_eq!(
            body(&expiring, "s3cret")["expiration_time"],
            "2027-01-31T00:00:00Z"
        );
    }

    #[test]
    fn any_utf8_value_arrives_unchanged_and_never_outgrows_its_buffer() {
        let every_control: String = (0..=0x7f_u8).map(char::from).collect();
        let long = "\u{1}\"\\é🦀".repeat(4_000);
        for value in ["", "a", "\"", "line\nbreak", &every_control, &long] {
            let answer = Answer::new(&metadata(), value).unwrap();
            assert_eq!(
                answer.value_length,
                serde_json::to_vec(value).unwrap().len()
            );
            assert_eq!(body(&metadata(), value)["token"], value);
        }
    }
}
