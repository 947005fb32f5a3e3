//! What a request must look like to come from this pod.
//!
//! Localhost is not an identity: a browser in the pod, a forwarded port or a
//! proxy reach it too. Requests that show signs of any of them are refused
//! before anything else is looked at.

use std::net::Ipv4Addr;

use http::header::{FORWARDED, HOST, ORIGIN, VIA};
use http::{HeaderMap, HeaderName, Uri};

use super::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a request that is not plainly for localhost.
///
/// # Errors
/// A [`Problem`] that names the header at fault.
pub(crate) fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if uri.authority().is_some() {
        return Err(Problem::not_local(
            "Host",
            "the broker is no proxy: send only a path",
        ));
    }
    let mut hosts = 0;
    for (name, value) in headers {
        if name == HOST {
            hosts += 1;
            if !is_local(value.as_bytes()) {
                return Err(Problem::not_local(
                    "Host",
                    "the Host header must be localhost, 127.0.0.1 or [::1]",
                ));
            }
        } else if name == ORIGIN || name == SEC_FETCH_SITE {
            return Err(Problem::not_local(
                name.as_str(),
                "this call is for programs of this pod: a browser's headers (Origin, \
                 Sec-Fetch-Site) must not be there",
            ));
        } else if name == FORWARDED || name == VIA || name.as_str().starts_with("x-forwarded-") {
            return Err(Problem::not_local(
                name.as_str(),
                "this call must not go through a proxy: its headers (Forwarded, Via, \
                 X-Forwarded-*) must not be there",
            ));
        }
    }
    if hosts != 1 {
        return Err(Problem::not_local("Host", "send exactly one Host header"));
    }
    Ok(())
}

/// Whether this is `localhost` or a literal loopback address, with or without a
/// port. A name that merely resolves to loopback is not: a browser's page can
/// choose such a name (DNS rebinding).
fn is_local(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            if port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) {
                return false;
            }
            name
        }
        _ => host,
    };
    name == "127.0.0.1"
        || name.eq_ignore_ascii_case("localhost")
        || name == "[::1]"
        || name
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::code::Code;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn refused(pairs: &[(&str, &str)]) -> bool {
        match check(&Uri::from_static("/v1/tokens/access"), &headers(pairs)) {
            Ok(()) => false,
            Err(problem) => problem.code() == Code::NotLocal,
        }
    }

    #[test]
    fn localhost_in_its_spellings_passes() {
        for host in [
            "localhost",
            "LocalHost:9440",
            "127.0.0.1",
            "127.0.0.1:9440",
            "127.1.2.3:1",
            "[::1]",
            "[::1]:65535",
        ] {
            assert!(!refused(&[("host", host)]), "{host}");
        }
    }

    #[test]
    fn every_other_host_is_refused() {
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "localhost.",
            "example.com:9440",
            "127.0.0.1.example.com",
            "127.0.0.1.",
            "127.1",
            "0177.0.0.1",
            "2130706433",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "::1",
            "[::1",
            "[::ffff:127.0.0.1]",
            "[fe80::1]",
            "localhost:",
            "localhost:94x0",
            "localhost:123456",
            "localhost:-1",
            "user@localhost",
            "localhost/",
            "localhost, example.com",
        ] {
            assert!(refused(&[("host", host)]), "{host}");
        }
    }

    #[test]
    fn there_must_be_one_host() {
        assert!(refused(&[]));
        assert!(refused(&[("host", "localhost"), ("host", "localhost")]));
        assert!(refused(&[("host", "localhost"), ("host", "example.com")]));
        assert!(refused(&[("host", "example.com"), ("host", "localhost")]));
    }

    #[test]
    fn traces_of_a_browser_or_a_proxy_are_refused() {
        for (name, value) in [
            ("origin", "null"),
            ("origin", "http://localhost:9440"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
            ("forwarded", "for=127.0.0.1"),
            ("via", "1.1 proxy"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "localhost"),
            ("X-Forwarded-Proto", "http"),
            ("x-forwarded-anything", ""),
        ] {
            assert!(refused(&[("host", "localhost"), (name, value)]), "{name}");
        }
    }

    #[test]
    fn headers_of_an_ordinary_client_pass() {
        assert!(!refused(&[
            ("host", "localhost:9440"),
            ("user-agent", "curl/8"),
            ("accept", "*/*"),
            ("connection", "keep-alive"),
            ("x-request-id", "1"),
        ]));
    }

    #[test]
    fn a_proxy_request_is_refused_whatever_its_host_header_says() {
        for uri in [
            "http://localhost:9440/v1/tokens/access",
            "http://example.com/",
            "a.b:443",
        ] {
            let headers = headers(&[("host", "localhost")]);
            assert!(check(&uri.parse().unwrap(), &headers).is_err(), "{uri}");
        }
    }
}
