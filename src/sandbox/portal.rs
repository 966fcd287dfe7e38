//! A Backstage portal as far as tokens go: its keys and its userinfo.
//!
//! Its tokens are ES256, as Backstage's are, and carry no groups: those are told to the bearer of a
//! token that it issued and that is still known to it.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    middleware,
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Observer, SandboxError, observe, serve::Server};
use crate::time::SharedClock;

/// The id of its key.
const KEY: &str = "portal-1";
/// The id of the key of its plugins.
const PLUGIN_KEY: &str = "plugin-1";
/// How long its tokens live.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// A running portal on a free port of the loopback, without TLS; stops when dropped.
#[derive(Debug)]
pub struct Portal {
    server: Server,
    inside: Arc<Inside>,
    observer: Observer,
    clock: SharedClock,
}

struct Inside {
    key: EcdsaKeyPair,
    plugin_key: EcdsaKeyPair,
    /// The plugins that have signed: until then one publishes no key.
    signed: Mutex<Vec<String>>,
    /// Token to user and groups.
    known: Mutex<HashMap<String, (String, Vec<String>)>>,
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inside").finish_non_exhaustive()
    }
}

impl Portal {
    /// Starts it.
    ///
    /// # Errors
    /// [`SandboxError`] if no port is free or no key can be made.
    pub async fn start(clock: SharedClock) -> Result<Self, SandboxError> {
        let key = || {
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .map_err(|_| SandboxError::Nobody("key of the portal".to_owned()))
        };
        let (key, plugin_key) = (key()?, key()?);
        let inside = Arc::new(Inside { key, plugin_key, signed: Mutex::default(), known: Mutex::default() });
        let observer = Observer::new(Arc::clone(&clock));
        let router = Router::new()
            .route("/api/auth/.well-known/jwks.json", get(keys))
            .route("/api/auth/v1/userinfo", get(userinfo))
            .route("/api/{plugin}/.backstage/auth/v1/jwks.json", get(plugin_keys))
            .with_state(Arc::clone(&inside))
            .layer(middleware::from_fn_with_state(observer.clone(), observe::layer));
        let server = Server::start(IpAddr::V4(Ipv4Addr::LOCALHOST), 0, None, router).await?;
        Ok(Self { server, inside, observer, clock })
    }

    /// `backend.baseUrl`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// A token of the user `entity` (`user:default/ana`), who is in `groups`.
    ///
    /// # Errors
    /// [`SandboxError`] if the key does not sign.
    pub fn token(&self, entity: &str, groups: &[&str]) -> Result<String, SandboxError> {
        self.token_of(entity, groups, None)
    }

    /// As [`Self::token`]; the sign-in resolver put the person's Entra object id into the custom
    /// claim `entra_oid`.
    ///
    /// # Errors
    /// [`SandboxError`] if the key does not sign.
    pub fn token_of(
        &self,
        entity: &str,
        groups: &[&str],
        object_id: Option<&str>,
    ) -> Result<String, SandboxError> {
        let mut claims = json!({"iss": format!("{}/api/auth", self.url()), "aud": "backstage"});
        if let (Some(id), Value::Object(all)) = (object_id, &mut claims) {
            all.insert("entra_oid".to_owned(), json!(id));
        }
        let token = self.sign("vnd.backstage.user", entity, claims)?;
        let held = (entity.to_owned(), groups.iter().map(|&g| g.to_owned()).collect());
        self.inside.known.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), held);
        Ok(token)
    }

    /// The limited token of the user `entity`, as it travels inside a plugin's token.
    ///
    /// # Errors
    /// [`SandboxError`] if the key does not sign.
    pub fn limited(&self, entity: &str, groups: &[&str]) -> Result<String, SandboxError> {
        let token = self.sign("vnd.backstage.limited-user", entity, json!({}))?;
        let held = (entity.to_owned(), groups.iter().map(|&g| g.to_owned()).collect());
        self.inside.known.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), held);
        Ok(token)
    }

    /// The token with which a plugin calls another, for the user of a limited token or for itself.
    ///
    /// # Errors
    /// [`SandboxError`] if the key does not sign.
    pub fn plugin(&self, plugin: &str, target: &str, obo: Option<&str>) -> Result<String, SandboxError> {
        let mut claims = json!({"aud": target});
        if let (Some(obo), Value::Object(all)) = (obo, &mut claims) {
            all.insert("obo".to_owned(), json!(obo));
        }
        self.inside.signed.lock().unwrap_or_else(PoisonError::into_inner).push(plugin.to_owned());
        self.sign("vnd.backstage.plugin", plugin, claims)
    }

    fn sign(&self, typ: &str, entity: &str, claims: Value) -> Result<String, SandboxError> {
        let (key, id) = match typ {
            "vnd.backstage.plugin" => (&self.inside.plugin_key, PLUGIN_KEY),
            _ => (&self.inside.key, KEY),
        };
        let now = self.clock.now().as_secs();
        let mut payload = json!({"sub": entity, "iat": now, "exp": now.saturating_add(LIFETIME.as_secs())});
        if let (Value::Object(all), Value::Object(more)) = (&mut payload, claims) {
            all.extend(more);
        }
        let head = json!({"typ": typ, "alg": "ES256", "kid": id});
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signed =
            format!("{}.{}", encode(head.to_string().as_bytes()), encode(payload.to_string().as_bytes()));
        let signature = key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| SandboxError::Nobody("signature of the portal".to_owned()))?;
        Ok(format!("{signed}.{}", encode(signature.as_ref())))
    }

    /// The requests that reached it, and faults to put in their way.
    #[must_use]
    pub const fn observer(&self) -> &Observer {
        &self.observer
    }
}

async fn keys(State(inside): State<Arc<Inside>>) -> Json<Value> {
    Json(json!({"keys": [published(&inside.key, KEY)]}))
}

async fn plugin_keys(Path(plugin): Path<String>, State(inside): State<Arc<Inside>>) -> Json<Value> {
    let signed = inside.signed.lock().unwrap_or_else(PoisonError::into_inner).contains(&plugin);
    let keys: Vec<Value> = signed.then(|| published(&inside.plugin_key, PLUGIN_KEY)).into_iter().collect();
    Json(json!({"keys": keys}))
}

fn published(key: &EcdsaKeyPair, id: &str) -> Value {
    // An uncompressed point: a byte 4, then both coordinates.
    let point = key.public_key().as_ref();
    let part = |from, to| URL_SAFE_NO_PAD.encode(point.get(from..to).unwrap_or_default());
    json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": id, "x": part(1, 33), "y": part(33, 65)})
}

async fn userinfo(
    State(inside): State<Arc<Inside>>,
    headers: HeaderMap,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let known = inside.known.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((entity, groups)) = known.get(token) else {
        let error = json!({"error": {"name": "AuthenticationError", "message": "Illegal token"}});
        return Err((StatusCode::UNAUTHORIZED, Json(error)));
    };
    Ok(Json(json!({"claims": {"sub": entity, "ent": groups}})))
}
