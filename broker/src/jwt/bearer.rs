//! Finding the token in a request (RFC 6750, section 2.1).

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::{JwtError, MOST_BYTES};

/// The bearer token of a request, as it came: it is text only if it is a JWT.
///
/// # Errors
/// [`JwtError::Missing`] without an `Authorization` header or with another
/// scheme, [`JwtError::Invalid`] when there are two, or too much in one.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&[u8], JwtError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(JwtError::Missing)?;
    if values.next().is_some() {
        return Err(JwtError::Invalid);
    }
    let value = value.as_bytes();
    let space = value.iter().position(|byte| *byte == b' ');
    let (scheme, token) = value.split_at(space.ok_or(JwtError::Missing)?);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(JwtError::Missing);
    }
    let token = token.trim_ascii();
    if token.is_empty() || token.len() > MOST_BYTES {
        return Err(JwtError::Invalid);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (AUTHORIZATION, value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_scheme_is_found_in_any_case() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c"] {
            assert_eq!(bearer(&headers(&[value])), Ok(&b"a.b.c"[..]));
        }
    }

    #[test]
    fn another_scheme_is_no_token() {
        for values in [&[][..], &["Basic YTpi"], &["a.b.c"], &["Bearer"]] {
            assert_eq!(
                bearer(&headers(values)),
                Err(JwtError::Missing),
                "{values:?}"
            );
        }
    }

    #[test]
    fn two_tokens_are_refused_even_when_they_are_the_same() {
        let two = headers(&["Bearer a.b.c", "Bearer a.b.c"]);
        assert_eq!(bearer(&two), Err(JwtError::Invalid));
    }

    #[test]
    fn a_token_over_8_kib_is_refused() {
        let longest = format!("Bearer {}", "a".repeat(MOST_BYTES));
        assert!(bearer(&headers(&[&longest])).is_ok());
        let too_long = format!("Bearer {}", "a".repeat(MOST_BYTES + 1));
        assert_eq!(bearer(&headers(&[&too_long])), Err(JwtError::Invalid));
    }
}
