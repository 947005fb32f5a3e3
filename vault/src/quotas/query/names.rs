//! What quotas are about, by name, as the rows have it.

use std::collections::HashMap;

use bursar_seal::TokenId;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::names::{UserName, UserUid};
use crate::rows::{Quota, Subject};
use crate::tenant::Tenant;

/// The users there are, and all that quotas are about, also when it was deleted.
pub(super) struct Names {
    users: HashMap<UserUid, User>,
    tokens: HashMap<TokenId, Token>,
}

struct User {
    name: String,
    is_deleted: bool,
}

struct Token {
    name: String,
    user: UserUid,
    user_name: String,
}

impl Names {
    pub(super) async fn read(
        connection: &mut PgConnection,
        tenant: &Tenant,
        quotas: &[Quota],
    ) -> Result<Self, sqlx::Error> {
        let (mut users, mut tokens): (Vec<Uuid>, Vec<Uuid>) = (Vec::new(), Vec::new());
        for quota in quotas {
            match &quota.subject {
                Subject::User(uid) => users.push(uid.as_uuid()),
                Subject::Token(id) => tokens.push(id.as_uuid()),
                Subject::ServiceAccount(_) | Subject::EachUser => {}
            }
        }
        let users = sqlx::query!(
            r#"select user_uid, name, deleted_time is not null as "is_deleted!" from token_user
               where tenant_id = $1 and (deleted_time is null or user_uid = any($2))"#,
            tenant.uuid(),
            &users,
        )
        .fetch_all(&mut *connection)
        .await?;
        let tokens = sqlx::query!(
            "select t.token_id, t.name, t.user_uid, u.name as user_name from token t
             join token_user u on u.tenant_id = t.tenant_id and u.user_uid = t.user_uid
             where t.tenant_id = $1 and t.token_id = any($2)",
            tenant.uuid(),
            &tokens,
        )
        .fetch_all(&mut *connection)
        .await?;
        let user = |name, is_deleted| User { name, is_deleted };
        let users = users.into_iter();
        let users = users.map(|row| (row.user_uid.into(), user(row.name, row.is_deleted)));
        let tokens = tokens.into_iter().map(|row| {
            let token = Token {
                name: row.name,
                user: row.user_uid.into(),
                user_name: row.user_name,
            };
            (row.token_id.into(), token)
        });
        Ok(Self {
            users: users.collect(),
            tokens: tokens.collect(),
        })
    }

    /// The users there are.
    pub(super) fn users(&self) -> impl Iterator<Item = (UserUid, &str)> {
        let users = self.users.iter().filter(|(_, user)| !user.is_deleted);
        users.map(|(uid, user)| (*uid, user.name.as_str()))
    }

    /// The one of that name.
    pub(super) fn uid(&self, name: &UserName) -> Option<UserUid> {
        let mut users = self.users();
        users.find_map(|(uid, other)| (other == name.as_str()).then_some(uid))
    }

    /// Whom a quota is about: the user, or the token's, if it is one.
    pub(super) fn owner(&self, subject: &Subject) -> Option<(UserUid, &str)> {
        match subject {
            Subject::User(uid) => Some((*uid, &self.users.get(uid)?.name)),
            Subject::Token(id) => {
                let token = self.tokens.get(id)?;
                Some((token.user, &token.user_name))
            }
            Subject::ServiceAccount(_) | Subject::EachUser => None,
        }
    }

    /// What a quota is about, as brokers tell it to applications; without a name where the row
    /// is gone.
    pub(super) fn subject(&self, subject: &Subject) -> String {
        let (kind, name) = match subject {
            Subject::User(uid) => ("user", self.users.get(uid).map(|user| &*user.name)),
            Subject::Token(id) => ("token", self.tokens.get(id).map(|token| &*token.name)),
            Subject::ServiceAccount(name) => ("serviceaccount", Some(name.as_str())),
            Subject::EachUser => return "each user".to_owned(),
        };
        name.map_or_else(|| kind.to_owned(), |name| format!("{kind}/{name}"))
    }
}
