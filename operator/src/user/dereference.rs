//! The other objects that matter to a user: those with the same e-mail address.

use bursar_crds::TokenUser;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;

use super::validate::Rival;
use crate::context::Context;
use crate::kind::{Kind, is_deleted, place};

/// The other users of the namespace with this user's e-mail address, as last heard of.
pub(super) fn rivals(user: &TokenUser, context: &Context) -> Vec<Rival> {
    let (namespace, own_name) = place(user);
    let emails = user.links();
    let names = emails
        .iter()
        .flat_map(|email| context.directory.users_with(&namespace, email));
    let rival = |name: String| {
        let found = context
            .lists
            .users
            .get(&ObjectRef::new(&name).within(&namespace))?;
        let DeserializeGuard(Ok(found)) = &*found else {
            return None;
        };
        // One that is being deleted gives its address up.
        (!is_deleted(found)).then(|| Rival {
            created: found.creation_timestamp(),
            name,
        })
    };
    names
        .filter(|name| *name != own_name)
        .filter_map(rival)
        .collect()
}
