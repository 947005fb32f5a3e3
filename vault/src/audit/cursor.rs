//! Where a page of records ended, with the vault's word for what it gave behind that place.
//!
//! Who follows reads the last seconds again and again. The word is a MAC over who asked, for
//! what, and which records they were given there, all on record by then: nobody can make one up,
//! and it fits as long as there is nothing new to give.

use bursar_seal::{RowMac, RowWriter};
use bursar_wire::people::AuditQuery;
use uuid::Uuid;

use crate::db_time::DbTime;
use crate::people::Person;

/// Between two records.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Position {
    pub(super) time: DbTime,
    pub(super) chain: Uuid,
    pub(super) record_no: i64,
}

/// What a page gives to go on by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Cursor {
    pub(super) position: Position,
    mac: [u8; 32],
}

/// The places of the records on a page that tell of more than that others looked.
pub(super) struct Given<'a> {
    pub(super) key: &'a RowMac,
    pub(super) person: &'a Person,
    pub(super) query: &'a AuditQuery,
    /// In the order of records.
    pub(super) places: Vec<Position>,
}

impl Position {
    /// Before all records of a moment.
    pub(super) const fn before(time: DbTime) -> Self {
        Self {
            time,
            chain: Uuid::nil(),
            record_no: 0,
        }
    }
}

impl Cursor {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let position = Position {
            time: DbTime::from_micros(parts.next()?.parse().ok()?),
            chain: parts.next()?.parse().ok()?,
            record_no: parts.next()?.parse().ok()?,
        };
        let mut mac = [0; 32];
        hex::decode_to_slice(parts.next()?, &mut mac).ok()?;
        (parts.next().is_none() && position.time.is_storable()).then_some(Self { position, mac })
    }

    pub(super) fn text(self) -> String {
        let Position {
            time,
            chain,
            record_no,
        } = self.position;
        let (time, mac) = (time.micros(), hex::encode(self.mac));
        format!("{time}.{chain}.{record_no}.{mac}")
    }
}

impl Given<'_> {
    /// The cursor of this page, if the next begins at `position`.
    pub(super) fn cursor(&self, position: Position) -> Cursor {
        Cursor {
            position,
            mac: self.key.mac(&self.behind(position)),
        }
    }

    /// Whether the page that `cursor` is of gave all of this to the same person.
    pub(super) fn is_known_by(&self, cursor: &Cursor) -> bool {
        let behind = self.behind(cursor.position);
        self.key.verify(&behind, &cursor.mac).is_ok()
    }

    fn behind(&self, position: Position) -> RowWriter {
        let query = AuditQuery {
            cursor: None,
            ..self.query.clone()
        };
        // Our types have nothing in them that JSON has not.
        let query = serde_json::to_vec(&query).unwrap_or_default();
        let row = RowWriter::new("audit cursor")
            .text(&self.person.account())
            .text(self.person.name.as_str())
            .bytes(&query);
        let behind = self.places.iter().filter(|place| **place > position);
        std::iter::once(&position)
            .chain(behind)
            .fold(row, |row, place| {
                row.i64(place.time.micros())
                    .uuid(place.chain)
                    .i64(place.record_no)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is_one() {
        let cursor = Cursor {
            position: Position {
                time: DbTime::from_micros(-7),
                chain: Uuid::from_u128(5),
                record_no: 12,
            },
            mac: [7; 32],
        };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        let place = "1.00000000-0000-0000-0000-000000000005.1";
        let mac = "00".repeat(32);
        assert!(Cursor::parse(&format!("{place}.{mac}")).is_some());
        for wrong in [
            String::new(),
            "1".to_owned(),
            place.to_owned(),
            format!("1.2.3.{mac}"),
            format!("{place}.{mac}.1"),
            format!("{place}.{mac}00"),
            format!("{place}.1"),
        ] {
            assert_eq!(Cursor::parse(&wrong), None, "{wrong}");
        }
    }
}
