//! The issuer's endpoints (OIDC Core, RFC 6749, RFC 7636, RFC 8628).

use crate::sandbox::members::Members as _;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json,
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use base64::Engine as _;
use serde_json::{Value, json};

use super::{Mint, pages, proof};
use crate::{
    sandbox::{Person, jwt, people::PersonKind},
    time::{SharedClock, Timestamp},
};

/// How long a code may be redeemed.
const CODE_LIFE: Duration = Duration::from_secs(300);

type Form = HashMap<String, String>;

/// A login that was made and not redeemed yet.
#[derive(Debug, Clone)]
struct Login {
    person: &'static Person,
    client: String,
    nonce: Option<String>,
    /// The issuer's own session (`sid`).
    session: String,
    expires: Timestamp,
    /// The class of the sign-in, where one was asked for (OIDC Core 3.1.2.1, RFC 9470).
    class: Option<String>,
    /// When the person signed in, where that was asked for.
    at: Option<Timestamp>,
    /// The thumbprint of the key that its tokens are bound to.
    key: Option<String>,
}

#[derive(Debug)]
struct Code {
    login: Login,
    redirect: String,
    challenge: String,
}

#[derive(Debug)]
struct Device {
    user_code: String,
    client: String,
    expires: Timestamp,
    person: Option<&'static Person>,
}

#[derive(Debug, Default)]
struct Pending {
    codes: HashMap<String, Code>,
    devices: HashMap<String, Device>,
    refresh: HashMap<String, Login>,
}

/// What the endpoints share.
#[derive(Debug)]
pub struct Flows {
    mint: Arc<Mint>,
    clock: SharedClock,
    pending: Mutex<Pending>,
}

impl Flows {
    pub fn new(mint: Arc<Mint>, clock: SharedClock) -> Self {
        Self { mint, clock, pending: Mutex::default() }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer of the token endpoint for a login.
    fn issue(&self, login: Login, refreshable: bool) -> Response {
        let now = self.clock.now().as_secs();
        let lifetime = self.mint.lifetime().as_secs();
        let Ok(access) = self.mint.token_with(login.person, |claims| {
            claims.insert("azp".to_owned(), json!(login.client));
            if let Some(class) = &login.class {
                claims.insert("acr".to_owned(), json!(class));
            }
            if let Some(at) = login.at {
                claims.insert("auth_time".to_owned(), json!(at.as_secs()));
            }
            if let Some(key) = &login.key {
                claims.insert("cnf".to_owned(), json!({"jkt": key}));
            }
        }) else {
            return refused(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "cannot sign");
        };
        let kind = if login.key.is_some() { "DPoP" } else { "Bearer" };
        let mut answer = json!({"access_token": access, "token_type": kind, "expires_in": lifetime, "scope": "openid profile email"});
        if login.person.kind == PersonKind::Human {
            let id = json!({
                "iss": self.mint.issuer(), "sub": login.person.subject, "aud": login.client, "iat": now,
                "exp": now.saturating_add(lifetime), "nonce": login.nonce, "name": login.person.display,
                "email": login.person.email(), "groups": login.person.groups, "auth_time": now,
                "sid": login.session,
            });
            *answer.member_mut("id_token") = self.mint.sign(&id).map(Value::String).unwrap_or_default();
            if refreshable {
                let token = secret();
                *answer.member_mut("refresh_token") = json!(token);
                // Rotated on each use, as RFC 9700 asks of public clients.
                self.pending().refresh.insert(token, login);
            }
        }
        ([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
    }
}

/// `/.well-known/openid-configuration`.
pub async fn discovery(State(flows): State<Arc<Flows>>) -> Json<Value> {
    let issuer = flows.mint.issuer();
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "device_authorization_endpoint": format!("{issuer}/device_authorization"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/keys"),
        "end_session_endpoint": format!("{issuer}/logout"),
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_post", "client_secret_basic"],
        "scopes_supported": ["openid", "profile", "email", "groups", "offline_access"],
        "authorization_response_iss_parameter_supported": true,
        "acr_values_supported": ["c1", "c2", "c3"],
        "dpop_signing_alg_values_supported": ["ES256"],
    }))
}

/// The JWK set.
pub async fn keys(State(flows): State<Arc<Flows>>) -> Json<Value> {
    let keys: Vec<Value> = flows
        .mint
        .keys()
        .public()
        .into_iter()
        .map(|mut key| {
            *key.member_mut("alg") = json!("RS256");
            key
        })
        .collect();
    Json(json!({ "keys": keys }))
}

/// What an authorization request must be, before anybody is asked.
fn authorization_flaw(form: &Form) -> Option<&'static str> {
    let is = |name: &str, value: &str| form.get(name).is_some_and(|v| v == value);
    if !is("response_type", "code") {
        Some("response_type must be `code`")
    } else if form.get("client_id").is_none_or(String::is_empty) {
        Some("client_id is missing")
    } else if !form.get("redirect_uri").is_some_and(|u| is_loopback(u)) {
        Some("redirect_uri must be on this machine: http://127.0.0.1:PORT/..., [::1] or localhost")
    } else if !is("code_challenge_method", "S256") || form.get("code_challenge").is_none_or(|c| c.len() != 43)
    {
        Some("PKCE is demanded: code_challenge with code_challenge_method `S256`")
    } else {
        None
    }
}

fn is_loopback(uri: &str) -> bool {
    uri.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && matches!(uri.host(), Some("127.0.0.1" | "[::1]" | "localhost"))
            && uri.authority().is_some_and(|a| !a.as_str().contains('@'))
    })
}

/// `GET /authorize`: asks who is there.
pub async fn ask(Query(form): Query<Form>) -> Response {
    if let Some(flaw) = authorization_flaw(&form) {
        return (StatusCode::BAD_REQUEST, pages::say(flaw)).into_response();
    }
    let mut fields: Vec<(&str, &str)> = form.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    fields.retain(|(name, _)| *name != "person");
    pages::who("/authorize", &fields).into_response()
}

/// `POST /authorize`: the choice; sends the browser back with a code.
pub async fn choose(State(flows): State<Arc<Flows>>, body: Bytes) -> Response {
    let form = parsed(&body);
    if let Some(flaw) = authorization_flaw(&form) {
        return (StatusCode::BAD_REQUEST, pages::say(flaw)).into_response();
    }
    let Some(person) = human(&form) else {
        return (StatusCode::BAD_REQUEST, pages::say("nobody of that name can log in here")).into_response();
    };
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    let (code, redirect) = (secret(), field("redirect_uri"));
    let login = Login {
        person,
        client: field("client_id"),
        nonce: form.get("nonce").cloned(),
        session: uuid::Uuid::new_v4().to_string(),
        expires: flows.clock.now().plus(CODE_LIFE),
        // Whoever clicks has done what the first class asks for.
        class: form.get("acr_values").and_then(|all| all.split_whitespace().next()).map(str::to_owned),
        at: form.contains_key("max_age").then(|| flows.clock.now()),
        key: None,
    };
    let back = form_urlencoded::Serializer::new(String::new())
        .append_pair("code", &code)
        .append_pair("state", &field("state"))
        .append_pair("iss", &flows.mint.issuer())
        .finish();
    let challenge = field("code_challenge");
    flows.pending().codes.insert(code, Code { login, redirect: redirect.clone(), challenge });
    let separator = if redirect.contains('?') { '&' } else { '?' };
    Redirect::to(&format!("{redirect}{separator}{back}")).into_response()
}

/// `GET /logout` (OpenID Connect RP-Initiated Logout 1.0): nobody is logged in here for longer than a
/// page, so that there is nothing to end.
pub async fn log_out(Query(form): Query<Form>) -> Response {
    match form.get("post_logout_redirect_uri") {
        Some(back) if is_loopback(back) => Redirect::to(back).into_response(),
        Some(_) => (StatusCode::BAD_REQUEST, pages::say("post_logout_redirect_uri must be on this machine"))
            .into_response(),
        None => pages::say("You are logged out.").into_response(),
    }
}

/// `GET /userinfo` (OIDC Core 5.3): whose access token this is.
pub async fn userinfo(State(flows): State<Arc<Flows>>, headers: HeaderMap) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let Ok(mut claims) = jwt::verify(&flows.mint.keys(), token, flows.clock.now()) else {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    };
    claims.retain(|name, _| {
        ["sub", "name", "preferred_username", "email", "email_verified", "groups"].contains(&name.as_str())
    });
    Json(claims).into_response()
}

/// `POST /device_authorization` (RFC 8628 section 3.1).
pub async fn begin_device(State(flows): State<Arc<Flows>>, body: Bytes) -> Response {
    let form = parsed(&body);
    let Some(client) = form.get("client_id").cloned() else {
        return refused(StatusCode::BAD_REQUEST, "invalid_request", "client_id is missing");
    };
    let (device_code, raw) = (secret(), uuid::Uuid::new_v4().simple().to_string().to_uppercase());
    let user_code = format!("{}-{}", raw.get(..4).unwrap_or_default(), raw.get(4..8).unwrap_or_default());
    let issuer = flows.mint.issuer();
    let answer = json!({
        "device_code": device_code,
        "user_code": user_code,
        "verification_uri": format!("{issuer}/device"),
        "verification_uri_complete": format!("{issuer}/device?user_code={user_code}"),
        "expires_in": CODE_LIFE.as_secs(),
        "interval": 1,
    });
    let expires = flows.clock.now().plus(CODE_LIFE);
    flows.pending().devices.insert(device_code, Device { user_code, client, expires, person: None });
    Json(answer).into_response()
}

/// `GET /device`: asks for the code, then who is there.
pub async fn ask_device(Query(form): Query<Form>) -> Html<String> {
    match form.get("user_code") {
        None => pages::which_code(),
        Some(code) => pages::who("/device", &[("user_code", code)]),
    }
}

/// `POST /device`: the choice.
pub async fn choose_device(State(flows): State<Arc<Flows>>, body: Bytes) -> Response {
    let form = parsed(&body);
    let code = form.get("user_code").map(|c| c.trim().to_uppercase()).unwrap_or_default();
    let now = flows.clock.now();
    let mut pending = flows.pending();
    let device = pending.devices.values_mut().find(|d| d.user_code == code && now < d.expires);
    match (device, human(&form)) {
        (Some(device), Some(person)) => {
            device.person = Some(person);
            pages::say("Done. Go back to the other window.").into_response()
        }
        (None, _) => (StatusCode::BAD_REQUEST, pages::say("no such code, or it has expired")).into_response(),
        (_, None) => {
            (StatusCode::BAD_REQUEST, pages::say("nobody of that name can log in here")).into_response()
        }
    }
}

/// `POST /token`.
pub async fn token(State(flows): State<Arc<Flows>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut form = parsed(&body);
    if let Some((client, secret)) = basic(&headers) {
        form.insert("client_id".to_owned(), client);
        form.insert("client_secret".to_owned(), secret);
    }
    let now = flows.clock.now();
    let key = match proof::proven(&headers, &format!("{}/token", flows.mint.issuer()), now) {
        Ok(key) => key,
        Err(why) => return refused(StatusCode::BAD_REQUEST, "invalid_dpop_proof", why),
    };
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    match field("grant_type") {
        "authorization_code" => {
            // Taken before it is judged: a code is good for one try.
            let code = flows.pending().codes.remove(field("code"));
            let Some(code) = code.filter(|c| now < c.login.expires) else {
                return refused(
                    StatusCode::BAD_REQUEST,
                    "invalid_grant",
                    "the code is unknown, used or expired",
                );
            };
            if code.login.client != field("client_id") || code.redirect != field("redirect_uri") {
                return refused(
                    StatusCode::BAD_REQUEST,
                    "invalid_grant",
                    "client_id or redirect_uri differ from the request",
                );
            }
            if digest(field("code_verifier")) != code.challenge {
                return refused(StatusCode::BAD_REQUEST, "invalid_grant", "code_verifier does not fit");
            }
            flows.issue(Login { key, ..code.login }, true)
        }
        "urn:ietf:params:oauth:grant-type:device_code" => redeem_device(&flows, &form, key, now),
        "refresh_token" => {
            let login = flows.pending().refresh.remove(field("refresh_token"));
            match login {
                // RFC 9449, 5: a public client's refresh token is bound to the key too.
                Some(login) if login.client == field("client_id") && login.key == key => {
                    flows.issue(login, true)
                }
                Some(_) | None => refused(
                    StatusCode::BAD_REQUEST,
                    "invalid_grant",
                    "the refresh token is unknown, used, or bound to another key",
                ),
            }
        }
        "client_credentials" => {
            let machine = Person::named(field("client_id")).filter(|p| p.kind == PersonKind::Machine);
            match machine {
                Some(person) if person.client_secret() == field("client_secret") => {
                    let login = Login {
                        person,
                        client: person.name.to_owned(),
                        nonce: None,
                        session: String::new(),
                        expires: now,
                        class: None,
                        at: None,
                        key,
                    };
                    flows.issue(login, false)
                }
                Some(_) | None => {
                    refused(StatusCode::UNAUTHORIZED, "invalid_client", "unknown client or wrong secret")
                }
            }
        }
        _ => refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", "this grant is not served"),
    }
}

fn redeem_device(flows: &Flows, form: &Form, key: Option<String>, now: Timestamp) -> Response {
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let mut pending = flows.pending();
    let Some(device) = pending.devices.get(field("device_code")) else {
        return refused(StatusCode::BAD_REQUEST, "invalid_grant", "the device code is unknown or used");
    };
    if device.expires <= now {
        return refused(StatusCode::BAD_REQUEST, "expired_token", "the device code has expired");
    }
    if device.client != field("client_id") {
        return refused(StatusCode::BAD_REQUEST, "invalid_grant", "client_id differs from the request");
    }
    let Some(person) = device.person else {
        return refused(StatusCode::BAD_REQUEST, "authorization_pending", "nobody has logged in yet");
    };
    let login = Login {
        person,
        client: device.client.clone(),
        nonce: None,
        session: secret(),
        expires: device.expires,
        class: None,
        at: None,
        key,
    };
    pending.devices.remove(field("device_code"));
    drop(pending);
    flows.issue(login, true)
}

fn human(form: &Form) -> Option<&'static Person> {
    form.get("person").and_then(|name| Person::named(name)).filter(|p| p.kind == PersonKind::Human)
}

fn parsed(body: &[u8]) -> Form {
    form_urlencoded::parse(body).into_owned().collect()
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(value).ok()?;
    let (client, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((client.to_owned(), secret.to_owned()))
}

fn digest(verifier: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
}

fn secret() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

fn refused(status: StatusCode, error: &str, description: &str) -> Response {
    (status, Json(json!({"error": error, "error_description": description}))).into_response()
}
