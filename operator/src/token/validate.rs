//! From a StoredToken, and what it names, to what the vault is to hold. Pure.

use bursar_crds::names::{SOURCE_LABEL, SOURCE_LABEL_VALUE, SOURCE_SECRET_TYPES};
use bursar_crds::reasons::{ReadyReason, UsableReason};
use bursar_crds::{GenerateFormat, SecretKeyRef, StoredToken};
use bursar_seal::{TokenId, TokenVersion};
use bursar_vault::rows::{self, Consumer};
use bursar_vault::{
    Format, GenerateSpec, NameError, Provider, Purpose, ServiceAccountName, Source, TokenName,
    TokenSpec, TokenValue, UserUid, ValueError,
};
use jiff::Timestamp;
use kube::ResourceExt;
use uuid::Uuid;

use super::dereference::{Found, FoundSource};
use super::readers::{Readers, readers};
use crate::kind::place;
use crate::object::{Said, Verdict};
use crate::secrets::SourceSecret;

/// What the vault is to hold of a token.
// No Debug: it has the value.
pub(super) struct Valid {
    pub(super) spec: TokenSpec,
    pub(super) readers: Readers,
    pub(super) source: SourceValue,
    /// When the Secret's last change was heard of.
    pub(super) heard: Option<Timestamp>,
}

/// The value, or why there is none.
pub(super) enum SourceValue {
    /// What the Secret holds.
    Value(TokenValue),
    /// The vault is to make one.
    Generate(GenerateSpec),
    /// It cannot be had; the newest version goes on being served.
    Unavailable(Said<ReadyReason>),
}

impl SourceValue {
    pub(super) fn as_source(&self) -> Source<'_> {
        match self {
            Self::Value(value) => Source::SecretKeyRef(value),
            Self::Generate(spec) => Source::Generate(spec),
            Self::Unavailable(_) => Source::Unavailable,
        }
    }

    /// Whether it is a value with something behind it that most people do not see.
    pub(super) fn ends_in_whitespace(&self) -> bool {
        match self {
            Self::Value(value) => value.expose().last().is_some_and(u8::is_ascii_whitespace),
            Self::Generate(_) | Self::Unavailable(_) => false,
        }
    }
}

/// `Ok(None)` when the Secret is about to be heard of.
///
/// A source that cannot be had is no error: the rest of the spec, a revocation above all, counts
/// nevertheless.
pub(super) fn validate(
    token: &StoredToken,
    uid: Uuid,
    found: Found,
) -> Result<Option<Valid>, Verdict> {
    let user = found
        .user
        .ok_or_else(|| user_not_found(&token.spec.user_ref.name))?;
    let readers = readers(token, user.workloads.as_deref());
    let spec = spec(token, uid, user.uid).map_err(|(field, error)| {
        let message = format!("spec.{field}: {error}.");
        Verdict {
            ready: Said::new(ReadyReason::Undecodable, message),
            usable: None,
        }
    })?;
    let mut heard = None;
    let wanted = token.spec.source.secret_key_ref.as_ref();
    let source = match (found.source, wanted) {
        (FoundSource::NotOnboarded(why), _) => Err(why),
        (FoundSource::Arriving, _) => return Ok(None),
        (FoundSource::Secret(secret), Some(wanted)) => {
            heard = secret.heard;
            value(&secret, wanted).map(SourceValue::Value)
        }
        (FoundSource::Absent, Some(wanted)) => Err(not_found(wanted)),
        (FoundSource::Unlabelled, Some(wanted)) => Err(not_labelled(wanted, &place(token).0)),
        (_, None) | (FoundSource::Generated, _) => generate(token),
    };
    let source = source.unwrap_or_else(SourceValue::Unavailable);
    Ok(Some(Valid {
        spec,
        readers,
        source,
        heard,
    }))
}

fn spec(
    token: &StoredToken,
    uid: Uuid,
    user: Uuid,
) -> Result<TokenSpec, (&'static str, NameError)> {
    let spec = &token.spec;
    let through = spec
        .revocation
        .as_ref()
        .map(|revocation| revocation.through_version);
    let status = token.status.as_ref();
    Ok(TokenSpec {
        id: TokenId::from(uid),
        name: TokenName::try_from(token.name_any()).map_err(|error| ("name", error))?,
        user_uid: UserUid::from(user),
        provider: Provider::try_from(spec.provider.as_str())
            .map_err(|error| ("provider", error))?,
        expiration_time: spec.expiration_time.as_ref().map(|time| time.0),
        consumers: consumers(token).map_err(|error| ("consumers", error))?,
        // The CRD keeps both within the range.
        through_version: through.and_then(|version| TokenVersion::try_from(version).ok()),
        deletion_policy: policy(spec.deletion_policy),
        known_version: status
            .and_then(|status| status.version)
            .and_then(|version| TokenVersion::try_from(version).ok()),
    })
}

fn consumers(token: &StoredToken) -> Result<Option<Vec<Consumer>>, NameError> {
    let Some(consumers) = &token.spec.consumers else {
        return Ok(None);
    };
    let consumer = |consumer: &bursar_crds::Consumer| {
        let name = ServiceAccountName::try_from(consumer.service_account_name.as_str())?;
        let purposes = consumer.purposes.as_ref().map(|purposes| {
            purposes
                .iter()
                .map(|purpose| Purpose::try_from(purpose.as_str()))
                .collect()
        });
        Ok(Consumer::new(name, purposes.transpose()?))
    };
    consumers
        .iter()
        .map(consumer)
        .collect::<Result<_, _>>()
        .map(Some)
}

/// The vault's word for a deletion policy.
pub(super) fn policy(policy: bursar_crds::DeletionPolicy) -> rows::DeletionPolicy {
    match policy {
        bursar_crds::DeletionPolicy::Retain => rows::DeletionPolicy::Retain,
        bursar_crds::DeletionPolicy::Shred => rows::DeletionPolicy::Shred,
    }
}

fn value(secret: &SourceSecret, wanted: &SecretKeyRef) -> Result<TokenValue, Said<ReadyReason>> {
    let SecretKeyRef { name, key } = wanted;
    if !SOURCE_SECRET_TYPES.contains(&secret.type_()) {
        let [opaque, basic] = SOURCE_SECRET_TYPES;
        return Err(Said::new(
            ReadyReason::SourceTypeNotAllowed,
            format!(
                "Secret {name} is not of type {opaque} or {basic}: put the value into a new \
                 Secret of one of these types (the type of a Secret cannot be changed)."
            ),
        ));
    }
    let value = secret.value(key).ok_or_else(|| {
        let message = format!(
            "Secret {name} has no key {key}: add it, or name another in \
             spec.source.secretKeyRef.key."
        );
        Said::new(ReadyReason::SourceKeyNotFound, message)
    })?;
    TokenValue::new(value).map_err(|error| {
        let reason = match error {
            ValueError::Empty => ReadyReason::SourceEmpty,
            ValueError::TooLong { .. } => ReadyReason::SourceTooLarge,
            ValueError::NotUtf8 => ReadyReason::SourceNotText,
        };
        Said::new(reason, format!("Key {key} of Secret {name}: {error}."))
    })
}

fn generate(token: &StoredToken) -> Result<SourceValue, Said<ReadyReason>> {
    let undecodable = |message: String| Said::new(ReadyReason::Undecodable, message);
    let Some(generate) = &token.spec.source.generate else {
        return Err(undecodable(
            "spec.source has neither secretKeyRef nor generate.".to_owned(),
        ));
    };
    let format = match generate.format {
        GenerateFormat::Base62 => Format::Base62,
        GenerateFormat::Hex => Format::Hex,
    };
    let prefix = generate.prefix.clone().unwrap_or_default();
    // What does not fit is refused as too short or too long.
    let length = u16::try_from(generate.length.max(0)).unwrap_or(u16::MAX);
    GenerateSpec::new(format, length, prefix)
        .map(SourceValue::Generate)
        .map_err(|error| undecodable(format!("spec.source.generate: {error}.")))
}

fn not_found(SecretKeyRef { name, .. }: &SecretKeyRef) -> Said<ReadyReason> {
    let message = format!(
        "Secret {name} does not exist in this namespace: create it, with the label \
         {SOURCE_LABEL}: \"{SOURCE_LABEL_VALUE}\"."
    );
    Said::new(ReadyReason::SourceNotFound, message)
}

fn not_labelled(SecretKeyRef { name, .. }: &SecretKeyRef, namespace: &str) -> Said<ReadyReason> {
    let message = format!(
        "Secret {name} lacks the label {SOURCE_LABEL}={SOURCE_LABEL_VALUE}, so it is not read; to \
         mark it as a source: kubectl label secret {name} --namespace {namespace} --overwrite \
         {SOURCE_LABEL}={SOURCE_LABEL_VALUE}"
    );
    Said::new(ReadyReason::SourceNotLabelled, message)
}

fn user_not_found(name: &str) -> Verdict {
    let message = format!(
        "TokenUser {name} does not exist in this namespace, so nothing of this token is served: \
         create the TokenUser."
    );
    Verdict {
        ready: Said::new(ReadyReason::UserNotFound, message.as_str()),
        usable: Some(Said::new(UsableReason::UserNotFound, message)),
    }
}

#[cfg(test)]
mod tests;
