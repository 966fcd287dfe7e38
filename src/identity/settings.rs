//! Who vouches for callers, as configured.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::Path, str::FromStr, sync::Arc, time::Duration};

use http::Uri;
use serde_json::Value;

use super::CertificateSettings;
use crate::cloud::Cloud;

/// A signature algorithm with a public key. There is no `none` and no HMAC to be confused with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5, SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5, SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5, SHA-512.
    Rs512,
    /// RSASSA-PSS, SHA-256.
    Ps256,
    /// RSASSA-PSS, SHA-384.
    Ps384,
    /// RSASSA-PSS, SHA-512.
    Ps512,
    /// ECDSA on P-256, SHA-256.
    Es256,
    /// ECDSA on P-384, SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl SignatureAlgorithm {
    /// Every one of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// As JOSE spells it (RFC 7518, 8037).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) const fn jose(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Rs384 => jsonwebtoken::Algorithm::RS384,
            Self::Rs512 => jsonwebtoken::Algorithm::RS512,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::Ps384 => jsonwebtoken::Algorithm::PS384,
            Self::Ps512 => jsonwebtoken::Algorithm::PS512,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no signature algorithm with a public key that is known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a signature algorithm that is accepted: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"
)]
pub struct UnknownAlgorithm(String);

impl FromStr for SignatureAlgorithm {
    type Err = UnknownAlgorithm;

    /// To the letter, as JOSE demands; `Ed25519` (RFC 9864) is the other name of `EdDSA` here.
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        if name == "Ed25519" {
            return Ok(Self::EdDsa);
        }
        Self::ALL
            .into_iter()
            .find(|a| a.name() == name)
            .ok_or_else(|| UnknownAlgorithm(name.chars().take(32).collect()))
    }
}

/// One issuer: who it is, what its tokens must hold, where its keys are.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerSettings {
    /// Its name in policies and records.
    pub name: Arc<str>,
    /// What it is.
    pub kind: IssuerKind,
    /// Exact audiences of which a token must hold one.
    pub audiences: Vec<Box<str>>,
    /// Accepted algorithms; the token only chooses among these.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// By how much clocks may differ: applied to `exp`, `nbf` and `iat`; at most [`MAX_LEEWAY`].
    pub leeway: Duration,
    /// The longest life of a token, from `iat` (or now) to `exp`.
    pub max_lifetime: Duration,
    /// Claims that a token must hold to be accepted at all.
    pub accept: Option<Accept>,
    /// The claim that lists groups.
    pub groups_claim: Box<str>,
    /// How its people are found at the issuer where they have their object ids.
    pub link: Option<Link>,
    /// Connect here instead of resolving the host of the documents' URLs.
    pub address: Option<SocketAddr>,
    /// Roots besides the system's, PEM.
    pub trust: Option<Arc<[u8]>>,
    /// The file with the token by which its keys are read, where nobody may read them without one.
    pub keys_token: Option<Arc<Path>>,
    /// How often the keys are fetched anew: the longest time that a withdrawn key still works.
    pub refresh_every: Duration,
    /// How long the last good keys stand in while the issuer is down.
    pub keep_for: Duration,
    /// Whether proofs of possession (DPoP) that come with its tokens must hold a nonce of the gate's.
    pub dpop_nonce: bool,
}

/// Leeway above this is refused.
pub const MAX_LEEWAY: Duration = Duration::from_secs(60);
/// By default the keys are fetched this often.
pub const REFRESH_EVERY: Duration = Duration::from_secs(15 * 60);
/// By default the last good keys stand in this long.
pub const KEEP_FOR: Duration = Duration::from_secs(24 * 3_600);
/// By default a token lives at most this long: Entra's longest, with continuous access evaluation,
/// live 28 hours.
pub const MAX_LIFETIME: Duration = Duration::from_secs(36 * 3_600);

/// The same human under two issuers (`people`): by object id, never by an e-mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The name of the Entra issuer where the object id is.
    pub canonical: Arc<str>,
    /// Its tenant.
    pub tenant: Box<str>,
    /// The claim of this issuer's tokens that holds the object id.
    pub claim: Box<str>,
}

/// What an issuer is.
#[derive(Debug, Clone, PartialEq)]
pub enum IssuerKind {
    /// One Entra tenant: both its v1 and its v2 tokens.
    Entra {
        /// The tenant's id, a GUID.
        tenant: Box<str>,
        /// The public client that people sign in with.
        client_id: Option<Box<str>>,
        /// The login host: `https://login.microsoftonline.com`, a sovereign cloud's, or a test's.
        authority: Uri,
        /// What `iss` of v1 tokens starts with, whatever the login host is called.
        sts: Box<str>,
        /// Whether a token that carries neither a scope nor an application role is refused.
        unscoped: Unscoped,
    },
    /// Any OpenID provider.
    Oidc {
        /// Exactly what `iss` says.
        issuer: Box<str>,
        /// Where its keys are.
        keys: KeysAt,
    },
    /// A Backstage portal: the tokens of its users. Their groups come from its userinfo endpoint,
    /// because by default the tokens carry none.
    Backstage {
        /// `backend.baseUrl` of the portal.
        url: Uri,
        /// The plugins that may call the gate.
        plugins: Plugins,
    },
    /// An authority whose certificates are identities. It has no tokens.
    Certificate(CertificateSettings),
}

/// The plugins of a portal that may call the gate as one of their own kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugins {
    /// Their ids.
    pub ids: Vec<Box<str>>,
    /// The id under which the portal knows the gate: `aud` of their tokens.
    pub audience: Box<str>,
}

impl Default for Plugins {
    fn default() -> Self {
        Self { ids: Vec::new(), audience: "amlgate".into() }
    }
}

/// What happens to an Entra token with neither `scp` nor `roles`: any application of the tenant
/// can get one for any API that does not demand assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unscoped {
    /// It is not accepted.
    #[default]
    Refuse,
    /// It is accepted; policies alone decide.
    Accept,
}

/// Where an issuer's keys are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysAt {
    /// In the key set that the discovery document names; its `issuer` must be ours.
    Discovery(Uri),
    /// Here, without discovery.
    Jwks(Uri),
}

impl KeysAt {
    /// The URL that is asked first.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        match self {
            Self::Discovery(uri) | Self::Jwks(uri) => uri,
        }
    }
}

/// Claims that a token must hold. A value matches exactly: case and JSON type; a claim that is an
/// array matches if it contains the value; a list of values matches if any of them does; an object
/// matches member by member, as in `kubernetes.io: {namespace: ml}`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Accept {
    /// All of them must match.
    pub claims: BTreeMap<String, Value>,
}

impl IssuerSettings {
    /// An Entra tenant of the public cloud with the defaults.
    #[must_use]
    pub fn entra(name: &str, tenant: &str, audiences: &[&str]) -> Self {
        Self::entra_in(&Cloud::public(), name, tenant, audiences)
    }

    /// An Entra tenant of a cloud with the defaults.
    #[must_use]
    pub fn entra_in(cloud: &Cloud, name: &str, tenant: &str, audiences: &[&str]) -> Self {
        let kind = IssuerKind::Entra {
            tenant: tenant.to_ascii_lowercase().into(),
            client_id: None,
            // A name that is no URL makes an issuer whose keys are found nowhere.
            authority: cloud.login.parse().unwrap_or_default(),
            sts: (&*cloud.sts).into(),
            unscoped: Unscoped::Refuse,
        };
        Self::with_defaults(name, kind, audiences, vec![SignatureAlgorithm::Rs256])
    }

    /// An OpenID provider with the defaults; its keys are found through discovery below `issuer`.
    ///
    /// # Errors
    /// If `issuer` is not a URL.
    pub fn oidc(name: &str, issuer: &str, audiences: &[&str]) -> Result<Self, http::uri::InvalidUri> {
        let discovery =
            format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')).parse()?;
        let kind = IssuerKind::Oidc { issuer: issuer.into(), keys: KeysAt::Discovery(discovery) };
        let algorithms = vec![
            SignatureAlgorithm::Rs256,
            SignatureAlgorithm::Ps256,
            SignatureAlgorithm::Es256,
            SignatureAlgorithm::Es384,
            SignatureAlgorithm::EdDsa,
        ];
        Ok(Self::with_defaults(name, kind, audiences, algorithms))
    }

    /// A Backstage portal at `url` (its `backend.baseUrl`) with the defaults: ES256, the audience
    /// `backstage` that all its user tokens have, groups in `ent`.
    ///
    /// # Errors
    /// If `url` is not a URL.
    pub fn backstage(name: &str, url: &str) -> Result<Self, http::uri::InvalidUri> {
        let kind =
            IssuerKind::Backstage { url: url.trim_end_matches('/').parse()?, plugins: Plugins::default() };
        let settings = Self::with_defaults(name, kind, &["backstage"], vec![SignatureAlgorithm::Es256]);
        Ok(Self { groups_claim: "ent".into(), ..settings })
    }

    /// Where the groups of a verified token are asked for if it lacks them; for Backstage alone.
    /// Below the configured URL, never out of a token.
    #[must_use]
    pub fn userinfo(&self) -> Option<Uri> {
        match &self.kind {
            IssuerKind::Backstage { url, .. } => format!("{}/v1/userinfo", backstage_iss(url)).parse().ok(),
            IssuerKind::Entra { .. } | IssuerKind::Oidc { .. } | IssuerKind::Certificate(_) => None,
        }
    }

    /// An authority whose certificates are identities.
    #[must_use]
    pub fn certificate(name: &str, settings: CertificateSettings) -> Self {
        Self::with_defaults(name, IssuerKind::Certificate(settings), &[], Vec::new())
    }

    fn with_defaults(
        name: &str,
        kind: IssuerKind,
        audiences: &[&str],
        algorithms: Vec<SignatureAlgorithm>,
    ) -> Self {
        Self {
            name: name.into(),
            kind,
            audiences: audiences.iter().map(|&a| a.into()).collect(),
            algorithms,
            leeway: MAX_LEEWAY,
            max_lifetime: MAX_LIFETIME,
            accept: None,
            groups_claim: "groups".into(),
            link: None,
            address: None,
            trust: None,
            keys_token: None,
            refresh_every: REFRESH_EVERY,
            keep_for: KEEP_FOR,
            dpop_nonce: false,
        }
    }

    /// The values of `iss` that mean this issuer, each with the keys that may sign for it alone.
    #[must_use]
    pub fn forms(&self) -> Vec<Form> {
        match &self.kind {
            IssuerKind::Certificate(_) => Vec::new(),
            IssuerKind::Oidc { issuer, keys } => vec![Form::of(issuer.clone(), keys.clone())],
            IssuerKind::Backstage { url, plugins } => {
                let iss = backstage_iss(url);
                let users = format!("{iss}/.well-known/jwks.json").parse();
                let users = users.map(|at| Form::of(iss.into(), KeysAt::Jwks(at))).ok();
                // An id is no more than letters and dashes: the settings were judged.
                let of_plugin = |id: &str| {
                    let base = format!("{}/api/{id}", url.to_string().trim_end_matches('/'));
                    let at = format!("{base}/.backstage/auth/v1/jwks.json").parse().ok()?;
                    Some(Form { plugin: Some(id.into()), ..Form::of(base.into(), KeysAt::Jwks(at)) })
                };
                users.into_iter().chain(plugins.ids.iter().filter_map(|id| of_plugin(id))).collect()
            }
            IssuerKind::Entra { tenant, authority, sts, .. } => {
                let login = authority.to_string();
                let login = login.trim_end_matches('/');
                [(format!("{login}/{tenant}/v2.0"), "/v2.0"), (format!("{sts}/{tenant}/"), "")]
                    .into_iter()
                    .filter_map(|(iss, version)| {
                        let at = format!("{login}/{tenant}{version}/.well-known/openid-configuration");
                        Some(Form::of(iss.into(), KeysAt::Discovery(at.parse().ok()?)))
                    })
                    .collect()
            }
        }
    }
}

/// What `iss` says in the tokens of the portal at `url`.
fn backstage_iss(url: &Uri) -> String {
    format!("{}/api/auth", url.to_string().trim_end_matches('/'))
}

/// One value of `iss`, and where the keys are that sign for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// To the letter.
    pub iss: Box<str>,
    /// Its keys.
    pub keys: KeysAt,
    /// The plugin of Backstage whose keys these are: its tokens have no `iss`.
    pub plugin: Option<Box<str>>,
}

impl Form {
    const fn of(iss: Box<str>, keys: KeysAt) -> Self {
        Self { iss, keys, plugin: None }
    }
}

impl Accept {
    /// The first demand that `claims` do not meet.
    #[must_use]
    pub fn unmet<'a>(&'a self, claims: &serde_json::Map<String, Value>) -> Option<(&'a str, &'a Value)> {
        self.claims
            .iter()
            .find(|(name, wanted)| !claims.get(*name).is_some_and(|held| matches(wanted, held)))
            .map(|(name, wanted)| (name.as_str(), wanted))
    }
}

fn matches(wanted: &Value, held: &Value) -> bool {
    match (wanted, held) {
        (Value::Array(any), _) => any.iter().any(|one| !one.is_array() && matches(one, held)),
        (one, Value::Array(all)) => all.contains(one),
        (Value::Object(wanted), Value::Object(held)) => {
            wanted.iter().all(|(name, wanted)| held.get(name).is_some_and(|held| matches(wanted, held)))
        }
        (one, held) => one == held,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_tenant_has_two_issuers_each_with_its_own_discovery() {
        let tenant = "AAAAAAAA-0000-4000-8000-000000000001";
        let forms = IssuerSettings::entra("corp", tenant, &["api://amlgate"]).forms();
        let (low, login) = (tenant.to_lowercase(), "https://login.microsoftonline.com");
        let at = |s: &str| {
            KeysAt::Discovery(format!("{login}/{low}{s}/.well-known/openid-configuration").parse().unwrap())
        };
        assert_eq!(
            forms,
            [
                Form::of(format!("{login}/{low}/v2.0").into(), at("/v2.0")),
                Form::of(format!("https://sts.windows.net/{low}/").into(), at("")),
            ]
        );
    }

    #[test]
    fn no_name_of_an_hmac_or_of_none_is_an_algorithm() {
        for name in [
            "none", "None", "NONE", "", "HS256", "HS384", "HS512", "rs256", "RS256 ", "ES512", "ES256K",
            "RSA-OAEP",
        ] {
            assert!(name.parse::<SignatureAlgorithm>().is_err(), "{name}");
        }
        for algorithm in SignatureAlgorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
    }

    #[test]
    fn accept_compares_case_and_type_and_looks_into_arrays() {
        let claims = json!({"owner": "42", "n": 42, "list": ["a", "b"], "obj": {"a": 1}});
        let claims = claims.as_object().unwrap();
        let unmet = |wanted: Value| {
            let accept = Accept { claims: wanted.as_object().unwrap().clone().into_iter().collect() };
            accept.unmet(claims).map(|(name, _)| name.to_owned())
        };
        assert_eq!(unmet(json!({"owner": "42"})), None);
        assert_eq!(unmet(json!({"owner": ["41", "42"]})), None);
        assert_eq!(unmet(json!({"list": "b", "n": 42})), None);
        assert_eq!(unmet(json!({"list": ["x", "a"]})), None);
        assert_eq!(unmet(json!({"obj": {"a": [2, 1]}})), None);
        assert!(unmet(json!({"obj": {"a": 1, "b": 1}})).is_some());
        assert!(unmet(json!({"obj": {"a": "1"}})).is_some());
        for wanted in [
            json!({"owner": 42}),
            json!({"owner": "4"}),
            json!({"n": "42"}),
            json!({"list": "A"}),
            json!({"list": ["x", "y"]}),
            json!({"list": [["a", "b"]]}),
            json!({"owner": []}),
            json!({"gone": null}),
        ] {
            assert!(unmet(wanted.clone()).is_some(), "{wanted}");
        }
    }
}
