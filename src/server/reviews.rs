//! Who is asked whether code was reviewed, with the tokens as they lie there now.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{StartError, build, complaint::Complaint, groups, secrets::Secrets};
use crate::{
    config::{self, Settings, settings},
    gates::{
        Gates,
        review::{gerrit::Gerrit, mirror::Ages},
    },
    secrets::SecretError,
    time::SharedClock,
};

/// What is in use, so that a change is known as one.
#[derive(Debug, Default)]
pub(super) struct Reviewing {
    /// Of the configuration and the tokens; `None` before the first look.
    digest: Option<[u8; 32]>,
    complaint: Complaint,
}

/// How old may be what is known of groups.
pub(super) fn ages(settings: &Settings) -> Ages {
    let (fresh, stale) = groups::ages(settings);
    Ages { fresh, stale }
}

/// Whom the configuration says to ask.
pub(super) async fn servers(
    settings: &Settings,
    secrets: &mut Secrets,
    clock: &SharedClock,
) -> Result<Vec<Gerrit>, StartError> {
    let mut servers = Vec::new();
    for found in &settings.gerrits {
        servers.push(one(found, settings, secrets, clock).await?);
    }
    Ok(servers)
}

/// One server, with its token as it lies there now.
pub(super) async fn one(
    found: &settings::Gerrit,
    settings: &Settings,
    secrets: &mut Secrets,
    clock: &SharedClock,
) -> Result<Gerrit, StartError> {
    let token = secrets.read(&found.token, &what(found)).await?;
    built(found, &token, settings, clock)
}

fn what(found: &settings::Gerrit) -> String {
    format!("the Gerrit `{}`", found.name)
}

fn built(
    found: &settings::Gerrit,
    token: &SecretString,
    settings: &Settings,
    clock: &SharedClock,
) -> Result<Gerrit, StartError> {
    let flaw = "is none that a header can hold";
    let unfit = || StartError::Secret {
        what: what(found),
        source: SecretError::Unfit { place: "the token".to_owned(), flaw },
    };
    let token = token.expose_secret().trim();
    if token.is_empty() || token.contains(char::is_control) {
        return Err(unfit());
    }
    let pair = Zeroizing::new(format!("{}:{token}", found.user));
    let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut authorization = HeaderValue::try_from(basic.as_str()).map_err(|_| unfit())?;
    authorization.set_sensitive(true);
    let to = build::destination(&found.url).at(found.address);
    let to = build::trusting(to, &what(found), found.trust.as_ref())?;
    let made_of = Zeroizing::new(format!("{found:?}\0{token}"));
    Ok(Gerrit::new(
        found.name.clone(),
        build::connector(settings, clock)?,
        to,
        found.base.clone(),
        authorization,
        found.web().into(),
        found.people.clone(),
    )
    .made_of(config::digest(made_of.as_bytes())))
}

impl Reviewing {
    /// Takes over another configuration or token; what cannot be used leaves the old one in use.
    pub(super) async fn look(
        &mut self,
        gates: &Gates,
        settings: &Settings,
        secrets: &mut Secrets,
        clock: &SharedClock,
    ) {
        gates.reviews().mirror().aged(ages(settings));
        let found = self.changed(settings, secrets, clock).await;
        if let Some(servers) = self.complaint.heard(found, "Gerrit is asked as before") {
            gates.reviews().by(servers);
        }
    }

    /// Whom to ask from here on, if that is another than before.
    async fn changed(
        &mut self,
        settings: &Settings,
        secrets: &mut Secrets,
        clock: &SharedClock,
    ) -> Result<Option<Vec<Gerrit>>, StartError> {
        let mut said = Zeroizing::new(format!("{:?}", settings.gerrits));
        let mut servers = Vec::new();
        for found in &settings.gerrits {
            let token = secrets.read(&found.token, &what(found)).await?;
            said.push('\0');
            said.push_str(token.expose_secret());
            servers.push((found, token));
        }
        let digest = config::digest(said.as_bytes());
        if self.digest == Some(digest) {
            return Ok(None);
        }
        let servers = servers.iter().map(|(found, token)| built(found, token, settings, clock));
        let servers = servers.collect::<Result<_, _>>()?;
        self.digest = Some(digest);
        Ok(Some(servers))
    }
}
