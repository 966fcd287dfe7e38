//! A Kubernetes API server as far as the tokens of its service accounts go.
//!
//! As in Kubernetes, discovery and keys are told to a bearer whom the cluster knows, and to nobody
//! else: by default anonymous requests are forbidden there.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    middleware,
    routing::get,
};
use serde_json::{Map, Value, json};

use super::{KeyRing, Observer, SandboxCa, SandboxError, SigningKey, jwt, observe, serve::Server};
use crate::time::SharedClock;

/// How long its tokens live: as long as a pod's by default.
const LIFETIME: Duration = Duration::from_secs(3_607);

/// A running API server; stops when dropped.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    inside: Arc<Inside>,
    observer: Observer,
    clock: SharedClock,
}

struct Inside {
    keys: KeyRing,
    /// The tokens by which keys may be read.
    readers: Mutex<Vec<String>>,
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inside").finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts it on a free port of the loopback, with a certificate of `ca`.
    ///
    /// # Errors
    /// [`SandboxError`] if no port is free or no key can be made.
    pub async fn start(clock: SharedClock, ca: &SandboxCa) -> Result<Self, SandboxError> {
        let inside =
            Arc::new(Inside { keys: KeyRing::new(SigningKey::generate()?), readers: Mutex::default() });
        let observer = Observer::new(Arc::clone(&clock));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/openid/v1/jwks", get(keys))
            .with_state(Arc::clone(&inside))
            .layer(middleware::from_fn_with_state(observer.clone(), observe::layer));
        let tls = ca.server(&["localhost"])?;
        let server = Server::start(IpAddr::V4(Ipv4Addr::LOCALHOST), 0, Some(tls), router).await?;
        Ok(Self { server, inside, observer, clock })
    }

    /// `iss` of its tokens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address().port())
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// From here on this token reads the keys, and no other does.
    pub fn admit(&self, reader: &str) {
        *self.inside.readers.lock().unwrap_or_else(PoisonError::into_inner) = vec![reader.to_owned()];
    }

    /// Puts a new signing key in the old one's place, which is published no more.
    ///
    /// # Errors
    /// [`SandboxError::Certificate`].
    pub fn rotate(&self) -> Result<(), SandboxError> {
        self.inside.keys.rotate()?;
        self.inside.keys.withdraw_old();
        Ok(())
    }

    /// The token of a service account that a pod's projected volume holds.
    ///
    /// # Errors
    /// [`SandboxError`] if the key does not sign.
    pub fn token(&self, namespace: &str, account: &str, audience: &str) -> Result<String, SandboxError> {
        let now = self.clock.now().as_secs();
        let uid = || uuid::Uuid::new_v4().to_string();
        let claims = json!({
            "aud": [audience],
            "exp": now.saturating_add(LIFETIME.as_secs()),
            "iat": now,
            "iss": self.url(),
            "jti": uid(),
            "kubernetes.io": {
                "namespace": namespace,
                "node": {"name": "node-1", "uid": uid()},
                "pod": {"name": format!("{account}-0"), "uid": uid()},
                "serviceaccount": {"name": account, "uid": uid()},
                "warnafter": now.saturating_add(3_000),
            },
            "nbf": now,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
        });
        let key = self.inside.keys.current();
        let key = key.ok_or_else(|| SandboxError::Nobody("signing key of the cluster".to_owned()))?;
        jwt::sign(&key, &claims)
    }

    /// The requests that reached it, and faults to put in their way.
    #[must_use]
    pub const fn observer(&self) -> &Observer {
        &self.observer
    }
}

type Refusal = (StatusCode, Json<Value>);

/// Who comes with no token is forbidden, and whose token is not known is nobody.
fn admitted(inside: &Inside, headers: &HeaderMap) -> Result<(), Refusal> {
    let said = |status: StatusCode, reason: &str, message: &str| {
        let status_object = json!({"kind": "Status", "apiVersion": "v1", "metadata": Map::new(), "status": "Failure",
            "message": message, "reason": reason, "code": status.as_u16()});
        Err((status, Json(status_object)))
    };
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        let message = "forbidden: User \"system:anonymous\" cannot get path";
        return said(StatusCode::FORBIDDEN, "Forbidden", message);
    };
    let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let readers = inside.readers.lock().unwrap_or_else(PoisonError::into_inner);
    if readers.iter().any(|reader| reader == token) {
        return Ok(());
    }
    said(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
}

async fn discovery(State(inside): State<Arc<Inside>>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    admitted(&inside, &headers)?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    Ok(Json(json!({
        "issuer": format!("https://{host}"),
        "jwks_uri": format!("https://{host}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })))
}

async fn keys(State(inside): State<Arc<Inside>>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    admitted(&inside, &headers)?;
    Ok(Json(json!({"keys": inside.keys.public()})))
}
