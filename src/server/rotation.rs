//! Secrets and certificates of credentials that are exchanged while the gate runs: the new one is
//! tried, and taken over when it works; until then the old one stays in use.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    checkup::causes,
    reload::{record, refused},
    secrets::Secrets,
};
use crate::{
    audit::event::Event,
    config::{Settings, settings::Credential},
    proxy::GateParts,
    time::Timestamp,
};

/// A new secret that does not work is tried again so often: Entra takes a while to know it
/// everywhere.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// What was seen of credentials that could not be taken over, by name.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    refused: HashMap<Arc<str>, Refused>,
}

#[derive(Debug)]
struct Refused {
    /// Of the settings that were tried, or of the reason why there were none to try.
    digest: [u8; 32],
    tried: Timestamp,
}

impl Rotation {
    /// Looks at the credentials of a configuration as their secrets stand now.
    pub(super) async fn look(
        &mut self,
        parts: &GateParts,
        settings: &Settings,
        secrets: &mut Secrets,
        now: Timestamp,
        asked: bool,
    ) {
        parts.credentials.retain(|name| settings.credentials.iter().any(|c| &*c.name == name));
        self.refused.retain(|name, _| settings.credentials.iter().any(|c| c.name == *name));
        for credential in &settings.credentials {
            self.one(parts, credential, secrets, now, asked).await;
        }
    }

    async fn one(
        &mut self,
        parts: &GateParts,
        credential: &Credential,
        secrets: &mut Secrets,
        now: Timestamp,
        asked: bool,
    ) {
        let name = &credential.name;
        let material = match secrets.material(credential).await {
            Ok(material) => material,
            Err(error) => {
                let problem = causes(&error);
                let digest = crate::config::digest(problem.as_bytes());
                if self.is_news(name, digest, now) {
                    refused(parts, "credentials", &problem, 1).await;
                }
                return;
            }
        };
        let digest = material.digest;
        let in_use = parts.credentials.digest(name);
        if in_use == Some(digest) {
            if self.refused.remove(name).is_some() {
                parts.credentials.withdrawn(name);
            }
            return;
        }
        let waits = self
            .refused
            .get(name)
            .is_some_and(|refused| refused.digest == digest && now.since(refused.tried) < TRY_AGAIN);
        if waits && !asked {
            return;
        }
        let offered = match material.credential(credential) {
            Ok(offered) => offered,
            Err(error) => {
                if self.is_news(name, digest, now) {
                    refused(parts, "credentials", &causes(&error), 1).await;
                }
                return;
            }
        };
        if in_use.is_none() {
            parts.credentials.add(offered);
        } else if let Err(error) = parts.credentials.offer(offered).await {
            if self.is_news(name, digest, now) {
                let problem =
                    format!("the credential `{name}` keeps its old proof, the new one fails: {error}");
                refused(parts, "credentials", &problem, 1).await;
            }
            return;
        }
        self.refused.remove(name);
        let place = credential.proof.secret().map(|reference| secrets.age(reference).place);
        tracing::info!(credential = &**name, place, "the credential's new proof is in use");
        let event = Event::CredentialChanged { name: name.to_string(), place: place.unwrap_or_default() };
        record(parts, &event).await;
    }

    /// Notes a failure; whether it is another than the one before.
    fn is_news(&mut self, name: &Arc<str>, digest: [u8; 32], now: Timestamp) -> bool {
        let before = self.refused.insert(Arc::clone(name), Refused { digest, tried: now });
        before.is_none_or(|before| before.digest != digest)
    }
}
