//! Tokens of the development issuer, minted without asking anybody; and forged ones.

use crate::sandbox::members::Members as _;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{
    sandbox::{KeyRing, Person, SandboxError, SigningKey, jwt, people::PersonKind},
    time::SharedClock,
};

/// What is wrong with a forged token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// Signed with a key that the issuer never had, under the current key's id.
    ForeignKey,
    /// The payload was changed after signing: another subject.
    Altered,
    /// `alg: none` and no signature.
    Unsigned,
}

/// Signs the tokens of one issuer.
#[derive(Debug)]
pub struct Mint {
    issuer: OnceLock<String>,
    keys: Arc<KeyRing>,
    audience: String,
    lifetime: Duration,
    clock: SharedClock,
}

impl Mint {
    /// A mint whose issuer is told later, by [`settle`](Self::settle).
    #[must_use]
    pub const fn new(keys: Arc<KeyRing>, audience: String, lifetime: Duration, clock: SharedClock) -> Self {
        Self { issuer: OnceLock::new(), keys, audience, lifetime, clock }
    }

    /// Names the issuer; only the first time counts.
    pub fn settle(&self, issuer: &str) {
        self.issuer.get_or_init(|| issuer.to_owned());
    }

    /// The issuer's identifier; empty before it is settled.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.issuer.get().cloned().unwrap_or_default()
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys)
    }

    /// The claims of an access token for `person`.
    #[must_use]
    pub fn claims(&self, person: &Person) -> Map<String, Value> {
        let now = self.clock.now().as_secs();
        let mut claims = Map::new();
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("iss", json!(self.issuer()));
        put("sub", json!(person.subject));
        put("aud", json!(self.audience));
        put("iat", json!(now));
        put("nbf", json!(now));
        put("exp", json!(now.saturating_add(self.lifetime.as_secs())));
        put("jti", json!(uuid::Uuid::new_v4().to_string()));
        put("name", json!(person.display));
        match person.kind {
            PersonKind::Human => {
                put("azp", json!("amlgate-cli"));
                put("preferred_username", json!(person.name));
                put("email", json!(person.email()));
                put("email_verified", json!(true));
                put("groups", json!(person.groups));
                put("amr", json!(["pwd", "mfa"]));
                put("auth_time", json!(now));
            }
            PersonKind::Machine => {
                put("azp", json!(person.name));
                put("repository", json!("contoso/vision"));
                put("repository_id", json!("42"));
                put("repository_owner_id", json!("1234567"));
                put("ref", json!("refs/heads/main"));
                put("event_name", json!("push"));
            }
        }
        claims
    }

    /// A token for `person`.
    ///
    /// # Errors
    /// [`SandboxError::Token`].
    pub fn token(&self, person: &Person) -> Result<String, SandboxError> {
        self.sign(&Value::Object(self.claims(person)))
    }

    /// A token for `person` whose claims `change` has been at: for tests of what a verifier must
    /// refuse or map.
    ///
    /// # Errors
    /// [`SandboxError::Token`].
    pub fn token_with(
        &self,
        person: &Person,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<String, SandboxError> {
        let mut claims = self.claims(person);
        change(&mut claims);
        self.sign(&Value::Object(claims))
    }

    /// A token for `person` that must be refused.
    ///
    /// # Errors
    /// [`SandboxError::Token`] or [`SandboxError::Certificate`].
    pub fn forge(&self, person: &Person, how: Forgery) -> Result<String, SandboxError> {
        let claims = Value::Object(self.claims(person));
        let genuine = self.sign(&claims)?;
        let mut parts = genuine.split('.');
        let (head, signature) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
        Ok(match how {
            Forgery::ForeignKey => {
                let foreign = jwt::sign(&SigningKey::generate()?, &claims)?;
                let signature = foreign.rsplit('.').next().unwrap_or_default().to_owned();
                format!("{head}.{}.{signature}", encoded(&claims))
            }
            Forgery::Altered => {
                let mut claims = claims;
                *claims.member_mut("sub") = json!("user-pat");
                *claims.member_mut("groups") = json!(["platform"]);
                format!("{head}.{}.{signature}", encoded(&claims))
            }
            Forgery::Unsigned => {
                format!("{}.{}.", encoded(&json!({"alg": "none", "typ": "JWT"})), encoded(&claims))
            }
        })
    }

    pub(super) fn sign(&self, claims: &Value) -> Result<String, SandboxError> {
        let key = self.keys.current().ok_or_else(|| SandboxError::Nobody("signing key".to_owned()))?;
        jwt::sign(&key, claims)
    }

    pub(super) const fn lifetime(&self) -> Duration {
        self.lifetime
    }
}

fn encoded(value: &Value) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
}
