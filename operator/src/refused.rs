//! What the API server says when it refuses a call.

use kube::core::Status;
use kube::runtime::watcher;

/// Its answer to a call.
pub(crate) fn of_call(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// Its answer to a list or a watch.
pub(crate) fn of_watch(error: &watcher::Error) -> Option<&Status> {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => of_call(error),
        WatchError(status) => Some(status),
        watcher::Error::NoResourceVersion => None,
    }
}
