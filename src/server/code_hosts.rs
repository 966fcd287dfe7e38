//! The code hosts besides Gerrits that are asked whether code was reviewed, with the tokens as they lie
//! there now.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{StartError, build, complaint::Complaint, secrets::Secrets};
use crate::{
    config::{self, Settings, settings},
    gates::{
        Gates,
        review::{github::GitHub, gitlab::GitLab, hosts::Others, rest::Rest},
    },
    policy::review::HostKind,
    secrets::SecretError,
    time::SharedClock,
};

/// What is in use, so that a change is known as one.
#[derive(Debug, Default)]
pub(super) struct Hosting {
    /// Of the configuration and the tokens; `None` before the first look.
    digest: Option<[u8; 32]>,
    complaint: Complaint,
}

/// Whom the configuration says to ask.
pub(super) async fn others(
    settings: &Settings,
    secrets: &mut Secrets,
    clock: &SharedClock,
) -> Result<Others, StartError> {
    let mut others = Others::default();
    for found in &settings.code_hosts {
        let token = secrets.read(&found.token, &found.named().to_string()).await?;
        take(&mut others, found, &token, settings, clock)?;
    }
    Ok(others)
}

/// One of them alone.
pub(super) async fn one(
    found: &settings::Host,
    settings: &Settings,
    secrets: &mut Secrets,
    clock: &SharedClock,
) -> Result<Others, StartError> {
    let token = secrets.read(&found.token, &found.named().to_string()).await?;
    let mut others = Others::default();
    take(&mut others, found, &token, settings, clock)?;
    Ok(others)
}

fn take(
    others: &mut Others,
    found: &settings::Host,
    token: &SecretString,
    settings: &Settings,
    clock: &SharedClock,
) -> Result<(), StartError> {
    let what = found.named().to_string();
    let to = build::destination(&found.url).at(found.address);
    let to = build::trusting(to, &what, found.trust.as_ref())?;
    let headers = headers(found.kind, token, &what)?;
    let rest = Rest::new(build::connector(settings, clock)?, to, found.base.clone(), headers);
    let (name, accounts) = (found.name.clone(), found.accounts.clone());
    match found.kind {
        HostKind::GitHub => others.githubs.push(GitHub::new(name, rest, accounts)),
        HostKind::GitLab => others.gitlabs.push(GitLab::new(name, rest, accounts)),
        // Has its own list.
        HostKind::Gerrit => {}
    }
    Ok(())
}

/// What is sent along with each question.
fn headers(kind: HostKind, token: &SecretString, what: &str) -> Result<HeaderMap, StartError> {
    let flaw = "is none that a header can hold";
    let unfit = || StartError::Secret {
        what: what.to_owned(),
        source: SecretError::Unfit { place: "the token".to_owned(), flaw },
    };
    let token = token.expose_secret().trim();
    if token.is_empty() || token.contains(char::is_control) {
        return Err(unfit());
    }
    let bearer = Zeroizing::new(format!("Bearer {token}"));
    let mut authorization = HeaderValue::try_from(bearer.as_str()).map_err(|_| unfit())?;
    authorization.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, authorization);
    // GitHub refuses whoever does not say what they are.
    headers.insert(header::USER_AGENT, HeaderValue::from_static("amlgate"));
    let accepts = match kind {
        HostKind::GitHub => "application/vnd.github+json",
        HostKind::Gerrit | HostKind::GitLab => "application/json",
    };
    headers.insert(header::ACCEPT, HeaderValue::from_static(accepts));
    if kind == HostKind::GitHub {
        let version = HeaderName::from_static("x-github-api-version");
        headers.insert(version, HeaderValue::from_static("2022-11-28"));
    }
    Ok(headers)
}

impl Hosting {
    /// Takes over another configuration or token; what cannot be used leaves the old one in use.
    pub(super) async fn look(
        &mut self,
        gates: &Gates,
        settings: &Settings,
        secrets: &mut Secrets,
        clock: &SharedClock,
    ) {
        let found = self.changed(settings, secrets, clock).await;
        if let Some(others) = self.complaint.heard(found, "code hosts are asked as before") {
            gates.reviews().by_others(others);
        }
    }

    /// Whom to ask from here on, if that is another than before.
    async fn changed(
        &mut self,
        settings: &Settings,
        secrets: &mut Secrets,
        clock: &SharedClock,
    ) -> Result<Option<Others>, StartError> {
        let mut said = Zeroizing::new(format!("{:?}", settings.code_hosts));
        let mut tokens = Vec::new();
        for found in &settings.code_hosts {
            let token = secrets.read(&found.token, &found.named().to_string()).await?;
            said.push('\0');
            said.push_str(token.expose_secret());
            tokens.push((found, token));
        }
        let digest = config::digest(said.as_bytes());
        if self.digest == Some(digest) {
            return Ok(None);
        }
        let mut others = Others::default();
        for (found, token) in &tokens {
            take(&mut others, found, token, settings, clock)?;
        }
        self.digest = Some(digest);
        Ok(Some(others))
    }
}
