//! Whose opinion is asked, with the token as it lies there now.

use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use super::{StartError, build, complaint::Complaint, secrets::Secrets};
use crate::{
    config::{
        self, Settings,
        settings::{Clutch, ClutchCheck},
    },
    gates::{Gates, opinions::Adviser},
    secrets::SecretError,
    time::SharedClock,
};

/// The digest of a configuration that names nobody.
const NOBODY: [u8; 32] = [0; 32];

/// What is in use, so that a change is known as one.
#[derive(Debug, Default)]
pub(super) struct Advising {
    /// Of the configuration and the token; `None` before the first look.
    digest: Option<[u8; 32]>,
    complaint: Complaint,
}

/// Whom the configuration says to ask.
pub(super) async fn adviser(
    settings: &Settings,
    secrets: &mut Secrets,
    clock: &SharedClock,
) -> Result<Option<Adviser>, StartError> {
    let Some((clutch, check)) = checked(settings) else { return Ok(None) };
    let token = token(check, secrets).await?;
    built(clutch, check, token, settings, clock).map(Some)
}

fn checked(settings: &Settings) -> Option<(&Clutch, &ClutchCheck)> {
    let clutch = settings.clutch.as_ref()?;
    Some((clutch, clutch.check.as_ref()?))
}

async fn token(check: &ClutchCheck, secrets: &mut Secrets) -> Result<Option<SecretString>, StartError> {
    match &check.token {
        Some(reference) => secrets.read(reference, "clutch.check").await.map(Some),
        None => Ok(None),
    }
}

fn built(
    clutch: &Clutch,
    check: &ClutchCheck,
    token: Option<SecretString>,
    settings: &Settings,
    clock: &SharedClock,
) -> Result<Adviser, StartError> {
    let flaw = "is none that a header can hold";
    let unfit = |_| StartError::Secret {
        what: "clutch.check".to_owned(),
        source: SecretError::Unfit { place: "the token".to_owned(), flaw },
    };
    let header = |token: SecretString| {
        let mut header = HeaderValue::try_from(format!("Token {}", token.expose_secret().trim()))?;
        header.set_sensitive(true);
        Ok::<_, http::header::InvalidHeaderValue>(header)
    };
    let token = token.map(header).transpose().map_err(unfit)?;
    let to = build::destination(&check.url).at(check.address);
    let to = build::trusting(to, "clutch.check", check.trust.as_ref())?;
    let connector = build::connector(settings, clock)?;
    let (people, claim) = (clutch.people.clone(), clutch.claim.clone());
    Ok(Adviser::new(connector, to, check.path.clone(), token, people, claim))
}

impl Advising {
    /// Takes over another configuration or token; what cannot be used leaves the old one in use.
    pub(super) async fn look(
        &mut self,
        gates: &Gates,
        settings: &Settings,
        secrets: &mut Secrets,
        clock: &SharedClock,
    ) {
        let found = self.changed(settings, secrets, clock).await;
        if let Some(adviser) = self.complaint.heard(found, "Clutch is asked as before") {
            gates.opinions().by(adviser);
        }
    }

    /// Whom to ask from here on, if that is another than before.
    async fn changed(
        &mut self,
        settings: &Settings,
        secrets: &mut Secrets,
        clock: &SharedClock,
    ) -> Result<Option<Option<Adviser>>, StartError> {
        let Some((clutch, check)) = checked(settings) else {
            let before = self.digest.replace(NOBODY);
            return Ok((before != Some(NOBODY)).then_some(None));
        };
        let token = token(check, secrets).await?;
        let said = token.as_ref().map(|token| token.expose_secret()).unwrap_or_default();
        let digest = config::digest(format!("{clutch:?}\0{said}").as_bytes());
        if self.digest == Some(digest) {
            return Ok(None);
        }
        let adviser = built(clutch, check, token, settings, clock)?;
        self.digest = Some(digest);
        Ok(Some(Some(adviser)))
    }
}
