//! What a broker asks for.

use bursar_wire::v1alpha1;

use super::error::CallError;
use crate::names::{TokenName, UserName};

/// The most accesses that one allowance is good for.
const MOST_UNITS: u32 = 5_000;

/// A request whose names are names.
pub(crate) struct Wish {
    pub(crate) number: i64,
    pub(crate) user: UserName,
    pub(crate) token: Option<TokenName>,
    pub(crate) units: i32,
    /// Somebody waits for the answer: it is not only a renewal ahead of time.
    pub(crate) is_awaited: bool,
}

impl Wish {
    pub(crate) fn read(request: v1alpha1::GrantRequest) -> Result<Self, CallError> {
        let number = i64::try_from(request.request_no)
            .ok()
            .filter(|number| *number > 0);
        let token = request.token.map(TokenName::try_from).transpose();
        let units = request.want.clamp(1, MOST_UNITS);
        Ok(Self {
            number: number.ok_or(CallError::Malformed("request_no begins at 1"))?,
            user: user_name(request.user_id)?,
            token: token.map_err(|_| CallError::Malformed("token is not a StoredToken's name"))?,
            // At most 5,000.
            units: units.cast_signed(),
            is_awaited: request.waiting > 0,
        })
    }

    /// The next number, or the last one again.
    pub(crate) fn check_number(&self, last: i64) -> Result<(), CallError> {
        if self.number == last || Some(self.number) == last.checked_add(1) {
            return Ok(());
        }
        Err(CallError::OutOfOrder {
            what: "request number",
            given: self.number.unsigned_abs(),
            last: last.unsigned_abs(),
        })
    }
}

/// The name of the user that a request is about.
pub(crate) fn user_name(user_id: String) -> Result<UserName, CallError> {
    UserName::try_from(user_id)
        .map_err(|_| CallError::Malformed("user_id is not the name of a TokenUser"))
}
