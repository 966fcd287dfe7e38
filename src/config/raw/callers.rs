//! `issuers` and `people`: who callers are, as it is written.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Later, Reference, Text, Trust};
use crate::yaml::Spanned;

/// One of `issuers`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Its name in policies and records.
    pub name: Text,
    /// An Entra tenant.
    pub entra: Option<Spanned<Entra>>,
    /// Any OpenID provider.
    pub oidc: Option<Spanned<Oidc>>,
    /// A Backstage portal.
    pub backstage: Option<Spanned<Backstage>>,
    /// An authority whose certificates are identities.
    pub certificate: Option<Spanned<Certificate>>,
    /// Proofs of possession.
    pub dpop: Option<Spanned<Dpop>>,
    /// What a token must hold to be accepted at all.
    pub accept: Option<Spanned<Accept>>,
    /// Signature algorithms.
    pub algorithms: Option<Vec<Text>>,
    /// Clock leeway, at most 60s.
    pub leeway: Option<Text>,
    /// Connect here instead of resolving the name.
    pub address: Option<Text>,
    /// Extra roots.
    pub trust: Option<Spanned<Trust>>,
}

/// `certificate`: exactly one of `spiffe` and `san`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The authority's certificates, PEM.
    pub ca: Text,
    /// The holder is its SPIFFE id.
    pub spiffe: Option<Spanned<Spiffe>>,
    /// The holder is its only `dns`, `uri` or `email` name.
    pub san: Option<Text>,
    /// Revocation lists, PEM or DER.
    #[serde(default)]
    pub crl: Vec<Text>,
    /// What becomes of certificates when a list has lapsed: `refuse` or `accept`.
    pub crl_lapsed: Option<Text>,
}

/// `spiffe`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spiffe {
    /// What stands between `spiffe://` and the path.
    pub trust_domain: Text,
}

/// `dpop`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dpop {
    /// `required` or `none`.
    pub nonce: Option<Text>,
}

/// `entra`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entra {
    /// The tenant's id.
    pub tenant: Text,
    /// The public client that people sign in with.
    pub client_id: Option<Text>,
    /// Exact audiences.
    pub audiences: Vec<Text>,
    /// Scopes to ask for at login.
    #[serde(default)]
    pub scopes: Vec<Text>,
    /// How groups are found that tokens do not carry.
    pub groups: Option<Spanned<EntraGroups>>,
    /// The login host, where it is not the cloud's.
    pub authority: Option<Text>,
}

/// `entra.groups`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntraGroups {
    /// `graph`: Microsoft Graph.
    pub overage: Text,
    /// The credential that asks.
    pub credential: Text,
    /// Connect here instead of resolving Graph's name.
    pub address: Option<Text>,
    /// Extra roots.
    pub trust: Option<Spanned<Trust>>,
}

/// `oidc`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// Exactly what `iss` says.
    pub issuer: Text,
    /// Exact audiences.
    pub audiences: Vec<Text>,
    /// The public client that people sign in with.
    pub client_id: Option<Text>,
    /// Scopes to ask for at login.
    #[serde(default)]
    pub scopes: Vec<Text>,
    /// Where the discovery document is, if not below the issuer.
    pub discovery_url: Option<Text>,
    /// Where the keys are, if discovery is not to be used.
    pub jwks_uri: Option<Text>,
    /// The token by which both are read, where nobody may read them without one: a file.
    pub keys_token: Option<Spanned<Reference>>,
    /// The claim that lists groups; `groups` by default.
    pub groups_claim: Option<Text>,
}

/// `people`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// The Entra issuer whose object ids say who is who.
    pub canonical: Text,
    /// Where the same people come from besides.
    #[serde(default)]
    pub links: Vec<Spanned<Link>>,
}

/// One of `people.links`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The other issuer.
    pub issuer: Option<Text>,
    /// The claim of its tokens that holds the Entra object id.
    pub claim: Option<Text>,
    /// An annotation in Backstage's catalogue: not in this version.
    pub annotation: Later,
    /// A Gerrit.
    pub gerrit: Option<Text>,
    /// The scheme of those of its external ids that hold the Entra object id.
    pub external_id: Option<Text>,
}

/// `backstage`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backstage {
    /// The portal's `backend.baseUrl`.
    pub url: Text,
    /// The plugins that may call the gate as one of their own kind.
    #[serde(default)]
    pub plugins: Vec<Text>,
    /// The id under which the portal knows the gate; `amlgate` by default.
    pub audience: Option<Text>,
}

/// `accept`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// Claims that must be there, exactly.
    pub claims: BTreeMap<String, serde_json::Value>,
}
