//! The broker's answer, handed to the bare server so that both send the same bytes.

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

/// Headers that hyper writes by itself in either server.
const WRITTEN_BY_HYPER: [HeaderName; 4] = [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING];

/// Headers and body of an answer with status 200.
///
/// The body holds a token, if only a made-up one: hence no `Debug`.
#[derive(Serialize, Deserialize)]
pub struct Answer {
    headers: Vec<(String, String)>,
    /// The body, to be sent as it is.
    pub body: String,
}

/// Why an answer cannot be given again by another server.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Only a success is worth comparing.
    #[error("the broker answered {0} instead of 200; look at the broker's log")]
    Status(StatusCode),
    /// JSON is text, so this is not the answer that was asked for.
    #[error("the broker's answer is not text; expected JSON")]
    NotText,
    /// A header that HTTP does not allow.
    #[error("the recorded answer has a header that cannot be sent")]
    Header,
}

impl Answer {
    /// Keeps what a server has to write itself.
    ///
    /// # Errors
    /// When the status is not 200 or something in it is not text.
    pub fn of(status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> Result<Self, AnswerError> {
        if status != StatusCode::OK {
            return Err(AnswerError::Status(status));
        }
        let headers = headers
            .iter()
            .filter(|(name, _)| !WRITTEN_BY_HYPER.contains(name))
            .map(|(name, value)| Ok((name.to_string(), value.to_str()?.to_owned())))
            .collect::<Result<_, http::header::ToStrError>>()
            .map_err(|_| AnswerError::NotText)?;
        let body = String::from_utf8(body).map_err(|_| AnswerError::NotText)?;
        Ok(Self { headers, body })
    }

    /// The headers, ready to be sent.
    ///
    /// # Errors
    /// When a header is not allowed in HTTP.
    pub fn header_map(&self) -> Result<HeaderMap, AnswerError> {
        let mut map = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).map_err(|_| AnswerError::Header)?;
            let value = HeaderValue::try_from(value).map_err(|_| AnswerError::Header)?;
            map.append(name, value);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_body_and_headers_but_those_that_hyper_writes() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static("now"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("2"));
        headers.insert("cache-control", HeaderValue::from_static("no-store"));
        let answer = Answer::of(StatusCode::OK, &headers, b"{}".to_vec()).unwrap();
        let again = answer.header_map().unwrap();
        assert_eq!(again.len(), 1);
        assert_eq!(again["cache-control"], "no-store");
        assert_eq!(answer.body, "{}");
    }

    #[test]
    fn only_a_success_is_kept() {
        let refused = Answer::of(StatusCode::FORBIDDEN, &HeaderMap::new(), Vec::new());
        assert!(matches!(refused, Err(AnswerError::Status(_))));
    }
}
