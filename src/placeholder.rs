//! A token that is worth nothing, for code that insists on holding one.
//!
//! Azure's SDKs read the token that a credential gives them (they look for `aud`, `tid` and `exp`) and
//! send it along. Inside a tunnel it says nothing: who calls is known from the tunnel, and the gate
//! puts its own token in its place. So the relay, and the gate where it answers for the login host,
//! make one themselves, signed with a key that is thrown away, of a type of its own, which no verifier
//! takes (DECISIONS 21).

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::time::Timestamp;

/// What `typ` says.
pub const TYPE: &str = "amlgate-placeholder+jwt";
/// How long SDKs keep it before they ask again.
const LIFE: Duration = Duration::from_secs(3_600);
/// Where the claim `tid` says nothing better: no tenant has this id.
const NO_TENANT: &str = "00000000-0000-0000-0000-000000000000";

/// The client id by which code asks a gate for a placeholder where it asks Entra for a token. It is
/// public, and so is whatever is sent as its secret.
pub const CLIENT: &str = "a3191a7e-0000-4000-8000-000000000000";

/// A placeholder for `resource`, and when it ends, in seconds since 1970.
#[must_use]
pub fn token(resource: &str, tenant: Option<&str>, now: Timestamp) -> (String, u64) {
    let expires = now.plus(LIFE).as_secs();
    let claims = json!({
        "aud": resource,
        "exp": expires,
        "iat": now.as_secs(),
        "iss": "amlgate-placeholder",
        "nbf": now.as_secs(),
        "sub": "placeholder",
        "tid": tenant.unwrap_or(NO_TENANT),
    });
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some(TYPE.to_owned());
    let key = [*uuid::Uuid::new_v4().as_bytes(), *uuid::Uuid::new_v4().as_bytes()].concat();
    let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&key)).unwrap_or_default();
    (token, expires)
}

/// The same as App Service's managed-identity endpoint answers (api-version 2019-08-01).
#[must_use]
pub fn of_machine(resource: &str, tenant: Option<&str>, now: Timestamp) -> Value {
    let (token, expires) = token(resource, tenant, now);
    json!({
        "access_token": token,
        "client_id": NO_TENANT,
        "expires_on": expires.to_string(),
        "resource": resource,
        "token_type": "Bearer",
    })
}

/// The same as Entra's token endpoint answers.
#[must_use]
pub fn of_entra(resource: &str, tenant: Option<&str>, now: Timestamp) -> Value {
    let (token, expires) = token(resource, tenant, now);
    let life = expires.saturating_sub(now.as_secs());
    json!({"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": token})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_has_what_sdks_read_and_a_type_of_its_own() {
        let now = Timestamp::from_secs(1_800_000_000);
        let answer = of_machine("https://ml.azure.com", Some("t"), now);
        assert_eq!(answer["expires_on"], "1800003600");
        let token = answer["access_token"].as_str().unwrap();
        assert_eq!(jsonwebtoken::decode_header(token).unwrap().typ.as_deref(), Some(TYPE));
        let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(token).unwrap().claims;
        assert_eq!((&claims["aud"], &claims["tid"]), (&json!("https://ml.azure.com"), &json!("t")));
    }
}
