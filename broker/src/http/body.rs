//! Reading a JSON body without trusting its length.

use std::mem;
use std::pin::pin;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes};

use super::code::Code;
use super::problem::Problem;

/// The longest body, in bytes.
pub(crate) const MOST_BYTES: usize = 64 * 1024;

const SEND_JSON: &str = "send one JSON object, with the header Content-Type: application/json";

/// Reads a JSON body of at most [`MOST_BYTES`].
///
/// # Errors
/// A [`Problem`] when it is not called JSON, is too large or breaks off.
pub(crate) async fn read_json<B>(headers: &HeaderMap, body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
{
    check_type(headers)?;
    // The announced length, or nothing yet.
    if body.size_hint().lower() > MOST_BYTES as u64 {
        return Err(too_large());
    }
    let mut body = pin!(body);
    // Nearly always one frame, which is taken as it is.
    let (mut only, mut joined) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::invalid("body", "broke off before its end"))?;
        // Trailers are nothing that a call takes.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if only.len() + joined.len() + data.len() > MOST_BYTES {
            return Err(too_large());
        }
        if only.is_empty() && joined.is_empty() {
            only = data;
        } else {
            joined.extend_from_slice(&mem::take(&mut only));
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() {
        only
    } else {
        joined.into()
    })
}

/// The body must be called JSON: a page in a browser can send other types to
/// localhost without asking first.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |detail: &'static str| Err(Problem::new(Code::UnsupportedMediaType, detail));
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else {
        return unsupported(SEND_JSON);
    };
    // As almost all clients write it.
    let json = value == "application/json" || is_json(value.to_str().unwrap_or_default());
    if !json {
        return unsupported(SEND_JSON);
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return unsupported("send the body as it is, without the header Content-Encoding");
    }
    Ok(())
}

fn is_json(value: &str) -> bool {
    let (media_type, parameter) = value.split_once(';').unwrap_or((value, ""));
    let parameter = parameter.trim();
    let json = media_type.trim().eq_ignore_ascii_case("application/json");
    let utf8 = parameter.is_empty() || parameter.eq_ignore_ascii_case("charset=utf-8");
    json && utf8
}

/// Where a body is not what it should be: nothing of what is there.
pub(super) fn position(error: &serde_json::Error) -> String {
    format!(
        "; what is wrong shows at line {}, column {}",
        error.line(),
        error.column()
    )
}

fn too_large() -> Problem {
    Problem::new(
        Code::BodyTooLarge,
        format!("the body may have at most {MOST_BYTES} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http::HeaderName;
    use http_body_util::{Full, StreamBody};
    use hyper::body::{Frame, SizeHint};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    async fn read(pairs: &[(&str, &str)], length: usize) -> Result<usize, Code> {
        let body = Full::new(Bytes::from(vec![b' '; length]));
        match read_json(&headers(pairs), body).await {
            Ok(bytes) => Ok(bytes.len()),
            Err(problem) => Err(problem.code()),
        }
    }

    #[tokio::test]
    async fn json_up_to_64_kib_is_read() {
        for content_type in [
            "application/json",
            "Application/JSON",
            "application/json; charset=UTF-8",
        ] {
            let headers = [("content-type", content_type)];
            assert_eq!(read(&headers, MOST_BYTES).await, Ok(MOST_BYTES));
            assert_eq!(
                read(&headers, MOST_BYTES + 1).await,
                Err(Code::BodyTooLarge)
            );
        }
    }

    #[tokio::test]
    async fn a_body_in_many_frames_is_put_together_and_bounded() {
        let headers = headers(&[("content-type", "application/json")]);
        let frames = |count: usize| {
            let frame = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b' '; 1024])));
            StreamBody::new(futures::stream::iter((0..count).map(move |_| frame())))
        };
        let most = read_json(&headers, frames(64)).await.unwrap();
        assert_eq!(most.len(), MOST_BYTES);
        let over = read_json(&headers, frames(65)).await.unwrap_err();
        assert_eq!(over.code(), Code::BodyTooLarge);
    }

    #[tokio::test]
    async fn a_body_is_refused_by_the_length_it_announces_and_not_read() {
        struct Unread;
        impl Body for Unread {
            type Data = Bytes;
            type Error = Infallible;

            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                panic!("it was read");
            }

            fn size_hint(&self) -> SizeHint {
                SizeHint::with_exact(MOST_BYTES as u64 + 1)
            }
        }
        let headers = headers(&[("content-type", "application/json")]);
        let refused = read_json(&headers, Unread).await.unwrap_err();
        assert_eq!(refused.code(), Code::BodyTooLarge);
    }

    #[tokio::test]
    async fn other_types_are_refused() {
        for pairs in [
            &[][..],
            &[("content-type", "text/plain")],
            &[("content-type", "application/x-www-form-urlencoded")],
            &[("content-type", "application/json5")],
            &[("content-type", "application/json; charset=latin1")],
            &[
                ("content-type", "application/json"),
                ("content-type", "application/json"),
            ],
            &[
                ("content-type", "application/json"),
                ("content-encoding", "gzip"),
            ],
        ] {
            assert_eq!(
                read(pairs, 1).await,
                Err(Code::UnsupportedMediaType),
                "{pairs:?}"
            );
        }
    }
}
