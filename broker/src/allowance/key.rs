//! What an allowance is asked for.

/// A user's name and, when the caller named one, the token's name.
///
/// Kept as `USER/TOKEN` (or `USER/`): one string, so that looking an entry up
/// takes one allocation. Neither name can contain a slash.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(crate) struct EntryKey(Box<str>);

impl EntryKey {
    /// The key for a user's token, or for a user's only token.
    pub(crate) fn new(user_id: &str, token: Option<&str>) -> Self {
        Self([user_id, "/", token.unwrap_or_default()].concat().into())
    }

    /// The user's name.
    pub(crate) fn user_id(&self) -> &str {
        self.0
            .split_once('/')
            .map_or(&self.0, |(user_id, _)| user_id)
    }

    /// The token's name, unless it was left out.
    pub(crate) fn token(&self) -> Option<&str> {
        let (_, token) = self.0.split_once('/')?;
        (!token.is_empty()).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_back_its_parts() {
        let named = EntryKey::new("ana", Some("github"));
        assert_eq!((named.user_id(), named.token()), ("ana", Some("github")));
        let unnamed = EntryKey::new("ana", None);
        assert_eq!((unnamed.user_id(), unnamed.token()), ("ana", None));
        assert!(named != unnamed);
    }
}
