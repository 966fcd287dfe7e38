//! Who may tell the gate something without being asked.

use super::{
    super::{
        Problems, raw,
        settings::{Admin, Inlet},
    },
    Reader, certificates,
};
use crate::yaml::{Place, Spanned};

impl Reader<'_> {
    /// A path that is not for callers, at the admin listener.
    pub(super) fn inlet(
        &self,
        found: &Spanned<raw::Hook>,
        admin: Option<&Admin>,
        problems: &mut Problems,
    ) -> Option<Inlet> {
        let raw = &found.value;
        let secret = self.reference(&raw.path_secret, problems);
        let from: Vec<_> =
            raw.from.iter().filter_map(|net| problems.read(net, certificates::network)).collect();
        let certificate = raw.client_certificate.as_ref().filter(|wanted| wanted.value);
        if raw.from.is_empty() && certificate.is_none() {
            problems.error_with(
                Place::of(found),
                "a hook takes something from somewhere, or from whoever shows a certificate",
                "write `from: [10.0.0.0/8]` with the networks of its sender, or `client_certificate: true`",
            );
        }
        let Some(admin) = admin else {
            let hint = "add `listen.admin`";
            problems.error_with(
                Place::of(found),
                "hooks are paths of the admin listener, and there is none",
                hint,
            );
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
