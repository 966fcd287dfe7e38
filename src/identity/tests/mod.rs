//! The room against tokens of every kind: an issuer that mints what it is told, and its documents
//! in memory.

mod accepted;
mod backstage;
mod handles;
mod hostile;
mod keys;
mod lifecycle;
mod triggered;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Uri;
use serde_json::{Value, json};

use super::*;
use crate::time::{Clock, ManualClock, Timestamp};

pub const TENANT: &str = "aaaaaaaa-0000-4000-8000-000000000001";
pub const PERSON: &str = "bbbbbbbb-0000-4000-8000-000000000002";
pub const START: u64 = 1_800_000_000;
pub const OIDC: &str = "https://issuer.example";

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair that signs whatever bytes it is given.
pub enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    /// Generated once for the whole test binary: generation is slow without optimisation.
    pub fn rsa(which: usize) -> &'static Self {
        static KEYS: [OnceLock<Signer>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
        KEYS[which].get_or_init(|| Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    pub fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    pub fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    pub fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
                json!({"kty": "RSA", "kid": kid, "n": b64(n.big_endian_without_leading_zero()),
                       "e": b64(e.big_endian_without_leading_zero())})
            }
            Self::P256(pair) => point(kid, "P-256", pair.public_key().as_ref()),
            Self::P384(pair) => point(kid, "P-384", pair.public_key().as_ref()),
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(pair.public_key())})
            }
        }
    }

    /// Signs as `alg`, or as the key's first algorithm where that is none of its own.
    pub fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let encoding: &'static dyn signature::RsaEncoding = match alg {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut out).unwrap();
                out
            }
            Self::P256(pair) | Self::P384(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token of exactly these two parts.
    pub fn raw(&self, header: &str, payload: &str) -> String {
        let alg = serde_json::from_str::<Value>(header).ok();
        let alg = alg.as_ref().and_then(|h| h["alg"].as_str()).unwrap_or_default();
        let signed = format!("{}.{}", b64(header), b64(payload));
        format!("{signed}.{}", b64(self.sign(alg, signed.as_bytes())))
    }

    pub fn token(&self, kid: &str, claims: &Value) -> String {
        let alg = match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
            Self::Ed(_) => "EdDSA",
        };
        self.raw(&json!({"alg": alg, "typ": "JWT", "kid": kid}).to_string(), &claims.to_string())
    }
}

fn point(kid: &str, curve: &str, uncompressed: &[u8]) -> Value {
    let (x, y) = uncompressed[1..].split_at((uncompressed.len() - 1) / 2);
    json!({"kty": "EC", "crv": curve, "kid": kid, "x": b64(x), "y": b64(y)})
}

/// Documents in memory, and how often they were asked for.
#[derive(Debug, Default)]
pub struct Documents {
    pages: Mutex<HashMap<String, String>>,
    asked: AtomicUsize,
    uris: Mutex<Vec<String>>,
}

impl Documents {
    pub fn put(&self, uri: &str, body: impl ToString) {
        self.pages.lock().unwrap().insert(uri.to_owned(), body.to_string());
    }

    pub fn gone(&self) {
        self.pages.lock().unwrap().clear();
    }

    pub fn uris(&self) -> Vec<String> {
        self.uris.lock().unwrap().clone()
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Publishes an issuer's discovery document and keys.
    pub fn publish(&self, issuer: &str, keys: &[Value]) {
        let at = format!("{issuer}/jwks");
        let discovery = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        self.put(&discovery, json!({"issuer": issuer, "jwks_uri": at}));
        self.put(&at, json!({"keys": keys}));
    }

    /// Publishes both forms of an Entra tenant.
    pub fn publish_entra(&self, keys: &[Value]) {
        let login = format!("https://login.microsoftonline.com/{TENANT}");
        for (version, iss) in
            [("/v2.0", format!("{login}/v2.0")), ("", format!("https://sts.windows.net/{TENANT}/"))]
        {
            let at = format!("{login}/discovery{version}/keys");
            self.put(
                &format!("{login}{version}/.well-known/openid-configuration"),
                json!({"issuer": iss, "jwks_uri": at}),
            );
            self.put(&at, json!({"keys": keys}));
        }
    }
}

impl KeySource for Documents {
    fn get<'a>(&'a self, uri: &'a Uri, _: &'a IssuerSettings) -> Fetching<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.uris.lock().unwrap().push(uri.to_string());
        let page = self.pages.lock().unwrap().get(&uri.to_string()).cloned();
        Box::pin(async move {
            tokio::task::yield_now().await;
            page.map(Bytes::from)
                .ok_or_else(|| SourceError { uri: uri.to_string(), why: "nobody answers".to_owned() })
        })
    }

    fn get_as<'a>(&'a self, uri: &'a Uri, issuer: &'a IssuerSettings, _: &'a str) -> Fetching<'a> {
        self.get(uri, issuer)
    }
}

/// A verifier with its world.
pub struct World {
    pub clock: ManualClock,
    pub documents: Arc<Documents>,
    pub verifier: Arc<Verifier>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl World {
    /// Trusts these issuers; nothing is fetched yet.
    pub fn of(issuers: Vec<IssuerSettings>) -> Self {
        let clock = ManualClock::starting_at(Timestamp::from_secs(START));
        let documents = Arc::new(Documents::default());
        let verifier = Arc::new(Verifier::new(
            issuers,
            RememberedSettings::default(),
            Arc::clone(&documents) as Arc<dyn KeySource>,
            Arc::new(clock.clone()),
        ));
        Self { clock, documents, verifier, task: None }
    }

    /// Starts the task that keeps the keys fresh, as in the gate; without it nobody answers a
    /// request that meets an unknown key.
    pub fn serve(mut self) -> Self {
        let verifier = Arc::clone(&self.verifier);
        self.task = Some(tokio::spawn(async move { verifier.refresh_forever().await }));
        self
    }

    /// The OpenID issuer and the Entra tenant, both signing with the first RSA key as `k1`.
    pub async fn usual() -> Self {
        let world = Self::of(vec![oidc(), IssuerSettings::entra("corp", TENANT, &["api://amlgate"])]);
        let keys = [Signer::rsa(0).jwk("k1")];
        world.documents.publish(OIDC, &keys);
        world.documents.publish_entra(&keys);
        world.verifier.refresh_once().await;
        world
    }

    pub async fn refused(&self, token: &str) -> Reason {
        self.verifier.authenticate(token).await.unwrap_err().reason()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

pub fn oidc() -> IssuerSettings {
    IssuerSettings::oidc("idp", OIDC, &["amlgate"]).unwrap()
}

/// Claims of a person at the OpenID issuer.
pub fn claims() -> Value {
    json!({"iss": OIDC, "aud": "amlgate", "sub": "alice", "iat": START, "nbf": START, "exp": START + 3_600})
}

/// [`claims`] with some of them replaced; `null` removes one.
pub fn claims_with(changes: &Value) -> Value {
    patched(claims(), changes)
}

pub fn patched(mut claims: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// Claims of a person in a v2 token of the Entra tenant.
pub fn entra_v2() -> Value {
    json!({
        "aud": "api://amlgate", "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
        "iat": START, "nbf": START, "exp": START + 4_200, "ver": "2.0", "tid": TENANT, "oid": PERSON,
        "sub": "pairwise-for-this-application", "azp": "22222222-2222-4222-8222-222222222222", "azpacr": "0",
        "scp": "access", "preferred_username": "ada@example.com", "name": "Ada", "uti": "x", "rh": "y",
        "groups": ["6f9619ff-8b86-d011-b42d-00cf4fc964ff"]
    })
}

/// Claims of the same person in a v1 token.
pub fn entra_v1() -> Value {
    json!({
        "aud": "api://amlgate", "iss": format!("https://sts.windows.net/{TENANT}/"),
        "iat": START, "nbf": START, "exp": START + 4_200, "ver": "1.0", "tid": TENANT, "oid": PERSON,
        "sub": "pairwise-for-this-application", "appid": "22222222-2222-4222-8222-222222222222", "appidacr": "0",
        "scp": "access", "upn": "ada@example.com", "unique_name": "ada@example.com", "amr": ["pwd", "mfa"]
    })
}
