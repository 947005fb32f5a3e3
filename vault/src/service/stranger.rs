//! What may be asked on a connection that has not attached: to attach, in few
//! bytes. All else is refused before its body is read, so that a stranger costs
//! neither memory nor a query.

use http::Request;
use http_body_util::Limited;
use tonic::Status;
use tonic::body::Body;

use super::connection::Place;
use super::error::CallError;

const ATTACH: &str = "/bursar.vault.v1alpha1.Vault/Attach";
/// The most bytes of an attach: a token of 8 KiB at most, and little beside it.
const LARGEST_ATTACH: usize = 16 * 1024;

/// Lets a call through to be read and answered, or refuses it.
pub(crate) fn admit(request: Request<Body>) -> Result<Request<Body>, Status> {
    if request.uri().path() == ATTACH {
        return Ok(request.map(|body| Body::new(Limited::new(body, LARGEST_ATTACH))));
    }
    let place = request.extensions().get::<Place>();
    match place.and_then(Place::incarnation) {
        Some(_) => Ok(request),
        None => Err(CallError::NotAttached.into()),
    }
}
