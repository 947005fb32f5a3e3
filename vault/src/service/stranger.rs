//! What is read of a call, and when.
//!
//! On a connection that has not attached only an attach is, in few bytes. All
//! else is refused before its body is read, so that a stranger costs neither
//! memory nor a query. Who has attached has few calls read at once.

use std::sync::Arc;

use http::Request;
use http_body_util::Limited;
use tonic::Status;
use tonic::body::Body;

use super::connection::Place;
use super::error::CallError;
use super::turns::{Caller, Turns};

const ATTACH: &str = "/bursar.vault.v1alpha1.Vault/Attach";
/// The most bytes of an attach: a token of 8 KiB at most, and little beside it.
const LARGEST_ATTACH: usize = 16 * 1024;

/// Lets a call through to be read and answered, or refuses it. With the call of
/// who has attached goes its turn, an `Arc<OwnTurn>` among the extensions.
pub(crate) async fn admit(
    turns: Turns,
    mut request: Request<Body>,
) -> Result<Request<Body>, Status> {
    if request.uri().path() == ATTACH {
        return Ok(request.map(|body| Body::new(Limited::new(body, LARGEST_ATTACH))));
    }
    let place = request.extensions().get::<Place>();
    let attached = place.and_then(Place::incarnation);
    let id = attached.ok_or(CallError::NotAttached)?;
    let turn = turns.own(Caller::Run(id)).await;
    request.extensions_mut().insert(Arc::new(turn));
    Ok(request)
}
