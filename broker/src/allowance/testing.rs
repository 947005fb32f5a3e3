//! What the tests of this module need: sealed values and a clock to set.

use std::cell::Cell;
use std::time::Duration;

use bursar_seal::{
    RootKey, RootKeyVersion, RootKeys, SystemRandom, TenantId, TenantKeyVersion, TokenId,
    TokenVersion, ValueContext,
};
use bursar_wire::v1alpha1::Granted;

use super::held::Access;
use crate::clock::{BootTime, Clock, UnixMillis};

/// A clock that the test moves.
pub(crate) struct ManualClock(Cell<BootTime>);

impl ManualClock {
    pub(crate) fn new() -> Self {
        Self(Cell::new(BootTime::after_boot(Duration::from_secs(1_000))))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.set(self.0.get().plus(by));
    }
}

impl Clock for ManualClock {
    fn boot(&self) -> BootTime {
        self.0.get()
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(1_800_000_000_000)
    }
}

/// A clock that reads later each time: as if the process had been stopped
/// between two looks.
pub(crate) struct StoppedBetweenLooks {
    pub(crate) now: Cell<BootTime>,
    pub(crate) stopped: Duration,
}

impl Clock for StoppedBetweenLooks {
    fn boot(&self) -> BootTime {
        let now = self.now.get();
        self.now.set(now.plus(self.stopped));
        now
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(1_800_000_000_000)
    }
}

/// An access that comes in now.
pub(crate) fn access(clock: &dyn Clock) -> Access<'static> {
    Access {
        app_name: "ci",
        purpose: "sync",
        boot: clock.boot(),
        wall: clock.wall(),
    }
}

pub(crate) fn tenant() -> TenantId {
    "7b0a6f1e-9c5d-4a62-8f3b-2d1c0e9a8b7c".parse().unwrap()
}

/// A grant for a minute, as the vault would give it.
pub(crate) fn granted(allowance_id: &str, units: u32, value: &[u8]) -> Granted {
    granted_version(allowance_id, units, value, TokenVersion::FIRST)
}

pub(crate) fn granted_version(
    allowance_id: &str,
    units: u32,
    value: &[u8],
    version: TokenVersion,
) -> Granted {
    let token: TokenId = "0d2f6a1e-3c5d-4b62-9f3b-2d1c0e9a8b7d".parse().unwrap();
    let context = ValueContext {
        tenant: tenant(),
        token,
        version,
        column: "ciphertext",
    };
    let root = RootKey::from_bytes(RootKeyVersion::FIRST, &[7; 32]).unwrap();
    let (tenant_key, _) = RootKeys::new([root])
        .unwrap()
        .new_tenant_key(tenant(), TenantKeyVersion::FIRST, &SystemRandom)
        .unwrap();
    let (fresh, wrapped) = tenant_key
        .new_data_key(token, version, &SystemRandom)
        .unwrap();
    let ciphertext = fresh.seal_value(&context, value, &SystemRandom).unwrap();
    let data_key = tenant_key.open_data_key(token, version, &wrapped).unwrap();
    Granted {
        allowance_id: allowance_id.to_owned(),
        units,
        counted: false,
        expires_in_ms: 60_000,
        user_uid: "u-1".to_owned(),
        token_id: token.to_string(),
        token: "github".to_owned(),
        provider: "github".to_owned(),
        version: version.get(),
        version_time_ms: 1_799_999_000_000,
        expiration_time_ms: None,
        purposes: None,
        data_key: data_key.expose().to_vec(),
        ciphertext: ciphertext.into_bytes(),
    }
}
