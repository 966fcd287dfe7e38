//! How an application proves itself at the token endpoint: secret, certificate, federated token.

use aws_lc_rs::{constant_time, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::{Denied, field, required};
use crate::sandbox::{
    azure::{Shared, SimulatedCloud, call::Call, names},
    jwt,
};

/// The audience of tokens that stand for an application's secret.
pub(super) const EXCHANGE: &str = "api://AzureADTokenExchange";

/// An application registration and its service principal.
#[derive(Debug, Clone, Default)]
pub struct App {
    /// Its client id.
    pub client_id: String,
    /// The object id of its service principal.
    pub principal: String,
    /// Its App ID URI, if it exposes an API.
    pub id_uri: Option<String>,
    /// Its secrets.
    pub secrets: Vec<String>,
    /// Its certificates, DER.
    pub certificates: Vec<Vec<u8>>,
    /// The federated credentials it accepts in place of a secret.
    pub federated: Vec<FederatedCredential>,
}

/// Whose tokens stand for an application's secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedCredential {
    /// The issuer, whose keys the sandbox must have been told.
    pub issuer: String,
    /// The subject.
    pub subject: String,
}

/// Demands that the request proves to come from `app`.
///
/// # Errors
/// `invalid_client` with Entra's code for what is wrong.
pub fn prove(shared: &Shared, call: &Call, app: &App, form: &[(String, String)]) -> Result<(), Denied> {
    if let Some(secret) = field(form, "client_secret") {
        let known = app
            .secrets
            .iter()
            .any(|s| constant_time::verify_slices_are_equal(s.as_bytes(), secret.as_bytes()).is_ok());
        return if known {
            Ok(())
        } else {
            Err(Denied::new(
                "invalid_client",
                7_000_215,
                format!(
                    "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{}'.",
                    app.client_id
                ),
            ))
        };
    }
    let Some(assertion) = field(form, "client_assertion") else {
        return Err(Denied::new(
            "invalid_client",
            7_000_218,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        ));
    };
    let kind = required(form, "client_assertion_type")?;
    if kind != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
        return Err(Denied::new(
            "invalid_request",
            50_027,
            format!("Invalid client_assertion_type '{kind}'."),
        ));
    }
    let malformed = || Denied::new("invalid_client", 50_027, "JWT token is invalid or malformed.");
    let header = jsonwebtoken::decode_header(assertion).map_err(|_| malformed())?;
    if header.x5t_s256.is_some() || header.x5t.is_some() {
        return by_certificate(shared, call, app, assertion, &header);
    }
    by_federation(shared, app, assertion)
}

/// A JWT signed by the key of a registered certificate: PS256 where `x5t#S256` names it, RS256 where
/// `x5t` does.
fn by_certificate(
    shared: &Shared,
    call: &Call,
    app: &App,
    assertion: &str,
    header: &jsonwebtoken::Header,
) -> Result<(), Denied> {
    let refused = |code: u32, text: &str| Denied::new("invalid_client", code, text);
    // The older form, SHA-1 and RS256, is what azure-identity for Python still sends.
    let (named, hash, alg) = match (&header.x5t_s256, &header.x5t) {
        (Some(named), _) => (named, &digest::SHA256, Algorithm::PS256),
        (None, Some(named)) => (named, &digest::SHA1_FOR_LEGACY_USE_ONLY, Algorithm::RS256),
        (None, None) => return Err(refused(50_027, "JWT token is invalid or malformed.")),
    };
    let certificate = app
        .certificates
        .iter()
        .find(|der| URL_SAFE_NO_PAD.encode(digest::digest(hash, der)) == named.trim_end_matches('='))
        .ok_or_else(|| {
            refused(700_027, "The certificate with identifier used to sign the client assertion is not registered on application.")
        })?;
    if header.alg != alg {
        return Err(refused(
            700_027,
            "Client assertion is signed with an algorithm that does not fit its thumbprint.",
        ));
    }
    let claims = signed_by(assertion, certificate, alg)
        .ok_or_else(|| refused(700_027, "Client assertion failed signature validation."))?;
    jwt::timely(&claims, shared.clock.now()).map_err(|flaw| match flaw {
        jwt::Flaw::Malformed | jwt::Flaw::Signature => refused(50_027, "JWT token is invalid or malformed."),
        jwt::Flaw::Expired | jwt::Flaw::Early => {
            refused(700_024, "Client assertion is not within its valid time range.")
        }
    })?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("iss") != app.client_id || text("sub") != app.client_id {
        return Err(refused(
            700_021,
            "Client assertion application identifier doesn't match 'client_id' parameter.",
        ));
    }
    let cloud = SimulatedCloud::of(&call.host);
    let audiences = [
        format!("{}{}", call.urls().login(), call.path),
        format!("https://{}/{}/oauth2/v2.0/token", cloud.login, names::TENANT),
        cloud.issuer_v2(names::TENANT),
    ];
    if !audiences.iter().any(|a| a == text("aud")) {
        return Err(refused(700_023, "Client assertion audience claim does not match Realm issuer."));
    }
    if text("jti").is_empty() {
        return Err(refused(50_027, "JWT token is invalid or malformed: 'jti' is missing."));
    }
    Ok(())
}

/// The claims of an assertion that the certificate's key signed.
fn signed_by(assertion: &str, certificate: &[u8], alg: Algorithm) -> Option<Map<String, Value>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let key = DecodingKey::from_rsa_der(&parsed.public_key().subject_public_key.data);
    let mut rules = Validation::new(alg);
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.required_spec_claims.clear();
    Some(jsonwebtoken::decode::<Map<String, Value>>(assertion, &key, &rules).ok()?.claims)
}

/// A token of another issuer that a federated credential names.
fn by_federation(shared: &Shared, app: &App, assertion: &str) -> Result<(), Denied> {
    let refused = |code: u32, text: String| Denied::new("invalid_client", code, text);
    let claims = jsonwebtoken::dangerous::insecure_decode::<Map<String, Value>>(assertion)
        .map_err(|_| refused(50_027, "JWT token is invalid or malformed.".to_owned()))?
        .claims;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let issuer = text("iss");
    let credentials: Vec<&FederatedCredential> =
        app.federated.iter().filter(|f| f.issuer == issuer).collect();
    // A managed identity's token is Entra's own.
    let own = issuer == SimulatedCloud::public().issuer_v2(names::TENANT);
    let trusted = shared.trusted_keys(&issuer);
    let keys = if own { Some(&shared.keys) } else { trusted.as_deref() };
    let (Some(keys), false) = (keys, credentials.is_empty()) else {
        return Err(refused(
            700_211,
            format!("No matching federated identity record found for presented assertion issuer '{issuer}'."),
        ));
    };
    // The issuer is known: now its signature counts.
    let claims = jwt::verify(keys, assertion, shared.clock.now()).map_err(|flaw| match flaw {
        jwt::Flaw::Expired | jwt::Flaw::Early => {
            refused(700_024, "Client assertion is not within its valid time range.".to_owned())
        }
        jwt::Flaw::Malformed | jwt::Flaw::Signature => {
            refused(700_027, "Client assertion failed signature validation.".to_owned())
        }
    })?;
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if !credentials.iter().any(|f| f.subject == subject) {
        return Err(refused(
            700_213,
            format!(
                "No matching federated identity record found for presented assertion subject '{subject}'."
            ),
        ));
    }
    let fits = match claims.get("aud") {
        Some(Value::String(audience)) => audience == EXCHANGE,
        Some(Value::Array(all)) => all.len() == 1 && all.iter().all(|a| a.as_str() == Some(EXCHANGE)),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
    };
    if !fits {
        return Err(refused(
            700_212,
            format!(
                "No matching federated identity record found for presented assertion audience '{}'.",
                text("aud")
            ),
        ));
    }
    Ok(())
}
