//! Groups that tokens do not carry: who asks for them, and how long an answer stands.

use std::{sync::Arc, time::Duration};

use super::StartError;
use crate::{config::Settings, credentials::GroupSource, net::Trust};

/// Who asks for the groups of which issuer's callers.
pub(super) fn sources(settings: &Settings) -> Result<Vec<GroupSource>, StartError> {
    let source = |found: &crate::config::settings::GroupSource| {
        let trust = found.trust.as_ref().map(|pem| Trust::new(Some(pem))).transpose();
        let trust = trust.map_err(|source| StartError::Trust { name: found.issuer.to_string(), source })?;
        Ok(GroupSource {
            issuer: Arc::clone(&found.issuer),
            credential: Arc::clone(&found.credential),
            address: found.address,
            trust,
        })
    };
    settings.groups.iter().map(source).collect()
}

/// How long an answer is fresh, and when it is stale.
pub(super) fn ages(settings: &Settings) -> (Duration, Duration) {
    (settings.timeouts.groups_fresh, settings.timeouts.groups_stale)
}
