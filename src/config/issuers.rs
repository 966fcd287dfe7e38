//! `issuers`: from the file to [`IssuerSettings`].

use std::{collections::BTreeSet, path::Path, sync::Arc};

use super::{Problems, raw, values};
use crate::{
    cloud::Cloud,
    gates::review::people::Linked,
    identity::{
        self, Accept, CertificateName, CertificateSettings, Certificates, IssuerKind, IssuerSettings, KeysAt,
        LapsedList, Link, SignatureAlgorithm, certificate::BadAuthority,
    },
    secrets,
    yaml::{Place, Spanned},
};

/// The largest PEM file that is read.
const MAX_PEM: u64 = 1 << 20;

/// Reads every issuer; what is wrong goes to `problems`.
pub(super) fn read(
    found: &[Spanned<raw::Issuer>],
    base: &Path,
    cloud: &Cloud,
    problems: &mut Problems,
) -> Vec<IssuerSettings> {
    let mut read = Vec::new();
    let mut places = Vec::new();
    for issuer in found {
        if let Some(settings) = one(issuer, base, cloud, problems) {
            read.push(settings);
            places.push(Place::of(issuer));
        }
    }
    for problem in identity::problems(&read) {
        let place = places.get(problem.issuer).copied().unwrap_or_default();
        problems.error_with(place, format!("`{}`: {}", problem.key, problem.message), problem.hint);
    }
    read
}

/// Reads `people`: which claim of an issuer's tokens says who somebody is in Entra; and which external
/// ids of which Gerrit's accounts do, each with the Gerrit's name.
pub(super) fn link(
    people: &raw::People,
    issuers: &mut [IssuerSettings],
    gerrits: &BTreeSet<&str>,
    problems: &mut Problems,
) -> Vec<(String, Linked)> {
    let canonical = &people.canonical;
    let named = issuers.iter().find(|issuer| *issuer.name == *canonical.value);
    let entra = named.and_then(|issuer| match &issuer.kind {
        IssuerKind::Entra { tenant, .. } => Some((Arc::clone(&issuer.name), tenant.clone())),
        IssuerKind::Oidc { .. } | IssuerKind::Backstage { .. } | IssuerKind::Certificate(_) => None,
    });
    let Some((name, tenant)) = entra else {
        problems.error_with(
            Place::of(canonical),
            format!("`{}` is no Entra issuer of this file", canonical.value),
            "write the name of an issuer with an `entra` block: people are told apart by its object ids",
        );
        return Vec::new();
    };
    let mut of_gerrits: Vec<(String, Linked)> = Vec::new();
    for found in &people.links {
        let link = &found.value;
        problems.later("annotation", link.annotation.as_ref());
        if let Some((gerrit, scheme)) = of_gerrit(found, gerrits, problems) {
            let linked = Linked { scheme, issuer: Arc::clone(&name), tenant: tenant.clone() };
            if of_gerrits.contains(&(gerrit.clone(), linked.clone())) {
                problems
                    .error(Place::of(found), format!("`{gerrit}` is linked twice by `{}`", linked.scheme));
            }
            of_gerrits.push((gerrit, linked));
            continue;
        }
        let (Some(issuer), Some(claim)) = (&link.issuer, &link.claim) else {
            if link.annotation.is_none() && link.gerrit.is_none() && link.external_id.is_none() {
                let hint = "write `{issuer: NAME, claim: CLAIM}`: the claim that holds the Entra object id";
                problems.error_with(Place::of(found), "a link needs `issuer` and `claim`", hint);
            }
            continue;
        };
        // Whoever may change the value could become somebody else.
        if ["email", "upn", "preferred_username", "unique_name", "name", "sub"]
            .contains(&claim.value.as_str())
        {
            problems.error_with(
                Place::of(claim),
                format!("`{}` does not say who somebody is in Entra", claim.value),
                "have the issuer put the Entra object id into a claim of its own, as in `entra_oid`",
            );
            continue;
        }
        let other = issuers.iter_mut().find(|other| *other.name == *issuer.value && other.name != name);
        match other {
            Some(other) if other.link.is_none() => {
                other.link = Some(Link {
                    canonical: Arc::clone(&name),
                    tenant: tenant.clone(),
                    claim: claim.value.as_str().into(),
                });
            }
            Some(_) => problems.error(Place::of(issuer), format!("`{}` is linked twice", issuer.value)),
            None => problems.error_with(
                Place::of(issuer),
                format!("`{}` is no other issuer of this file", issuer.value),
                "write the name of one of `issuers` that is not the canonical one",
            ),
        }
    }
    of_gerrits
}

/// What a link says of a Gerrit: its name, and the scheme of its external ids.
fn of_gerrit(
    found: &Spanned<raw::Link>,
    gerrits: &BTreeSet<&str>,
    problems: &mut Problems,
) -> Option<(String, Arc<str>)> {
    let link = &found.value;
    let (gerrit, scheme) = match (&link.gerrit, &link.external_id, &link.issuer, &link.claim) {
        (None, None, _, _) => return None,
        (Some(gerrit), Some(scheme), None, None) => (gerrit, scheme),
        _ => {
            let hint = "write `{gerrit: NAME, external_id: azure-oauth}`";
            problems.error_with(Place::of(found), "a Gerrit is linked by `gerrit` and `external_id`", hint);
            return None;
        }
    };
    if !gerrits.contains(gerrit.value.as_str()) {
        let hint = "write the name of one of `gerrit`";
        problems.error_with(Place::of(gerrit), format!("there is no Gerrit called `{}`", gerrit.value), hint);
    }
    let scheme = problems.read(scheme, values::scheme)?;
    Some((gerrit.value.clone(), scheme.into()))
}

fn one(
    issuer: &Spanned<raw::Issuer>,
    base: &Path,
    cloud: &Cloud,
    problems: &mut Problems,
) -> Option<IssuerSettings> {
    let raw = &issuer.value;
    let name = problems.read(&raw.name, values::name)?;
    if let Some(found) = &raw.certificate {
        if raw.entra.is_some() || raw.oidc.is_some() || raw.backstage.is_some() {
            let message = "an issuer is one of `entra`, `oidc`, `backstage` and `certificate`, not several";
            problems.error(Place::of(found), message);
            return None;
        }
        return certificate(issuer, &name, found, base, problems);
    }
    let mut settings = match (&raw.entra, &raw.oidc, &raw.backstage) {
        (Some(entra), None, None) => entra_settings(&name, entra, cloud, problems)?,
        (None, Some(oidc), None) => oidc_settings(&name, oidc, base, problems)?,
        (None, None, Some(portal)) => {
            let mut settings = problems.read(&portal.value.url, |url| {
                IssuerSettings::backstage(&name, url).map_err(|e| format!("`{url}`: {e}"))
            })?;
            if let IssuerKind::Backstage { plugins, .. } = &mut settings.kind {
                plugins.ids = portal.value.plugins.iter().map(|id| id.value.as_str().into()).collect();
                if let Some(audience) = &portal.value.audience {
                    plugins.audience = audience.value.as_str().into();
                }
            }
            settings
        }
        (None, None, None) => {
            problems.error_with(
                Place::of(issuer),
                format!("the issuer `{name}` says not what it is"),
                "add an `entra`, `oidc`, `backstage` or `certificate` block",
            );
            return None;
        }
        (Some(_), _, _) | (_, Some(_), _) => {
            let place = raw.backstage.as_ref().map(Place::of).or(raw.oidc.as_ref().map(Place::of));
            let message = "an issuer is one of `entra`, `oidc` and `backstage`, not several";
            problems.error(place.unwrap_or_default(), message);
            return None;
        }
    };
    if let Some(algorithms) = &raw.algorithms {
        settings.algorithms = algorithms
            .iter()
            .filter_map(|a| problems.read(a, |t| t.parse::<SignatureAlgorithm>().map_err(|e| e.to_string())))
            .collect();
    }
    if let Some(leeway) = &raw.leeway {
        settings.leeway = problems.read(leeway, values::duration).unwrap_or_default();
    }
    if let Some(nonce) = raw.dpop.as_ref().and_then(|dpop| dpop.value.nonce.as_ref()) {
        settings.dpop_nonce = problems
            .read(nonce, |text| match text {
                "required" => Ok(true),
                "none" => Ok(false),
                _ => Err(format!("`{text}` is neither `required` nor `none`")),
            })
            .unwrap_or_default();
    }
    settings.accept = raw.accept.as_ref().map(|a| Accept { claims: a.value.claims.clone() });
    settings.address = raw.address.as_ref().and_then(|a| problems.read(a, values::address));
    settings.trust = raw.trust.as_ref().and_then(|t| pem(&t.value.ca, base, problems));
    Some(settings)
}

/// An issuer of certificates has no tokens, and so nothing of what concerns them.
fn certificate(
    issuer: &Spanned<raw::Issuer>,
    name: &str,
    found: &Spanned<raw::Certificate>,
    base: &Path,
    problems: &mut Problems,
) -> Option<IssuerSettings> {
    const NO_TOKENS: &str = "an issuer with `certificate` has no tokens, whose business this is";
    let (raw, block) = (&issuer.value, &found.value);
    let algorithms = raw.algorithms.as_ref().and_then(|all| all.first()).map(Place::of);
    let others = [
        algorithms,
        raw.leeway.as_ref().map(Place::of),
        raw.address.as_ref().map(Place::of),
        raw.trust.as_ref().map(Place::of),
        raw.dpop.as_ref().map(Place::of),
    ];
    for place in others.into_iter().flatten() {
        problems.error_with(place, NO_TOKENS, "remove it");
    }
    let named = match (&block.spiffe, &block.san) {
        (Some(spiffe), None) => {
            Some(CertificateName::Spiffe { trust_domain: spiffe.value.trust_domain.value.as_str().into() })
        }
        (None, Some(san)) => problems.read(san, |text| match text {
            "dns" => Ok(CertificateName::Dns),
            "uri" => Ok(CertificateName::Uri),
            "email" => Ok(CertificateName::Email),
            _ => Err(format!("`{text}` is none of `dns`, `uri`, `email`")),
        }),
        (None, None) | (Some(_), Some(_)) => {
            problems.error_with(
                Place::of(found),
                "it must be told which of a certificate's names is its holder's",
                "write `spiffe: {trust_domain: prod.example.com}` or `san: dns` (or `uri`, `email`)",
            );
            None
        }
    };
    let lapsed = block.crl_lapsed.as_ref().and_then(|text| {
        problems.read(text, |text| match text {
            "refuse" => Ok(LapsedList::Refuse),
            "accept" => Ok(LapsedList::Accept),
            _ => Err(format!("`{text}` is neither `refuse` nor `accept`")),
        })
    });
    let mut material = Vec::new();
    for path in std::iter::once(&block.ca).chain(&block.crl) {
        material.push(problems.read(path, |p| {
            std::fs::read(base.join(p)).map_err(|error| format!("`{p}` cannot be read: {error}"))
        }));
    }
    if let Some((Some(ca), lists)) = material.split_first()
        && let Some(lists) = lists.iter().cloned().collect::<Option<Vec<_>>>()
        && let Err(error) = Certificates::tried(ca, &lists)
    {
        let place = if error == BadAuthority::List { block.crl.first() } else { None };
        problems.error(Place::of(place.unwrap_or(&block.ca)), error.to_string());
    }
    let mut settings = IssuerSettings::certificate(
        name,
        CertificateSettings {
            name: named?,
            ca: base.join(&block.ca.value),
            crl: block.crl.iter().map(|path| base.join(&path.value)).collect(),
            lapsed: lapsed.unwrap_or_default(),
        },
    );
    settings.accept = raw.accept.as_ref().map(|a| Accept { claims: a.value.claims.clone() });
    Some(settings)
}

fn entra_settings(
    name: &str,
    entra: &Spanned<raw::Entra>,
    cloud: &Cloud,
    problems: &mut Problems,
) -> Option<IssuerSettings> {
    let raw = &entra.value;
    let tenant = problems.read(&raw.tenant, values::tenant)?;
    let audiences: Vec<&str> = raw.audiences.iter().map(|a| a.value.as_str()).collect();
    let mut settings = IssuerSettings::entra_in(cloud, name, &tenant, &audiences);
    let own = raw.authority.as_ref().and_then(|a| problems.read(a, values::base_url));
    if let IssuerKind::Entra { authority, client_id, .. } = &mut settings.kind {
        if let Some(own) = &own {
            *authority = own.to_uri();
        }
        *client_id = raw.client_id.as_ref().map(|c| c.value.as_str().into());
    }
    Some(settings)
}

fn oidc_settings(
    name: &str,
    oidc: &Spanned<raw::Oidc>,
    base: &Path,
    problems: &mut Problems,
) -> Option<IssuerSettings> {
    let raw = &oidc.value;
    let audiences: Vec<&str> = raw.audiences.iter().map(|a| a.value.as_str()).collect();
    let https = |text: &str| {
        let uri: http::Uri = text.parse().map_err(|_| format!("`{text}` is not a URL"))?;
        let loopback = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
        match uri.scheme_str() {
            Some("https") => Ok(uri),
            Some("http") if loopback => Ok(uri),
            _ => Err(format!(
                "`{text}` is not an https URL: keys are fetched over TLS only (http is for loopback)"
            )),
        }
    };
    problems.read(&raw.issuer, https)?;
    let mut settings = problems.read(&raw.issuer, |issuer| {
        IssuerSettings::oidc(name, issuer, &audiences).map_err(|e| format!("`{issuer}`: {e}"))
    })?;
    if let Some(claim) = &raw.groups_claim {
        settings.groups_claim = claim.value.as_str().into();
    }
    let keys_at = match (&raw.discovery_url, &raw.jwks_uri) {
        (None, None) => None,
        (Some(at), None) => problems.read(at, https).map(KeysAt::Discovery),
        (None, Some(at)) => problems.read(at, https).map(KeysAt::Jwks),
        (Some(_), Some(second)) => {
            problems.error(Place::of(second), "`discovery_url` and `jwks_uri` exclude each other");
            None
        }
    };
    if let (Some(at), IssuerKind::Oidc { keys, .. }) = (keys_at, &mut settings.kind) {
        *keys = at;
    }
    settings.keys_token = raw.keys_token.as_ref().and_then(|found| keys_token(found, base, problems));
    Some(settings)
}

/// A token that ends before the gate does must lie where somebody renews it.
fn keys_token(found: &Spanned<raw::Reference>, base: &Path, problems: &mut Problems) -> Option<Arc<Path>> {
    let raw::Reference { env: None, file: Some(file), key_vault: None } = &found.value else {
        problems.error_with(
            Place::of(found),
            "`keys_token` is named by a `file` alone: it is read anew for each fetch, because it is renewed",
            "write `{file: /var/run/secrets/kubernetes.io/serviceaccount/token}`",
        );
        return None;
    };
    let path = base.join(&file.value);
    if let Err(error) = secrets::from_projected(&path) {
        problems.error_with(
            Place::of(file),
            error.with_cause(),
            "name the file with the token by which the issuer's keys may be read",
        );
    }
    Some(path.into())
}

/// The bytes of a PEM file that a key named.
pub(super) fn pem(path: &Spanned<String>, base: &Path, problems: &mut Problems) -> Option<Arc<[u8]>> {
    let text = problems.read(path, |p| {
        super::read_text(&base.join(p), MAX_PEM).map_err(|p| format!("`{}` {}", p.file, p.message))
    })?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        problems.error(Place::of(path), format!("`{}` holds no certificate in PEM form", path.value));
        return None;
    }
    Some(text.into_bytes().into())
}
