//! A token that is worth nothing, for code that insists on holding one.
//!
//! Azure's SDKs read the token that a credential gives them (they look for `aud`, `tid` and `exp`) and
//! send it along. Inside a tunnel it says nothing: who calls is known from the tunnel, and the gate
//! puts its own token in its place. So the relay makes one itself, signed with a key that is thrown
//! away, of a type of its own, which no verifier takes (DECISIONS 21).

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

/// A placeholder for `resource`, as App Service's managed-identity endpoint answers (api-version
/// 2019-08-01).
pub fn answer(resource: &str, tenant: Option<&str>, now: Timestamp) -> Value {
    let expires = now.plus(LIFE).as_secs();
    let claims = json!({
        "aud": resource,
        "exp": expires,
        "iat": now.as_secs(),
        "iss": "amlgate-relay",
        "nbf": now.as_secs(),
        "sub": "placeholder",
        "tid": tenant.unwrap_or(NO_TENANT),
    });
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some(TYPE.to_owned());
    let key = [*uuid::Uuid::new_v4().as_bytes(), *uuid::Uuid::new_v4().as_bytes()].concat();
    let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&key)).unwrap_or_default();
    json!({
        "access_token": token,
        "client_id": NO_TENANT,
        "expires_on": expires.to_string(),
        "resource": resource,
        "token_type": "Bearer",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_has_what_sdks_read_and_a_type_of_its_own() {
        let now = Timestamp::from_secs(1_800_000_000);
        let answer = answer("https://ml.azure.com", Some("t"), now);
        assert_eq!(answer["expires_on"], "1800003600");
        let token = answer["access_token"].as_str().unwrap();
        assert_eq!(jsonwebtoken::decode_header(token).unwrap().typ.as_deref(), Some(TYPE));
        let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(token).unwrap().claims;
        assert_eq!((&claims["aud"], &claims["tid"]), (&json!("https://ml.azure.com"), &json!("t")));
    }
}
