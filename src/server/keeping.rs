//! What outlives the gate's runs, for the gate and for the verbs that look after it: the store of a
//! configuration, the key that signs the record, and those that open the bodies beside it.

use std::sync::Arc;

use super::{StartError, build, checkup::Finding, secrets::Secrets};
use crate::{
    config::{Settings, settings},
    secrets::{BlobSealer, Purpose, SecretString},
    store::{OpenError, Store, StoreAddress},
    time::SharedClock,
};

/// The store that a configuration names, not asked for anything yet; `None` if it names none. For
/// `amlgate store`.
///
/// # Errors
/// [`StartError`].
pub async fn store(settings: &Settings, clock: &SharedClock) -> Result<Option<Store>, StartError> {
    let connector = build::connector(settings, clock)?;
    let (_, mut secrets) = build::credentials(settings, &connector, clock).await?;
    named(settings, &mut secrets).await
}

/// The key that signs the heads of the record, for verbs that sign beside the gate.
///
/// # Errors
/// [`StartError`].
pub async fn signing_key(settings: &Settings, clock: &SharedClock) -> Result<SecretString, StartError> {
    let connector = build::connector(settings, clock)?;
    let (_, mut secrets) = build::credentials(settings, &connector, clock).await?;
    secrets.read(&settings.audit.signing_key, "audit.signing_key").await
}

/// What opens the bodies beside the record, for verbs that show one.
///
/// # Errors
/// [`StartError`].
pub async fn body_keys(settings: &Settings, clock: &SharedClock) -> Result<BlobSealer, StartError> {
    let connector = build::connector(settings, clock)?;
    let (_, mut secrets) = build::credentials(settings, &connector, clock).await?;
    Ok(build::seal(settings, &mut secrets).await?.blob_sealer(Purpose::Bodies))
}

async fn named(settings: &Settings, secrets: &mut Secrets) -> Result<Option<Store>, StartError> {
    let address = match &settings.store {
        None => return Ok(None),
        Some(settings::Store::Sqlite(path)) => StoreAddress::Sqlite(path.clone()),
        Some(settings::Store::Postgres(url)) => StoreAddress::Postgres(secrets.read(url, "store").await?),
    };
    Ok(Some(Store::new(address)?))
}

/// The gate's store, migrated. A database that does not answer yet keeps no gate from starting: what
/// needs it is denied until it does.
pub(super) async fn opened(settings: &Settings, secrets: &mut Secrets) -> Result<Option<Store>, StartError> {
    let Some(store) = named(settings, secrets).await? else { return Ok(None) };
    match store.prepare().await {
        Ok(()) => {}
        Err(OpenError::Unreachable(why)) if matches!(settings.store, Some(settings::Store::Postgres(_))) => {
            tracing::error!(why, "the store cannot be reached; what needs it is denied");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Some(store))
}

/// For `doctor`.
pub(super) async fn finding(settings: &Settings, secrets: &mut Secrets) -> Option<Finding> {
    const MEND: &str =
        "the gate's user must own the file and its folder, or the URL of the database must be right";
    let store = match named(settings, secrets).await {
        Ok(store) => store?,
        Err(error) => return Some(Finding::broken("store", super::checkup::causes(&error), MEND)),
    };
    Some(match store.check().await {
        Err(error) => Finding::unreachable("store", super::checkup::causes(&error), MEND),
        Ok(found) if !found.damage.is_empty() => Finding::broken(
            "store",
            format!("{} is damaged: {}", found.store, found.damage.join("; ")),
            "stop the gate and restore a backup",
        ),
        Ok(found) => match found.version {
            Some(version) if version > found.known => Finding::broken(
                "store",
                format!("{} is at version {version}, this program knows {}", found.store, found.known),
                "start a newer gate, or restore a backup from before",
            ),
            Some(version) => Finding::fine("store", format!("{} answers, at version {version}", found.store)),
            None => {
                Finding::fine("store", format!("{} answers; the gate will create its tables", found.store))
            }
        },
    })
}

/// The readiness of the store, as far as the gate depends on it.
pub(super) fn dependency(store: &Store) -> crate::admin::Dependency {
    let store = store.clone();
    crate::admin::Dependency::new("store", move || match store.failure() {
        None => crate::admin::State::Ready,
        Some(error) => crate::admin::State::Degraded {
            detail: format!("what needs it is denied: {}", Arc::unwrap_or_clone(error)),
        },
    })
}
