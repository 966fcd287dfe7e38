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
    yaml::{Place, Spanned},
};

impl Reader<'_> {
    pub(super) fn credentials(
        &self,
        found: &[Spanned<raw::Credential>],
        login: &BaseUrl,
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
            problems.later("on_behalf_of", raw.on_behalf_of.as_ref());
            let tenant = raw.tenant.as_ref().and_then(|t| problems.read(t, values::tenant));
            let Some(proof) = self.proof(&name, credential, problems) else { continue };
            let machine = matches!(proof, Proof::ManagedIdentity { .. } | Proof::WorkloadIdentity { .. });
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
        let raw = &credential.value;
        let text = |value: &Option<raw::Text>| value.as_ref().map(|v| v.value.clone());
        let mut proofs = Vec::new();
        if let Some(secret) = &raw.client_secret {
            proofs.push(self.reference(secret, problems).map(Proof::Secret));
        }
        if let Some(pair) = &raw.client_certificate {
            let certificate = self.existing(&pair.value.certificate, problems);
            let private_key = self.reference(&pair.value.private_key, problems);
            proofs.push(certificate.zip(private_key).map(|(certificate, private_key)| Proof::Certificate {
                certificate,
                private_key,
                send_chain: pair.value.send_chain,
            }));
        }
        if let Some(workload) = &raw.workload_identity {
            let token_file = workload.value.token_file.as_ref().map(|f| self.file(&f.value));
            proofs.push(Some(Proof::WorkloadIdentity { token_file }));
        }
        if let Some(managed) = &raw.managed_identity {
            let endpoint = managed
                .value
                .endpoint
                .as_ref()
                .and_then(|e| problems.read(e, |t| t.parse().map_err(|_| format!("`{t}` is not a URL"))));
            proofs.push(Some(Proof::ManagedIdentity {
                object_id: text(&managed.value.object_id),
                resource_id: text(&managed.value.resource_id),
                endpoint,
            }));
        }
        let count = proofs.len();
        if count != 1 && raw.on_behalf_of.is_none() {
            problems.error_with(
                Place::of(credential),
                format!("the credential `{name}` proves itself in {count} ways instead of one"),
                "write one of `managed_identity: {}`, `client_secret`, `client_certificate`, `workload_identity`",
            );
        }
        proofs.into_iter().next().flatten()
    }
}
