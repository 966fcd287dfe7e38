//! `credentials`: who the gate is towards Azure, and how it proves that.

use std::collections::BTreeSet;

use super::{
    super::{
        Problems, issuers, raw,
        values::{self, BaseUrl},
    },
    Reader,
};
use crate::{
    config::settings::{Credential, Proof},
    credentials::ActsFor,
    identity::{IssuerKind, IssuerSettings},
    yaml::{Place, Spanned},
};

impl Reader<'_> {
    pub(super) fn credentials(
        &self,
        found: &[Spanned<raw::Credential>],
        login: &BaseUrl,
        issuers: &[IssuerSettings],
        problems: &mut Problems,
    ) -> Vec<Credential> {
        let mut names = BTreeSet::new();
        let mut read = Vec::new();
        for credential in found {
            let raw = &credential.value;
            let Some(name) = problems.read(&raw.name, values::name) else { continue };
            if !names.insert(name.clone()) {
                problems.error(Place::of(&raw.name), format!("the credential `{name}` is there twice"));
            }
            let tenant = raw.tenant.as_ref().and_then(|t| problems.read(t, values::tenant));
            let Some(proof) = self.proof(&name, credential, problems) else { continue };
            let acts_for = match &raw.on_behalf_of {
                None => ActsFor::Itself,
                Some(found) => {
                    acquainted(&name, Place::of(found), tenant.as_deref(), raw, issuers, problems);
                    ActsFor::Caller
                }
            };
            let machine = acts_for == ActsFor::Itself
                && matches!(proof, Proof::ManagedIdentity { .. } | Proof::WorkloadIdentity { .. });
            for (key, missing) in [("tenant", raw.tenant.is_none()), ("client_id", raw.client_id.is_none())] {
                if missing && !machine {
                    problems.error(Place::of(credential), format!("the credential `{name}` needs a `{key}`"));
                }
            }
            read.push(Credential {
                name: name.into(),
                tenant,
                client_id: raw.client_id.as_ref().map(|c| c.value.clone()),
                proof,
                acts_for,
                authority: raw
                    .authority
                    .as_ref()
                    .and_then(|a| problems.read(a, values::base_url))
                    .unwrap_or_else(|| login.clone()),
                address: raw.address.as_ref().and_then(|a| problems.read(a, values::address)),
                trust: raw.trust.as_ref().and_then(|t| issuers::pem(&t.value.ca, self.base, problems)),
            });
        }
        read
    }

    fn proof(
        &self,
        name: &str,
        credential: &Spanned<raw::Credential>,
        problems: &mut Problems,
    ) -> Option<Proof> {
        const WAYS: &str =
            "write one of `managed_identity: {}`, `client_secret`, `client_certificate`, `workload_identity`";
        let raw = &credential.value;
        let own = [
            raw.client_secret.is_some(),
            raw.client_certificate.is_some(),
            raw.workload_identity.is_some(),
            raw.managed_identity.is_some(),
        ];
        if let Some(on_behalf) = &raw.on_behalf_of {
            if own.contains(&true) {
                problems.error_with(
                    Place::of(credential),
                    format!("the credential `{name}` acts for callers and for itself"),
                    "move its proof into `on_behalf_of`, or make it two credentials",
                );
            }
            let inner = &on_behalf.value;
            let proofs = self.proofs(
                Proving {
                    client_secret: inner.client_secret.as_ref(),
                    client_certificate: inner.client_certificate.as_ref(),
                    workload_identity: inner.workload_identity.as_ref(),
                    managed_identity: inner.managed_identity.as_ref().map(|found| {
                        let raw::AssertingIdentity { client_id, object_id, resource_id, endpoint } =
                            &found.value;
                        (client_id.as_ref(), [object_id, resource_id, endpoint].map(Option::as_ref))
                    }),
                },
                problems,
            );
            if proofs.len() != 1 {
                let count = proofs.len();
                let message = format!("`on_behalf_of` proves itself in {count} ways instead of one");
                problems.error_with(Place::of(on_behalf), message, WAYS);
            }
            return proofs.into_iter().next().flatten();
        }
        let proofs = self.proofs(
            Proving {
                client_secret: raw.client_secret.as_ref(),
                client_certificate: raw.client_certificate.as_ref(),
                workload_identity: raw.workload_identity.as_ref(),
                managed_identity: raw.managed_identity.as_ref().map(|found| {
                    let raw::ManagedIdentity { object_id, resource_id, endpoint } = &found.value;
                    (raw.client_id.as_ref(), [object_id, resource_id, endpoint].map(Option::as_ref))
                }),
            },
            problems,
        );
        let count = proofs.len();
        if count != 1 {
            problems.error_with(
                Place::of(credential),
                format!("the credential `{name}` proves itself in {count} ways instead of one"),
                WAYS,
            );
        }
        proofs.into_iter().next().flatten()
    }

    fn proofs(&self, raw: Proving<'_>, problems: &mut Problems) -> Vec<Option<Proof>> {
        let text = |value: Option<&raw::Text>| value.map(|v| v.value.clone());
        let mut proofs = Vec::new();
        if let Some(secret) = raw.client_secret {
            proofs.push(self.reference(secret, problems).map(Proof::Secret));
        }
        if let Some(pair) = raw.client_certificate {
            let certificate = self.existing(&pair.value.certificate, problems);
            let private_key = self.reference(&pair.value.private_key, problems);
            proofs.push(certificate.zip(private_key).map(|(certificate, private_key)| Proof::Certificate {
                certificate,
                private_key,
                send_chain: pair.value.send_chain,
            }));
        }
        if let Some(workload) = raw.workload_identity {
            let token_file = workload.value.token_file.as_ref().map(|f| self.file(&f.value));
            proofs.push(Some(Proof::WorkloadIdentity { token_file }));
        }
        if let Some((client_id, [object_id, resource_id, endpoint])) = raw.managed_identity {
            let endpoint = endpoint
                .and_then(|e| problems.read(e, |t| t.parse().map_err(|_| format!("`{t}` is not a URL"))));
            proofs.push(Some(Proof::ManagedIdentity {
                client_id: text(client_id),
                object_id: text(object_id),
                resource_id: text(resource_id),
                endpoint,
            }));
        }
        proofs
    }
}

/// The ways in which an application proves itself, as they are written.
struct Proving<'r> {
    client_secret: Option<&'r Spanned<raw::Reference>>,
    client_certificate: Option<&'r Spanned<raw::ClientCertificate>>,
    workload_identity: Option<&'r Spanned<raw::WorkloadIdentity>>,
    /// Its client id, and its object id, ARM id and endpoint.
    managed_identity: Option<(Option<&'r raw::Text>, [Option<&'r raw::Text>; 3])>,
}

/// Whether the people whom a credential is to act for can come at all.
fn acquainted(
    name: &str,
    place: Place,
    tenant: Option<&str>,
    raw: &raw::Credential,
    issuers: &[IssuerSettings],
    problems: &mut Problems,
) {
    let Some(tenant) = tenant else { return };
    let homes: Vec<_> = issuers
        .iter()
        .filter(|issuer| match &issuer.kind {
            IssuerKind::Entra { tenant: own, .. } => own.eq_ignore_ascii_case(tenant),
            IssuerKind::Oidc { .. } | IssuerKind::Backstage { .. } | IssuerKind::Certificate(_) => false,
        })
        .collect();
    if homes.is_empty() {
        problems.error_with(
            place,
            format!("`{name}` acts for people of the tenant `{tenant}`, of which no issuer is"),
            "add it to `issuers`: only tokens of people of Entra can be exchanged",
        );
        return;
    }
    // Entra exchanges only tokens that were issued for the very application that asks.
    let Some(client) = raw.client_id.as_ref().map(|c| c.value.as_str()) else { return };
    let fits =
        |audience: &str| audience.eq_ignore_ascii_case(client) || uuid::Uuid::try_parse(audience).is_err();
    if !homes.iter().any(|issuer| issuer.audiences.iter().any(|audience| fits(audience))) {
        problems.error_with(
            place,
            format!("no token for the application `{client}` is accepted, and only such can be exchanged"),
            "add the credential's `client_id` to the `audiences` of its tenant's issuer",
        );
    }
}
