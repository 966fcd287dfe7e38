//! `groups` of an Entra issuer: which credential asks for the groups that tokens do not carry.

use std::sync::Arc;

use super::{
    super::{Problems, issuers, raw, values},
    Reader,
};
use crate::{
    config::settings::{Credential, GroupSource},
    credentials::ActsFor,
    yaml::{Place, Spanned},
};

impl Reader<'_> {
    pub(super) fn groups(
        &self,
        found: &[Spanned<raw::Issuer>],
        credentials: &[Credential],
        problems: &mut Problems,
    ) -> Vec<GroupSource> {
        let mut sources = Vec::new();
        for issuer in found {
            let Some(entra) = issuer.value.entra.as_ref().map(|entra| &entra.value) else { continue };
            let Some(groups) = entra.groups.as_ref().map(|groups| &groups.value) else { continue };
            problems.read(&groups.overage, |text| match text {
                "graph" => Ok(()),
                _ => Err(format!("`{text}` is not where groups are found: write `graph`")),
            });
            let named = &groups.credential;
            let Some(credential) = credentials.iter().find(|c| *c.name == *named.value) else {
                problems.error_with(
                    Place::of(named),
                    format!("the credential `{}` is not there", named.value),
                    "name one of `credentials`",
                );
                continue;
            };
            if credential.acts_for == ActsFor::Caller {
                problems.error_with(
                    Place::of(named),
                    format!(
                        "`{}` acts for callers, and groups are asked for by the gate itself",
                        named.value
                    ),
                    "name a credential without `on_behalf_of`",
                );
            }
            let tenant = credential.tenant.as_deref();
            if tenant.is_some_and(|tenant| !tenant.eq_ignore_ascii_case(&entra.tenant.value)) {
                problems.error_with(
                    Place::of(named),
                    format!("`{}` is of another tenant than the issuer", named.value),
                    "name a credential of the issuer's tenant: Graph tells of no other",
                );
            }
            sources.push(GroupSource {
                issuer: issuer.value.name.value.as_str().into(),
                credential: Arc::clone(&credential.name),
                address: groups.address.as_ref().and_then(|a| problems.read(a, values::address)),
                trust: groups.trust.as_ref().and_then(|t| issuers::pem(&t.value.ca, self.base, problems)),
            });
        }
        sources
    }
}
