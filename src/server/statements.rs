//! With what statements of models are signed and checked, as the keys lie there now; and the ones that are
//! owed ([`owed`]).

mod azure;
pub(super) mod owed;

use std::sync::Arc;

use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::{StartError, complaint::Complaint, secrets::Secrets};
use crate::{
    azureml::ResourceId,
    config::{self, Settings},
    gates::custody::{Broken, Voucher},
    lineage::{KeyError, Keys, ModelId, PublicKey, SigningKey, Statements},
    proxy::GateParts,
    store::Store,
};

/// What is in use, so that a change is known as one.
#[derive(Debug, Default)]
pub(super) struct Stating {
    /// Of the configuration and the keys; `None` before the first look.
    digest: Option<[u8; 32]>,
    complaint: Complaint,
}

/// The keys that the configuration names, and the digest by which they are known again; `None` if it
/// names none.
async fn read(settings: &Settings, secrets: &mut Secrets) -> Result<Option<(Keys, [u8; 32])>, StartError> {
    let Some(found) = &settings.evidence else { return Ok(None) };
    let unfit = |what: String| move |source: KeyError| StartError::Evidence { what, source };
    let key = secrets.read(&found.signing_key, "evidence.signing_key").await?;
    let signing = SigningKey::from_pem(key.expose_secret().as_bytes())
        .map_err(unfit("evidence.signing_key".to_owned()))?;
    let mut said = Zeroizing::new(format!("{found:?}\0{}", key.expose_secret()));
    let mut before = Vec::new();
    for path in &found.previous {
        let text = std::fs::read_to_string(path)
            .map_err(|source| StartError::File { path: path.clone(), source })?;
        before.extend(PublicKey::all_from_pem(&text).map_err(unfit(path.display().to_string()))?);
        said.push('\0');
        said.push_str(&text);
    }
    let digest = config::digest(said.as_bytes());
    Ok(Some((Keys::new(signing, before, &found.gate), digest)))
}

/// The keys that the configuration names; `None` if it names none.
pub(super) async fn keys(settings: &Settings, secrets: &mut Secrets) -> Result<Option<Keys>, StartError> {
    Ok(read(settings, secrets).await?.map(|(keys, _)| keys))
}

/// The statements of a gate that begins.
pub(super) async fn begun(
    settings: &Settings,
    secrets: &mut Secrets,
    store: Option<&Store>,
) -> Result<Option<Arc<Statements>>, StartError> {
    let keys = keys(settings, secrets).await?;
    Ok(store.zip(keys).map(|(store, keys)| Arc::new(Statements::new(store.clone(), keys))))
}

/// The statements of a running gate under another configuration.
pub(super) async fn again(
    settings: &Settings,
    secrets: &mut Secrets,
    parts: &GateParts,
) -> Result<Option<Arc<Statements>>, StartError> {
    let Some(statements) = &parts.statements else {
        return begun(settings, secrets, parts.store.as_ref()).await;
    };
    Ok(keys(settings, secrets).await?.map(|keys| {
        statements.exchange(keys);
        Arc::clone(statements)
    }))
}

impl Stating {
    /// Takes over other keys; what cannot be used leaves the old ones in use.
    pub(super) async fn look(&mut self, parts: &GateParts, settings: &Settings, secrets: &mut Secrets) {
        let Some(statements) = &parts.statements else { return };
        let found = self.changed(settings, secrets).await;
        if let Some(keys) = self.complaint.heard(found, "statements are signed as before") {
            tracing::info!(
                key = keys.trusted().first().map(|key| key.id().as_str()),
                "statements have other keys"
            );
            statements.exchange(keys);
        }
    }

    /// With what to sign from here on, if that is another than before.
    async fn changed(
        &mut self,
        settings: &Settings,
        secrets: &mut Secrets,
    ) -> Result<Option<Keys>, StartError> {
        let Some((keys, digest)) = read(settings, secrets).await? else { return Ok(None) };
        let before = self.digest.replace(digest);
        // At the first look, too: they may have been exchanged since the gate began.
        Ok((before != Some(digest)).then_some(keys))
    }
}

/// Whether what is deployed is stated, by what is kept and the keys that are believed then.
pub(super) fn voucher(statements: Option<&Arc<Statements>>) -> Option<Voucher> {
    let statements = Arc::clone(statements?);
    Some(Voucher::new(move |model, commit| {
        let statements = Arc::clone(&statements);
        Box::pin(async move {
            let none = || Broken::Chain(format!("`{model}` is no version of a model"));
            let id = ModelId::parse(model.as_str()).ok_or_else(none)?;
            let job = commit.through.last().map_or("", ResourceId::as_str);
            match statements.vouches(&id, &commit.tie.commit, job).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(why)) => Err(Broken::Chain(why)),
                Err(error) => Err(Broken::Unread(error.to_string())),
            }
        })
    }))
}
