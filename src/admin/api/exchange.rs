//! `POST /api/v1/token`: token exchange (RFC 8693), and the keys of the tokens that it gives out.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::json;

use super::{
    Api, MAX_BODY, Peer,
    call::{Refused, Said},
};
use crate::{
    azureml::Kind,
    identity::{
        NotExchanged,
        dpop::{self, Demand, Seen, Window},
    },
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// What a token may be called that is exchanged: they are all verified alike.
const SUBJECTS: [&str; 3] =
    [ACCESS_TOKEN, "urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"];
/// What the token that is given out may be called.
const ISSUED: [&str; 2] = [ACCESS_TOKEN, "urn:ietf:params:oauth:token-type:jwt"];
/// The parameters of RFC 8693, 2.1, and of the client (RFC 6749, 2.3.1), which says nothing here.
const PARAMETERS: [&str; 10] = [
    "grant_type",
    "resource",
    "audience",
    "scope",
    "requested_token_type",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "client_id",
];

/// An error of the token endpoint (RFC 6749, 5.2; RFC 8693, 2.2.2).
struct Flaw {
    status: StatusCode,
    error: &'static str,
    description: String,
}

fn flaw(error: &'static str, description: impl Into<String>) -> Flaw {
    Flaw { status: StatusCode::BAD_REQUEST, error, description: description.into() }
}

impl From<Refused> for Flaw {
    fn from(refused: Refused) -> Self {
        let error = match refused.said {
            Said::Denied(_) => "unauthorized_client",
            Said::Unauthenticated => return flaw("invalid_request", "the `subject_token` is not accepted"),
            Said::Malformed | Said::NotFound | Said::NotConfigured | Said::NotYours | Said::Conflict => {
                "invalid_request"
            }
            Said::Unavailable => "temporarily_unavailable",
            Said::NotWhole => "server_error",
        };
        Self { status: refused.status, error, description: refused.message }
    }
}

pub(super) async fn exchange(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let exchanged = match http_body_util::Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => exchanged(&api, peer, &head, &body.to_bytes()).await,
        Err(_) => Err(flaw("invalid_request", "the body is too large, or broke off")),
    };
    let mut response = exchanged.unwrap_or_else(|flaw| {
        let body =
            json!({"error": flaw.error, "error_description": format!("amlgate: {}", flaw.description)});
        (flaw.status, Json(body)).into_response()
    });
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn exchanged(api: &Api, peer: Peer, head: &Parts, body: &Bytes) -> Result<Response, Flaw> {
    let Some(own) = api.verifier.own() else {
        return Err(Flaw {
            status: StatusCode::NOT_IMPLEMENTED,
            ..flaw(
                "invalid_request",
                "tokens are exchanged where `listen.admin.public_url` and `store` are configured",
            )
        });
    };
    let form = form(head, body)?;
    let field = |name: &str| form.get(name).map(String::as_str);
    match field("grant_type") {
        Some(GRANT) => {}
        Some(_) | None => return Err(flaw("unsupported_grant_type", format!("`grant_type` is `{GRANT}`"))),
    }
    if field("actor_token").is_some() || field("actor_token_type").is_some() {
        return Err(flaw(
            "invalid_request",
            "`actor_token` is not supported: a token that acts for somebody says so itself",
        ));
    }
    if field("scope").is_some_and(|scope| !scope.is_empty()) {
        return Err(flaw(
            "invalid_scope",
            "tokens of the gate have no scopes: policies decide at each request",
        ));
    }
    if field("requested_token_type").is_some_and(|kind| !ISSUED.contains(&kind)) {
        return Err(flaw("invalid_request", format!("`requested_token_type` is `{ACCESS_TOKEN}`")));
    }
    for name in ["audience", "resource"] {
        if field(name).is_some_and(|asked| asked != own.audience()) {
            return Err(flaw("invalid_target", format!("tokens are for `{}` alone", own.audience())));
        }
    }
    if !field("subject_token_type").is_some_and(|kind| SUBJECTS.contains(&kind)) {
        return Err(flaw(
            "invalid_request",
            format!("`subject_token_type` is one of `{}`", SUBJECTS.join("`, `")),
        ));
    }
    let subject =
        field("subject_token").ok_or_else(|| flaw("invalid_request", "`subject_token` is missing"))?;
    let principal = api.holder(subject).await.map_err(|(reason, refused)| {
        api.journal.refused(peer.0.ip(), reason);
        Flaw::from(refused)
    })?;
    let key = proven(api, head, &own.url())?;
    let allowed = api.allowed(head, peer, principal.clone(), "amlgate/token/action", Kind::Action).await?;
    let exchanged = match api.verifier.exchange(&principal, key.as_deref()) {
        Ok(exchanged) => exchanged,
        Err(why) => {
            // What is said is ours; the status tells whose fault it is.
            let status = match why {
                NotExchanged::Unsigned => StatusCode::INTERNAL_SERVER_ERROR,
                NotExchanged::Again
                | NotExchanged::NoClaims
                | NotExchanged::Ended
                | NotExchanged::OtherKey
                | NotExchanged::TooLarge => StatusCode::BAD_REQUEST,
            };
            let body = json!({"error": "invalid_request", "error_description": format!("amlgate: {why}")});
            return Ok(allowed.answer(status, &body));
        }
    };
    let answer = json!({
        "access_token": exchanged.token,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": if key.is_some() { "DPoP" } else { "Bearer" },
        "expires_in": exchanged.life.as_secs(),
    });
    Ok(allowed.answer(StatusCode::OK, &answer))
}

/// The parameters, each once.
fn form(head: &Parts, body: &Bytes) -> Result<BTreeMap<String, String>, Flaw> {
    let media =
        head.headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
    if media.split(';').next().unwrap_or_default().trim() != "application/x-www-form-urlencoded" {
        return Err(flaw("invalid_request", "the body is `application/x-www-form-urlencoded`"));
    }
    let mut form = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        // RFC 6749, 3.2: what is not known is ignored, what is repeated is refused.
        if PARAMETERS.contains(&&*name)
            && form.insert(name.clone().into_owned(), value.into_owned()).is_some()
        {
            return Err(flaw("invalid_request", format!("`{name}` is there more than once")));
        }
    }
    Ok(form)
}

/// The thumbprint of the key that a proof shows, if one came (RFC 9449, 5).
fn proven(api: &Api, head: &Parts, base: &str) -> Result<Option<Box<str>>, Flaw> {
    if !head.headers.contains_key("dpop") {
        return Ok(None);
    }
    let wrong = |why: &dyn std::fmt::Display| flaw("invalid_dpop_proof", why.to_string());
    let now = api.clock.now();
    let urls = [format!("{}{}", base.trim_end_matches('/'), head.uri.path())];
    let demand = Demand {
        method: head.method.as_str(),
        urls: &urls,
        token: None,
        nonces: None,
        window: Window::default(),
        now,
    };
    let proof =
        dpop::sole(&head.headers).and_then(|proof| dpop::verify(proof, &demand)).map_err(|e| wrong(&e))?;
    match api.proofs.first_use(&proof.id, proof.until, now) {
        Seen::First => Ok(Some(proof.thumbprint)),
        Seen::Before => Err(wrong(&"the `DPoP` proof was used before")),
        Seen::Full => Err(Flaw {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..flaw("temporarily_unavailable", "no more proofs can be remembered now")
        }),
    }
}

/// The keys of the gate's own tokens; an empty set if it issues none.
pub(super) async fn jwks(State(api): State<Arc<Api>>) -> Response {
    let keys = api.verifier.own().map_or_else(|| json!({"keys": []}), |own| own.jwks().clone());
    Json(keys).into_response()
}

/// The gate as an issuer (OpenID Connect Discovery 1.0; RFC 8414).
pub(super) async fn discovery(State(api): State<Arc<Api>>) -> Response {
    let Some(own) = api.verifier.own() else {
        let why = "the gate issues no tokens";
        return Refused::new(StatusCode::NOT_FOUND, Said::NotConfigured, why).into_response();
    };
    let url = own.url();
    let base = url.trim_end_matches('/');
    let algorithms: Vec<&str> = dpop::ALGORITHMS.iter().map(|algorithm| algorithm.name()).collect();
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "token_endpoint": format!("{base}/api/v1/token"),
        "grant_types_supported": [GRANT],
        "token_endpoint_auth_methods_supported": ["none"],
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "dpop_signing_alg_values_supported": algorithms,
    }))
    .into_response()
}
