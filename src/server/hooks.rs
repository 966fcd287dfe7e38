//! Who may tell the gate something, with the secrets of their paths as they lie there now.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use secrecy::ExposeSecret as _;

use super::{StartError, complaint::Complaint, secrets::Secrets};
use crate::{
    admin::hooks::{DoorSettings, Hooks, Kind, sha256},
    config::{
        Settings,
        settings::{AzureEvents, Inlet},
    },
    secrets::SecretError,
};

/// Characters of a path's secret: nobody tries out so many.
const LENGTH: RangeInclusive<usize> = 22..=128;

/// A door, by who knocks there and its name in the configuration.
type Named = (Kind, Arc<str>, DoorSettings);

/// The doors that the configuration has.
pub(super) async fn doors(settings: &Settings, secrets: &mut Secrets) -> Result<Vec<Named>, StartError> {
    let gerrits = settings.gerrits.iter().filter_map(|gerrit| Some((&gerrit.name, gerrit.hook.as_ref()?)));
    let mut doors = Vec::new();
    for (name, inlet) in gerrits {
        let door = door(&format!("the Gerrit `{name}`"), inlet, Duration::ZERO, secrets).await?;
        doors.push((Kind::Gerrit, Arc::clone(name), door));
    }
    for AzureEvents { name, inlet, grace } in &settings.azure_events {
        let door = door(&format!("`{name}` of `azure_events`"), inlet, *grace, secrets).await?;
        doors.push((Kind::Azure, Arc::clone(name), door));
    }
    Ok(doors)
}

async fn door(
    of: &str,
    inlet: &Inlet,
    grace: Duration,
    secrets: &mut Secrets,
) -> Result<DoorSettings, StartError> {
    let what = format!("the hook of {of}");
    let secret = secrets.read(&inlet.secret, &what).await?;
    let secret = secret.expose_secret().trim();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !LENGTH.contains(&secret.len()) || !secret.bytes().all(is_plain) {
        let flaw = "is not 22 to 128 letters, digits, `-` and `_`: `openssl rand -hex 32` makes one";
        let source = SecretError::Unfit { place: "`path_secret`".to_owned(), flaw };
        return Err(StartError::Secret { what, source });
    }
    Ok(DoorSettings {
        secret: sha256(secret.as_bytes()),
        from: inlet.from.clone(),
        client_certificate: inlet.client_certificate,
        grace,
    })
}

/// What is in use, so that a change is known as one.
pub(super) struct Hooking {
    hooks: Arc<Hooks>,
    /// `None` before the first look.
    doors: Option<Vec<Named>>,
    complaint: Complaint,
}

impl Hooking {
    pub(super) fn of(hooks: Arc<Hooks>) -> Self {
        Self { hooks, doors: None, complaint: Complaint::default() }
    }

    /// Takes over another configuration or secret; what cannot be used leaves the old one in use.
    pub(super) async fn look(&mut self, settings: &Settings, secrets: &mut Secrets) {
        let found = doors(settings, secrets).await;
        let found = found.map(|doors| (self.doors.as_ref() != Some(&doors)).then_some(doors));
        if let Some(doors) = self.complaint.heard(found, "hooks are taken as before") {
            self.hooks.open(doors.clone());
            self.doors = Some(doors);
        }
    }
}
