//! For controllers: which tokens were recalled, by whomever.

use std::collections::HashMap;

use bursar_seal::TokenId;

use crate::changes::{self, Change};
use crate::error::DatabaseError;
use crate::vault::Vault;

/// Changes read at once from one shard.
const BATCH: i64 = 1_000;

/// How far the log of changes was read.
#[derive(Clone, Debug)]
pub struct Recalls(HashMap<i16, i64>);

/// What happened since it was looked at last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Recalled {
    /// These tokens were recalled, some perhaps twice.
    Tokens(Vec<TokenId>),
    /// The log was trimmed before it was read: any token may have been.
    Any,
}

impl Vault {
    /// Begins at the present end of the log.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn recalls(&self) -> Result<Recalls, DatabaseError> {
        let heads = changes::heads(self.pool()).await?;
        Ok(Recalls(heads.into_iter().collect()))
    }

    /// What was recalled since the last call.
    ///
    /// # Errors
    /// When the database is away or refuses: the next call begins where this one did.
    pub async fn recalled(&self, since: &mut Recalls) -> Result<Recalled, DatabaseError> {
        // Not `since` itself: what was found in one shard is lost when the next one fails.
        let mut reading = since.clone();
        let mut tokens = Vec::new();
        let mut gap = false;
        for (shard, head) in changes::heads(self.pool()).await? {
            let mut last = reading.0.get(&shard).copied().unwrap_or(0);
            // A database that went back in time has a gap too.
            gap |= head < last;
            while last < head {
                let read = changes::read_after(self.pool(), shard, last, BATCH).await?;
                gap |= read.first().is_none_or(|first| first.seq != last + 1);
                last = read.last().map_or(head, |newest| newest.seq);
                tokens.extend(read.iter().filter_map(|numbered| match numbered.change {
                    Some(Change::Recall(token)) => Some(token),
                    _ => None,
                }));
            }
            reading.0.insert(shard, head.min(last));
        }
        *since = reading;
        Ok(if gap {
            Recalled::Any
        } else {
            Recalled::Tokens(tokens)
        })
    }
}
