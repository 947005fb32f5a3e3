//! Free TCP ports on 127.0.0.1.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range from which Linux takes the ports of outgoing connections (32768
/// and up), so that none of those can take a port between our look and its use.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on; another one at each call.
///
/// # Errors
/// When none of the 12,000 ports of the range is free.
pub fn free_port() -> Result<u16, PortsError> {
    // Testbeds that start at the same time begin their search at different places.
    let start = process::id().wrapping_mul(61);
    (0..COUNT)
        .map(|_| NEXT.fetch_add(1, Ordering::Relaxed))
        .map(|turn| FIRST + start.wrapping_add(turn) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or(PortsError)
}

/// No port is free.
#[derive(Debug, thiserror::Error)]
#[error(
    "no TCP port from 20000 to 31999 is free on 127.0.0.1; end some of the processes that listen there"
)]
pub struct PortsError;
