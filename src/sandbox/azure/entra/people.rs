//! How people sign in to the simulated Entra: authorization code with PKCE for public clients, refresh
//! tokens, and the `claims` with which a challenge asks for another sign-in.
//!
//! The page asks for no password: whoever `login_hint` names is signed in, and without one the people
//! of the sandbox are offered. A sign-in is of the authentication contexts (`acrs`) that its request
//! demanded, as if the person had done what Conditional Access wants there. A refresh token renews
//! that sign-in and no better one: demanded more, it is refused with the claims to sign in with.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json,
    response::{Html, IntoResponse as _, Redirect, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use super::{Denied, field, required, tokens};
use crate::{
    sandbox::{
        PEOPLE, Person,
        azure::{Shared, SimulatedCloud, call::Call, names},
        members::Members as _,
        people::PersonKind,
    },
    time::Timestamp,
};

/// The public client that Azure's own tools sign people in with.
const AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
/// How long a code may be redeemed.
const CODE_LIFE: Duration = Duration::from_secs(300);
/// At most so many sign-ins are remembered.
const REMEMBERED: usize = 10_000;

/// Somebody who signed in.
#[derive(Debug, Clone)]
struct SignIn {
    person: &'static Person,
    client: String,
    at: Timestamp,
    contexts: Vec<String>,
}

#[derive(Debug)]
struct Code {
    sign_in: SignIn,
    redirect: String,
    challenge: String,
    scope: String,
    nonce: Option<String>,
}

/// The sign-ins that can still be redeemed or renewed.
#[derive(Debug, Default)]
pub struct SignIns {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    codes: HashMap<String, Code>,
    refresh: HashMap<String, SignIn>,
}

impl SignIns {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `GET /{tenant}/oauth2/v2.0/authorize`.
pub fn authorize(shared: &Shared, call: &Call) -> Response {
    let asked = |name: &str| call.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    let flaw = if asked("response_type") != Some("code") {
        Some("AADSTS700054: response_type is not `code`")
    } else if asked("client_id") != Some(AZURE_CLI) {
        Some("AADSTS700016: the application was not found in the directory")
    } else if !asked("redirect_uri").is_some_and(is_loopback) {
        Some("AADSTS50011: a public client is sent back to this machine only")
    } else if asked("code_challenge_method") != Some("S256") || asked("code_challenge").is_none() {
        Some("AADSTS9002325: proof key for code exchange is required")
    } else {
        None
    };
    if let Some(flaw) = flaw {
        return (StatusCode::BAD_REQUEST, flaw).into_response();
    }
    let hinted = asked("login_hint").and_then(|hint| {
        PEOPLE.iter().find(|p| p.kind == PersonKind::Human && (p.email() == hint || p.object_id == hint))
    });
    let Some(person) = hinted else { return Html(offered(call)).into_response() };
    let sign_in = SignIn {
        person,
        client: AZURE_CLI.to_owned(),
        at: shared.clock.now(),
        contexts: asked("claims").map(demanded).unwrap_or_default(),
    };
    let text = |name: &str| asked(name).unwrap_or_default().to_owned();
    let (code, redirect) = (secret(), text("redirect_uri"));
    let waiting = Code {
        sign_in,
        redirect: redirect.clone(),
        challenge: text("code_challenge"),
        scope: text("scope"),
        nonce: asked("nonce").map(str::to_owned),
    };
    let mut known = shared.sign_ins.known();
    if known.codes.len() < REMEMBERED {
        known.codes.insert(code.clone(), waiting);
    }
    drop(known);
    let fields = [("code", code), ("state", text("state"))];
    if asked("response_mode") == Some("form_post") {
        return Html(posted(&redirect, &fields)).into_response();
    }
    let back = form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
    let separator = if redirect.contains('?') { '&' } else { '?' };
    Redirect::to(&format!("{redirect}{separator}{back}")).into_response()
}

/// A page that sends itself on (OAuth 2.0 Form Post Response Mode).
fn posted(redirect: &str, fields: &[(&str, String)]) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let inputs: String = fields
        .iter()
        .map(|(name, value)| {
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">\n", escaped(value))
        })
        .collect();
    format!(
        "<!doctype html>\n<title>Working...</title>\n<body onload=\"document.forms[0].submit()\">\n\
         <form method=\"post\" action=\"{}\">\n{inputs}<button>Go on</button></form></body>\n",
        escaped(redirect)
    )
}

fn is_loopback(uri: &str) -> bool {
    uri.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str() == Some("http") && matches!(uri.host(), Some("127.0.0.1" | "localhost"))
    })
}

/// A page with a link for each person.
fn offered(call: &Call) -> String {
    let people = PEOPLE.iter().filter(|p| p.kind == PersonKind::Human);
    let links: String = people
        .map(|p| {
            let target = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(call.query.iter().filter(|(k, _)| k != "login_hint"))
                .append_pair("login_hint", &p.email())
                .finish();
            format!("<p><a href=\"{}?{}\">{}</a></p>\n", call.path, target.replace('&', "&amp;"), p.display)
        })
        .collect();
    format!("<!doctype html>\n<title>Pick an account</title>\n<h1>Pick an account</h1>\n{links}")
}

/// The authentication contexts that a claims request demands of the access token.
fn demanded(claims: &str) -> Vec<String> {
    let asked: Value = serde_json::from_str(claims).unwrap_or_default();
    let acrs = asked.member("access_token").member("acrs");
    let several = acrs.member("values").as_array().into_iter().flatten();
    several
        .chain(std::iter::once(acrs.member("value")))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// `POST /{tenant}/oauth2/v2.0/token` with a code or a refresh token.
///
/// # Errors
/// As Entra refuses; `interaction_required` with the claims of a better sign-in where one is demanded.
pub fn redeem(shared: &Shared, call: &Call, form: &[(String, String)]) -> Result<Response, Denied> {
    let invalid = |code: u32, text: &str| Denied::new("invalid_grant", code, text);
    let (mut nonce, mut form) = (None, form.to_vec());
    let sign_in = if required(&form, "grant_type")? == "authorization_code" {
        // Taken before it is judged: a code is good for one try.
        let code = shared.sign_ins.known().codes.remove(required(&form, "code")?);
        let code =
            code.filter(|code| shared.clock.now() < code.sign_in.at.plus(CODE_LIFE)).ok_or_else(|| {
                invalid(54_005, "OAuth2 Authorization code was already redeemed or has expired.")
            })?;
        if code.redirect != required(&form, "redirect_uri")? {
            return Err(invalid(50_011, "The redirect URI differs from that of the authorization request."));
        }
        if digest(required(&form, "code_verifier")?) != code.challenge {
            return Err(invalid(501_481, "The Code_Verifier does not match the code_challenge."));
        }
        nonce = code.nonce;
        // Clients need not say again what the code is for.
        if field(&form, "scope").is_none() {
            form.push(("scope".to_owned(), code.scope));
        }
        code.sign_in
    } else {
        let token = required(&form, "refresh_token")?;
        let known = shared.sign_ins.known().refresh.get(token).cloned();
        known.ok_or_else(|| {
            invalid(9_002_313, "Invalid request. The refresh token is malformed or unknown.")
        })?
    };
    if required(&form, "client_id")? != sign_in.client {
        return Err(invalid(70_000, "The grant was issued to another client."));
    }
    let wanted = field(&form, "claims").map(demanded).unwrap_or_default();
    let lacking: Vec<&String> = wanted.iter().filter(|one| !sign_in.contexts.contains(one)).collect();
    if let Some(first) = lacking.first() {
        let mut denied = Denied::new(
            "interaction_required",
            50_076,
            "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access the resource.",
        );
        denied.claims =
            Some(json!({"access_token": {"acrs": {"essential": true, "value": first}}}).to_string());
        return Err(denied);
    }
    answer(shared, call, &form, sign_in, nonce)
}

fn answer(
    shared: &Shared,
    call: &Call,
    form: &[(String, String)],
    sign_in: SignIn,
    nonce: Option<String>,
) -> Result<Response, Denied> {
    let failed = || Denied::new("server_error", 90_033, "A transient error has occurred. Please try again.");
    let now = shared.clock.now();
    let claims =
        tokens::signed_in(shared, sign_in.person, (&sign_in.client, sign_in.at), &sign_in.contexts, form)?;
    let life = claims.get("exp").and_then(Value::as_u64).unwrap_or_default().saturating_sub(now.as_secs());
    let access = shared.sign(&Value::Object(claims)).map_err(|_| failed())?;
    let id = identity(&SimulatedCloud::of(&call.host).issuer_v2(names::TENANT), &sign_in, nonce, now);
    let id = shared.sign(&Value::Object(id)).map_err(|_| failed())?;
    let info = json!({"uid": sign_in.person.object_id, "utid": names::TENANT});
    let refresh = secret();
    let body = json!({
        "token_type": "Bearer",
        "scope": field(form, "scope").unwrap_or_default(),
        "expires_in": life,
        "ext_expires_in": life,
        "access_token": access,
        "refresh_token": refresh,
        "id_token": id,
        "client_info": URL_SAFE_NO_PAD.encode(info.to_string()),
    });
    let mut known = shared.sign_ins.known();
    if known.refresh.len() < REMEMBERED
        && let Entry::Vacant(place) = known.refresh.entry(refresh)
    {
        place.insert(sign_in);
    }
    drop(known);
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

/// The claims of an ID token.
fn identity(issuer: &str, sign_in: &SignIn, nonce: Option<String>, now: Timestamp) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("iss", json!(issuer));
    put("aud", json!(sign_in.client));
    put("sub", json!(format!("pairwise-{}-client", sign_in.person.name)));
    put("oid", json!(sign_in.person.object_id));
    put("tid", json!(names::TENANT));
    put("ver", json!("2.0"));
    put("iat", json!(now.as_secs()));
    put("nbf", json!(now.as_secs()));
    put("exp", json!(now.plus(Duration::from_secs(3_600)).as_secs()));
    put("name", json!(sign_in.person.display));
    put("preferred_username", json!(sign_in.person.email()));
    if let Some(nonce) = nonce {
        put("nonce", json!(nonce));
    }
    claims
}

fn digest(verifier: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

fn secret() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}
