//! Where the audit is not what was written, in words for people.

use std::fmt;

use uuid::Uuid;

use crate::db_time::DbTime;

/// What a verification went through, and the first place that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verification {
    /// Records whose MAC was computed.
    pub records: u64,
    /// Chains that have records.
    pub chains: u64,
    /// Checkpoints whose MAC and heads were computed.
    pub checkpoints: u64,
    /// `None`: all is as it was written.
    pub first_bad: Option<BadPlace>,
}

/// A place in the audit that is not what was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadPlace {
    /// In which chain: an incarnation, or the tenant itself.
    pub chain_id: Option<Uuid>,
    /// Which record of it.
    pub record_no: Option<i64>,
    /// Or which checkpoint.
    pub checkpoint_no: Option<i64>,
    /// When that was recorded, as far as anything says.
    pub time: Option<DbTime>,
    /// What is wrong there.
    pub wrong: Wrong,
}

/// What is wrong in a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Wrong {
    /// Its MAC does not fit.
    #[error(
        "this record is not the one that was written here: a column of it was changed, or it was \
         put here from elsewhere"
    )]
    RecordChanged,
    /// The number before it came, too.
    #[error("there is another record of this number, or of one that should come later")]
    RecordOutOfOrder,
    /// The numbers go on behind it.
    #[error("this record was removed: records up to {next} are missing, which is there")]
    RecordRemoved {
        /// The next one that is there.
        next: i64,
    },
    /// The head of its chain says that it was written.
    #[error("this record was removed: the head of its chain says that it went up to {head}")]
    RecordsCut {
        /// The record that the head names.
        head: i64,
    },
    /// A checkpoint says that it was written.
    #[error(
        "this record was removed, and the head of its chain set back: checkpoint {checkpoint} says \
         that it went up to {through}"
    )]
    RecordsCutBeforeCheckpoint {
        /// Which checkpoint.
        checkpoint: i64,
        /// The record that it names.
        through: i64,
    },
    /// A checkpoint has another MAC for it.
    #[error(
        "this record was written in the place of another: checkpoint {checkpoint} says that the \
         chain was another one, which was cut and continued"
    )]
    RecordReplaced {
        /// Which checkpoint.
        checkpoint: i64,
    },
    /// Times never go back along a chain.
    #[error(
        "this record says that it was recorded before the one that it follows: the time of the \
         chain in audit_chain was changed before it was written"
    )]
    RecordEarlier,
    /// A checkpoint that was written after it is earlier.
    #[error(
        "this record and those behind it say that they were recorded later than checkpoint \
         {checkpoint}, which was written after them: the database's clock ran ahead and was set \
         back, or somebody made it seem so; all else is as it was written"
    )]
    RecordAhead {
        /// The first checkpoint behind it.
        checkpoint: i64,
    },
    /// It says that it was recorded later than now.
    #[error(
        "this record says that it was recorded later than now: the database's clock ran ahead and \
         was set back, or somebody made it seem so; all else is as it was written"
    )]
    RecordOfTheFuture,
    /// The chain has no row in `audit_chain`.
    #[error("the row of this chain in audit_chain was removed, and its records are still there")]
    HeadRemoved,
    /// Its row does not say what its last record says.
    #[error(
        "the row of this chain in audit_chain was changed: it does not say what the last record says"
    )]
    HeadChanged,
    /// Its row says that older records were dropped, and no checkpoint does.
    #[error(
        "the row of this chain in audit_chain says that records up to this one were dropped by \
         retention, and no boundary checkpoint says so: they were removed"
    )]
    BoundaryInvented,
    /// A boundary goes up to it, and it is younger than the boundary's day.
    #[error(
        "boundary checkpoint {checkpoint} lets retention drop everything up to this record, which \
         is younger than its day: the chain went up to {earlier} at a checkpoint later than that"
    )]
    BoundaryTooLate {
        /// The boundary.
        checkpoint: i64,
        /// How far the chain went after its day.
        earlier: i64,
    },
    /// The MAC of a checkpoint does not fit.
    #[error(
        "this checkpoint is not the one that was written here: a column of it was changed, or it \
         was put here from elsewhere"
    )]
    CheckpointChanged,
    /// Its heads are not those of its digest.
    #[error("the rows of this checkpoint in checkpoint_head were changed, added to or removed")]
    CheckpointHeadsChanged,
    /// Later ones, or heads of it, are there.
    #[error("this checkpoint was removed")]
    CheckpointRemoved,
    /// The checkpoints are not those that are bound outside.
    #[error(
        "the newest checkpoints up to this time, of this namespace or of another one, are not \
         those that ConfigMap bursar-audit-checkpoint binds: the database was set back to an older \
         state, or its newest checkpoints were removed; compare table checkpoint with the \
         operator's log"
    )]
    NotAnchored,
}

impl fmt::Display for BadPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(chain) = self.chain_id {
            write!(f, "chain {chain}, ")?;
        }
        if let Some(number) = self.record_no {
            write!(f, "record {number}")?;
        } else if let Some(number) = self.checkpoint_no {
            write!(f, "checkpoint {number}")?;
        } else {
            write!(f, "the newest checkpoints")?;
        }
        if let Some(time) = self.time.and_then(DbTime::timestamp) {
            write!(f, " ({time})")?;
        }
        write!(f, ": {}", self.wrong)
    }
}
