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
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::json;

use super::{
    Api, MAX_BODY, Peer,
    call::{Refused, Said},
    openapi::{self, Answer, Operation, Parameter, Shape},
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

/// What this is called in policies and in the record.
const ACTION: &str = "amlgate/token/action";

pub(super) const EXCHANGE: Operation = Operation {
    about: "RFC 8693: a token of any issuer becomes one of the gate's, for the reverse proxy's URL alone, for \
            at most 15 minutes and never longer than its origin, of the same principal. The token that is \
            exchanged says who calls, who is judged as `amlgate/token/action`.",
    parameters: &[Parameter::header(
        "DPoP",
        "A proof of possession (RFC 9449): the token is bound to its key.",
        Shape::Text(16 << 10),
    )],
    body: Some(openapi::Body::form(form_of_exchange, MAX_BODY)),
    ..Operation::open(
        "exchangeToken",
        "Exchanges a token for a short one of the gate's",
        &[
            Answer::json::<Exchanged>(StatusCode::OK, "The token."),
            flawed(StatusCode::BAD_REQUEST, "It is asked wrongly, or the token is not accepted."),
            flawed(StatusCode::UNAUTHORIZED, "The caller must sign in again, or stronger."),
            flawed(StatusCode::FORBIDDEN, "The policies do not let the caller do this."),
            flawed(StatusCode::TOO_MANY_REQUESTS, "A limit of the policies is reached."),
            flawed(StatusCode::INTERNAL_SERVER_ERROR, "The token could not be signed."),
            flawed(StatusCode::NOT_IMPLEMENTED, "The configuration lets the gate issue no tokens."),
            flawed(StatusCode::SERVICE_UNAVAILABLE, "What the answer needs cannot be had now."),
        ],
    )
};

const fn flawed(status: StatusCode, about: &'static str) -> Answer {
    Answer::json::<FlawBody>(status, about)
}

/// RFC 8693, 2.2.1.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExchangedToken")]
struct Exchanged {
    /// The token.
    access_token: String,
    /// `urn:ietf:params:oauth:token-type:access_token`.
    issued_token_type: &'static str,
    /// `DPoP` if it is bound to a key.
    #[schemars(extend("enum" = ["Bearer", "DPoP"]))]
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
}

/// RFC 6749, 5.2.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TokenError")]
struct FlawBody {
    /// One word for programs.
    error: &'static str,
    /// For people.
    error_description: String,
}

fn form_of_exchange(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["grant_type", "subject_token", "subject_token_type"],
        "properties": {
            "grant_type": {"const": GRANT},
            "subject_token": {"type": "string", "minLength": 1, "description": "The token to exchange."},
            "subject_token_type": {"enum": SUBJECTS},
            "requested_token_type": {"enum": ISSUED},
            "audience": {"type": "string", "description": "The reverse proxy's URL, if any."},
            "resource": {"type": "string", "description": "The same."},
            "scope": {"const": "", "description": "Tokens of the gate have none."},
            "client_id": {"type": "string", "description": "Says nothing here."},
        },
    })
}

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
            Said::Malformed
            | Said::NotFound
            | Said::NotConfigured
            | Said::NotYours
            | Said::Conflict
            | Said::OtherMethod => "invalid_request",
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
    let mut response = exchanged
        .unwrap_or_else(|flaw| (flaw.status, Json(told(flaw.error, flaw.description))).into_response());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn told(error: &'static str, why: impl std::fmt::Display) -> FlawBody {
    FlawBody { error, error_description: format!("amlgate: {why}") }
}

async fn exchanged(api: &Api, peer: Peer, head: &Parts, body: &Bytes) -> Result<Response, Flaw> {
    let Some(own) = api.verifier.own() else {
        return Err(Flaw {
            status: StatusCode::NOT_IMPLEMENTED,
            ..flaw(
                "invalid_request",
                "tokens are exchanged where `listen.admin.public_url` (or `on_reverse`) and `store` are configured",
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
    let allowed = api.allowed(head, peer, principal.clone(), ACTION, Kind::Action).await?;
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
            return Ok(allowed.answer(status, &told("invalid_request", why)));
        }
    };
    let answer = Exchanged {
        access_token: exchanged.token,
        issued_token_type: ACCESS_TOKEN,
        token_type: if key.is_some() { "DPoP" } else { "Bearer" },
        expires_in: exchanged.life.as_secs(),
    };
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

pub(super) const JWKS: Operation = Operation::open(
    "keys",
    "The keys of the tokens that the gate gives out (RFC 7517)",
    &[Answer::shaped(StatusCode::OK, "The keys; none if it gives out no tokens.", key_set)],
);

fn key_set(_: &mut SchemaGenerator) -> Schema {
    let key = json!({"type": "object", "required": ["kty"]});
    json_schema!({"type": "object", "required": ["keys"], "properties": {"keys": {"type": "array", "items": key}}})
}

/// The keys of the gate's own tokens; an empty set if it issues none.
pub(super) async fn jwks(State(api): State<Arc<Api>>) -> Response {
    let keys = api.verifier.own().map_or_else(|| json!({"keys": []}), |own| own.jwks().clone());
    Json(keys).into_response()
}

pub(super) const DISCOVERY: Operation = Operation {
    problems: &[(StatusCode::NOT_FOUND, "The gate gives out no tokens.")],
    ..Operation::open(
        "issuer",
        "The gate as an issuer (OpenID Connect Discovery 1.0; RFC 8414)",
        &[Answer::json::<Metadata>(StatusCode::OK, "What verifiers of its tokens need.")],
    )
};

/// What an issuer says of itself.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "IssuerMetadata")]
struct Metadata {
    issuer: String,
    jwks_uri: String,
    token_endpoint: String,
    grant_types_supported: &'static [&'static str],
    token_endpoint_auth_methods_supported: &'static [&'static str],
    response_types_supported: &'static [&'static str],
    subject_types_supported: &'static [&'static str],
    id_token_signing_alg_values_supported: &'static [&'static str],
    dpop_signing_alg_values_supported: Vec<&'static str>,
}

/// The gate as an issuer (OpenID Connect Discovery 1.0; RFC 8414).
pub(super) async fn discovery(State(api): State<Arc<Api>>) -> Response {
    let Some(own) = api.verifier.own() else {
        let why = "the gate issues no tokens";
        return Refused::new(StatusCode::NOT_FOUND, Said::NotConfigured, why).into_response();
    };
    let url = own.url();
    let base = url.trim_end_matches('/');
    Json(Metadata {
        jwks_uri: format!("{base}/.well-known/jwks.json"),
        token_endpoint: format!("{base}/api/v1/token"),
        grant_types_supported: &[GRANT],
        token_endpoint_auth_methods_supported: &["none"],
        response_types_supported: &[],
        subject_types_supported: &["public"],
        id_token_signing_alg_values_supported: &["EdDSA"],
        dpop_signing_alg_values_supported: dpop::ALGORITHMS.iter().map(|one| one.name()).collect(),
        issuer: url,
    })
    .into_response()
}
