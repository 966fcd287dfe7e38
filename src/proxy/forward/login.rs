//! `login: answer`: what the gate says in the place of Azure's login host.
//!
//! Code that insists on signing in to Entra (a client id and a secret in its environment) gets a
//! placeholder there, if it names the gate's public client; who calls is known from the tunnel, and
//! the placeholder has no authority. Everybody else is told how to sign in to the gate: what they
//! sent, mostly a secret, is neither forwarded nor kept (DECISIONS 21).

use std::{net::IpAddr, rc::Rc, sync::Arc};

use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use secrecy::zeroize::Zeroizing;
use serde_json::{Value, json};

use crate::{
    http::{Body, Connection},
    identity::ConnectionMemo,
    listen::Handler,
    placeholder,
    proxy::Core,
};

/// The largest form that is read.
const MAX_FORM: usize = 16 << 10;

/// Requests inside a tunnel to the login host.
#[derive(Debug, Clone)]
pub(super) struct LoginHost {
    pub core: Core,
    pub host: Arc<str>,
}

impl Handler for LoginHost {
    type Memory = ConnectionMemo;

    async fn handle(
        &self,
        _connection: &Rc<Connection<ConnectionMemo>>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let (status, said) = match self.document(&head) {
            Some(document) => (StatusCode::OK, document),
            None if head.method == Method::POST && is_token_endpoint(head.uri.path()) => {
                let form = Limited::new(body, MAX_FORM).collect().await.ok();
                let form = Zeroizing::new(form.map(|form| form.to_bytes().to_vec()).unwrap_or_default());
                self.token(head.uri.path(), &form)
            }
            None => elsewhere(),
        };
        let result = if status == StatusCode::OK { "answered" } else { "refused" };
        metrics::counter!("amlgate_login_answers_total", "result" => result).increment(1);
        let mut response = Response::new(Body::full(said.to_string()));
        *response.status_mut() = status;
        let map = response.headers_mut();
        map.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        map.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-cache"));
        response
    }

    fn rejected(&self, peer: IpAddr, why: &'static str) {
        self.core.gate().parts().journal.refused(peer, why);
    }
}

impl LoginHost {
    /// What clients read before they ask for a token: instance discovery and OpenID configuration.
    fn document(&self, head: &Parts) -> Option<Value> {
        if head.method != Method::GET {
            return None;
        }
        let (base, path) = (format!("https://{}", self.host), head.uri.path());
        if path.ends_with("/discovery/instance") {
            let known = json!({
                "preferred_network": &*self.host,
                "preferred_cache": &*self.host,
                "aliases": [&*self.host],
            });
            return Some(json!({
                "tenant_discovery_endpoint": format!("{base}/common/v2.0/.well-known/openid-configuration"),
                "api-version": "1.1",
                "metadata": [known],
            }));
        }
        let tenant = path.trim_start_matches('/').strip_suffix("/.well-known/openid-configuration")?;
        let tenant = tenant.strip_suffix("/v2.0").unwrap_or(tenant);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
        tenant.bytes().all(plain).then(|| {
            json!({
                "issuer": format!("{base}/{tenant}/v2.0"),
                "authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/authorize"),
                "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"),
                "device_authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/devicecode"),
                "jwks_uri": format!("{base}/{tenant}/discovery/v2.0/keys"),
                "response_types_supported": ["code"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
            })
        })
    }

    /// A placeholder for the gate's public client, an OAuth error for every other.
    fn token(&self, path: &str, form: &[u8]) -> (StatusCode, Value) {
        let field = |name: &str| {
            let mut all = form_urlencoded::parse(form).filter(|(key, _)| key == name);
            all.next().map(|(_, value)| value).filter(|_| all.next().is_none())
        };
        if field("client_id").as_deref() != Some(placeholder::CLIENT)
            || field("grant_type").as_deref() != Some("client_credentials")
        {
            return elsewhere();
        }
        let scope = field("scope").or_else(|| field("resource"));
        let Some(resource) = scope.as_deref().and_then(|scope| scope.split_whitespace().next()) else {
            let said = "amlgate: `scope` is missing";
            return (StatusCode::BAD_REQUEST, json!({"error": "invalid_scope", "error_description": said}));
        };
        let tenant = path.trim_start_matches('/').split('/').next();
        let tenant = tenant.filter(|tenant| uuid::Uuid::try_parse(tenant).is_ok());
        let resource = resource.strip_suffix("/.default").unwrap_or(resource);
        let now = self.core.gate().parts().clock.now();
        (StatusCode::OK, placeholder::of_entra(resource, tenant, now))
    }
}

fn is_token_endpoint(path: &str) -> bool {
    path.ends_with("/oauth2/v2.0/token") || path.ends_with("/oauth2/token")
}

/// The gate is no login host: this is how to sign in.
fn elsewhere() -> (StatusCode, Value) {
    let said = format!(
        "amlgate: behind this proxy nobody signs in to Azure, and what was sent is not kept: sign in to the gate with `amlgate login` and start programs with `amlgate run`, which DefaultAzureCredential understands; code that must have a client id and a secret takes the client id {} with any secret",
        placeholder::CLIENT
    );
    (StatusCode::BAD_REQUEST, json!({"error": "unauthorized_client", "error_description": said}))
}
