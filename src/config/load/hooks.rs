//! Who may tell the gate something without being asked.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use super::{
    super::{
        Problems, raw,
        settings::{Admin, AzureEvents, Inlet},
        values,
    },
    Reader, certificates,
};
use crate::yaml::{Place, Spanned};

/// How long a model may be without a statement, by itself and at all.
const GRACE: Duration = Duration::from_secs(600);
const GRACES: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(86_400);

/// A path that is not for callers, as it is written wherever there is one.
struct Written<'w> {
    place: Place,
    path_secret: &'w Spanned<raw::Reference>,
    from: &'w [raw::Text],
    client_certificate: Option<&'w Spanned<bool>>,
}

impl Reader<'_> {
    /// Where a Gerrit tells what happens.
    pub(super) fn gerrit_hook(
        &self,
        found: &Spanned<raw::Hook>,
        admin: Option<&Admin>,
        problems: &mut Problems,
    ) -> Option<Inlet> {
        let raw = &found.value;
        let written = Written {
            place: Place::of(found),
            path_secret: &raw.path_secret,
            from: &raw.from,
            client_certificate: raw.client_certificate.as_ref(),
        };
        self.inlet(&written, admin, problems)
    }

    /// Where Azure tells of models and runs.
    pub(super) fn azure_events(
        &self,
        found: &[Spanned<raw::AzureEvents>],
        admin: Option<&Admin>,
        has_store: bool,
        problems: &mut Problems,
    ) -> Vec<AzureEvents> {
        if let (Some(first), false) = (found.first(), has_store) {
            let hint = "add `store: {sqlite: var/amlgate.db}`";
            problems.error_with(
                Place::of(first),
                "what Azure tells is kept in a store, and there is none",
                hint,
            );
        }
        let mut names = BTreeSet::new();
        let mut read = Vec::new();
        for events in found {
            let raw = &events.value;
            let name = problems.read(&raw.name, values::name);
            if !names.insert(&raw.name.value) {
                let message = format!("`azure_events` called `{}` are there already", raw.name.value);
                problems.error(Place::of(&raw.name), message);
            }
            let written = Written {
                place: Place::of(events),
                path_secret: &raw.path_secret,
                from: &raw.from,
                client_certificate: raw.client_certificate.as_ref(),
            };
            let inlet = self.inlet(&written, admin, problems);
            let grace = raw.grace.as_ref().and_then(|text| problems.read(text, grace)).unwrap_or(GRACE);
            if let (Some(name), Some(inlet)) = (name, inlet) {
                read.push(AzureEvents { name: name.into(), inlet, grace });
            }
        }
        read
    }

    /// A path that is not for callers, at the admin listener.
    fn inlet(&self, raw: &Written<'_>, admin: Option<&Admin>, problems: &mut Problems) -> Option<Inlet> {
        let secret = self.reference(raw.path_secret, problems);
        let from: Vec<_> =
            raw.from.iter().filter_map(|net| problems.read(net, certificates::network)).collect();
        let certificate = raw.client_certificate.filter(|wanted| wanted.value);
        if raw.from.is_empty() && certificate.is_none() {
            problems.error_with(
                raw.place,
                "a hook takes something from somewhere, or from whoever shows a certificate",
                "write `from: [10.0.0.0/8]` with the networks of its sender, or `client_certificate: true`",
            );
        }
        let Some(admin) = admin else {
            let hint = "add `listen.admin`";
            problems.error_with(raw.place, "hooks are paths of the admin listener, and there is none", hint);
            return None;
        };
        let asks = admin.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if let (Some(wanted), false) = (certificate, asks) {
            problems.error_with(
                Place::of(wanted),
                "nobody is asked for a certificate",
                "add `client_ca` to `listen.admin.tls`",
            );
        }
        Some(Inlet { secret: secret?, from, client_certificate: certificate.is_some() })
    }
}

fn grace(text: &str) -> Result<Duration, String> {
    let grace = values::duration(text)?;
    if !GRACES.contains(&grace) {
        return Err(format!("`{text}` is no time from `1m` to `24h`"));
    }
    Ok(grace)
}
