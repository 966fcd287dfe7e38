//! Browsers sign in and out: `/sign-in`, `/callback`, `/sign-out`, `/back-channel-logout`.
//!
//! Two cookies, both `__Host-`, `Secure` and `HttpOnly`: the session's, and for ten minutes the
//! sign-in's under way. What changes something is a POST, and a POST that a foreign page sent is
//! refused before it comes here (the CSRF layer of [`super::api::router`]). A browser is sent to paths
//! of this listener and to pages of the issuer, nowhere else.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension, Router,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use http_body_util::{BodyExt as _, Limited};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{
    Mount,
    api::{Api, Peer},
};
use crate::{
    audit::event::Event,
    http::RESERVED,
    identity::sessions::{SessionError, Sessions},
};

/// The session's cookie.
pub(super) const SESSION: &str = "__Host-amlgate";
/// The cookie of a sign-in under way.
const PENDING: &str = "__Host-amlgate-sign-in";
/// The longest logout token in its form, in bytes.
const MAX_FORM: usize = 96 << 10;
/// The longest path to return to, in bytes.
const MAX_PATH: usize = 1_024;

/// The pages of signing in and out.
pub(super) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/sign-in", get(begin))
        .route("/callback", get(complete))
        .route("/sign-out", post(end))
        .route("/signed-out", get(|| async { page(StatusCode::OK, "You are signed out.") }))
        .route("/back-channel-logout", post(logged_out))
        .with_state(api)
}

/// The session that a browser brings.
///
/// # Errors
/// If it brings more than one: somebody else put one there.
pub(super) fn session(headers: &HeaderMap) -> Result<Option<&str>, Several> {
    cookie(headers, SESSION)
}

/// More than one cookie of a name.
#[derive(Debug)]
pub(super) struct Several;

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Several> {
    let mut found = None;
    for line in headers.get_all(header::COOKIE) {
        // A line that is no text holds none of ours, and none that could be told apart from ours.
        let line = line.to_str().map_err(|_| Several)?;
        for pair in line.split(';') {
            let Some((key, value)) = pair.trim().split_once('=') else { continue };
            if key == name && found.replace(value).is_some() {
                return Err(Several);
            }
        }
    }
    Ok(found)
}

async fn begin(
    State(api): State<Arc<Api>>,
    Extension(mount): Extension<Arc<Mount>>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(sessions) = api.sessions.load_full() else { return unconfigured() };
    let wanted = field(query.as_deref(), "return_to").unwrap_or_else(|| format!("{}/", mount.base));
    if !is_own_path(&wanted) || !mount.holds(&wanted) {
        return page(StatusCode::BAD_REQUEST, "`return_to` is a path of this site.");
    }
    if let Some(url) = &mount.signs_in_at {
        // The issuer sends browsers back there, to the cookie that was set there.
        let to = format!("{RESERVED}{wanted}");
        let to = form_urlencoded::Serializer::new(String::new()).append_pair("return_to", &to).finish();
        return see_other(&format!("{url}/sign-in?{to}"));
    }
    match sessions.begin(&wanted).await {
        Ok(begun) => {
            let mut response = see_other(&begun.page);
            let cookie =
                format!("{PENDING}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600", begun.pending);
            set(&mut response, &cookie);
            response
        }
        Err(error) => failed(&error),
    }
}

async fn complete(
    State(api): State<Arc<Api>>,
    Extension(Peer(peer)): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Some(sessions) = api.sessions.load_full() else { return unconfigured() };
    let mut response = match landed(&api, &sessions, peer.ip(), query.as_deref(), &headers).await {
        Ok(response) => response,
        Err(error) => {
            let (caller, refused) = (None, Some(reason(&error)));
            let event =
                Event::SignedIn { caller, issuer: sessions.name().to_owned(), peer: peer.ip(), refused };
            // A sign-in that went wrong in the browser that began it: others are counted, not written.
            if matches!(error, SessionError::State) || api.journal.happened(&event).await.is_err() {
                api.journal.refused(peer.ip(), reason(&error));
            }
            failed(&error)
        }
    };
    // Whatever came of it, it is over.
    set(&mut response, &format!("{PENDING}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"));
    response
}

async fn landed(
    api: &Api,
    sessions: &Sessions,
    peer: IpAddr,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response, SessionError> {
    let pending = cookie(headers, PENDING).ok().flatten().ok_or(SessionError::State)?;
    let state = field(query, "state").ok_or(SessionError::State)?;
    // RFC 9207: an answer of another issuer would be redeemed at this one.
    if field(query, "iss").is_some_and(|iss| iss != sessions.issuer()) {
        return Err(SessionError::State);
    }
    let Some(code) = field(query, "code") else {
        // Nobody is signed in, whoever says why: the issuer's words are for its own pages.
        return Ok(page(StatusCode::FORBIDDEN, "The issuer did not sign you in. Try again."));
    };
    // A browser with two sessions keeps neither.
    let before = session(headers).ok().flatten();
    let signed_in = sessions.complete(pending, &state, &code, before).await?;
    let event = Event::SignedIn {
        caller: Some(signed_in.principal.id.to_string()),
        issuer: sessions.name().to_owned(),
        peer,
        refused: None,
    };
    if api.journal.happened(&event).await.is_err() {
        // Not recorded, not signed in.
        sessions.end(signed_in.secret.expose_secret()).await?;
        return Ok(page(StatusCode::SERVICE_UNAVAILABLE, "The record cannot be kept now. Try again."));
    }
    let mut response = see_other(&signed_in.return_to);
    let secret = signed_in.secret.expose_secret();
    let age = sessions.max_age().as_secs();
    set(&mut response, &format!("{SESSION}={secret}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={age}"));
    Ok(response)
}

async fn end(
    State(api): State<Arc<Api>>,
    Extension(mount): Extension<Arc<Mount>>,
    headers: HeaderMap,
) -> Response {
    let Some(sessions) = api.sessions.load_full() else { return unconfigured() };
    let mut to = format!("{}/signed-out", mount.base);
    if let Ok(Some(secret)) = session(&headers) {
        match sessions.end(secret).await {
            Err(error) => return failed(&error),
            Ok(None) => {}
            Ok(Some(ended)) => {
                told(&api, &sessions, ended.caller).await;
                to = ended.page.unwrap_or(to);
            }
        }
    }
    let mut response = see_other(&to);
    set(&mut response, &format!("{SESSION}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"));
    response
}

/// The issuer says that sessions have ended (OpenID Connect Back-Channel Logout 1.0, 2.8).
async fn logged_out(
    State(api): State<Arc<Api>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Response {
    let Some(sessions) = api.sessions.load_full() else { return unconfigured() };
    let body = Limited::new(request.into_body(), MAX_FORM).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut tokens = form_urlencoded::parse(&body).filter(|(name, _)| name == "logout_token");
    let answer = match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => sessions.logged_out(&token).await,
        _ => Err(SessionError::State),
    };
    let mut response = match answer {
        Ok(ended) => {
            for caller in ended {
                told(&api, &sessions, caller).await;
            }
            StatusCode::OK.into_response()
        }
        Err(error) => {
            api.journal.refused(peer.ip(), reason(&error));
            let status = status(&error);
            let status = if status.is_server_error() { status } else { StatusCode::BAD_REQUEST };
            (status, axum::Json(json!({"error": "invalid_request"}))).into_response()
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A session has ended whether or not that can be recorded: the journal is loud about itself.
async fn told(api: &Api, sessions: &Sessions, caller: String) {
    let event = Event::SignedOut { caller, issuer: sessions.name().to_owned() };
    if api.journal.happened(&event).await.is_err() {
        tracing::error!(?event, "a sign-out could not be recorded");
    }
}

/// A path of this listener that a browser reads as one, however it spells: no authority (`//`, `/\`),
/// no scheme, nothing encoded.
pub(super) fn is_own_path(path: &str) -> bool {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let plain = |extra: &'static str| {
        move |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c) || extra.contains(c)
    };
    path.starts_with('/')
        && !path.contains("//")
        && path.len() + query.len() <= MAX_PATH
        && path.chars().all(plain(""))
        && query.chars().all(plain("=&+%:,"))
        && !path.split('/').any(|segment| segment == "." || segment == "..")
}

/// A parameter, if it is there once.
fn field(query: Option<&str>, name: &str) -> Option<String> {
    let mut all = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).filter(|(n, _)| n == name);
    let first = all.next()?.1.into_owned();
    all.next().is_none().then_some(first)
}

fn see_other(to: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    closed(response)
}

fn page(status: StatusCode, text: &'static str) -> Response {
    closed((status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// Kept by nobody, shown in no frame, and telling no other site where it came from.
fn closed(mut response: Response) -> Response {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn set(response: &mut Response, cookie: &str) {
    if let Ok(mut cookie) = HeaderValue::from_str(cookie) {
        cookie.set_sensitive(true);
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

fn unconfigured() -> Response {
    page(StatusCode::NOT_FOUND, "Nobody signs in here: the configuration has no `listen.admin.sign_in`.")
}

pub(super) fn status(error: &SessionError) -> StatusCode {
    match error {
        SessionError::State => StatusCode::BAD_REQUEST,
        SessionError::Issuer(error) if error.is_final() => StatusCode::FORBIDDEN,
        SessionError::Issuer(_) => StatusCode::BAD_GATEWAY,
        SessionError::NotAccepted(why) if why.is_outage() => StatusCode::SERVICE_UNAVAILABLE,
        SessionError::NotAccepted(_) => StatusCode::FORBIDDEN,
        SessionError::Ended => StatusCode::UNAUTHORIZED,
        SessionError::Unknown | SessionError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        SessionError::Broken => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// For the record.
pub(super) const fn reason(error: &SessionError) -> &'static str {
    match error {
        SessionError::State => "sign_in_state",
        SessionError::Issuer(_) => "sign_in_issuer",
        SessionError::NotAccepted(_) => "sign_in_token",
        SessionError::Ended => "session_ended",
        SessionError::Unknown | SessionError::Store(_) => "sessions_unknown",
        SessionError::Broken => "session_broken",
    }
}

fn failed(error: &SessionError) -> Response {
    tracing::info!(%error, "nobody is signed in");
    let text = match error {
        SessionError::State => {
            "This is not the sign-in that was begun in this browser, or it took too long. Try again."
        }
        SessionError::Issuer(_) => "The issuer did not sign you in. Try again.",
        SessionError::NotAccepted(_) => {
            "You are signed in at the issuer, but its token is not accepted here."
        }
        SessionError::Ended => "The session has ended. Sign in again.",
        SessionError::Unknown | SessionError::Store(_) => "Sessions cannot be read now. Try again.",
        SessionError::Broken => "Something is wrong with the gate.",
    };
    page(status(error), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_sent_to_paths_of_this_listener_only() {
        for path in ["/", "/requests/42", "/audit?from=2026-11-30&who=corp:ada", "/a.b/c_d~e"] {
            assert!(is_own_path(path), "{path}");
        }
        for path in [
            "",
            "a",
            "//evil.example",
            "/\\evil.example",
            "/\tevil",
            "/ /evil",
            "https://evil.example",
            "/a//b",
            "/%2f/evil.example",
            "/%5cevil",
            "/a/../../b",
            "/.//evil.example",
            "javascript:alert(1)",
            "/a#b",
            "/\u{2215}evil",
            "/a@evil.example",
            "/a?b=//evil\\",
            "/a?\r\nx: y",
        ] {
            assert!(!is_own_path(path), "{path:?}");
        }
        assert!(!is_own_path(&format!("/{}", "a".repeat(MAX_PATH))));
    }

    #[test]
    fn a_cookie_counts_if_it_is_there_once() {
        let headers = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, line.parse().unwrap());
            }
            headers
        };
        let found = headers(&["a=b; __Host-amlgate=s; __Host-amlgate-sign-in=p"]);
        assert_eq!(session(&found).unwrap(), Some("s"));
        assert_eq!(session(&headers(&["a=b", "amlgate=s"])).unwrap(), None);
        assert!(session(&headers(&["__Host-amlgate=s; __Host-amlgate=t"])).is_err());
        assert!(session(&headers(&["__Host-amlgate=s", "__Host-amlgate=s"])).is_err());
    }

    #[test]
    fn a_parameter_counts_if_it_is_there_once() {
        assert_eq!(field(Some("a=1&b=2"), "b").as_deref(), Some("2"));
        assert_eq!(field(Some("a=1&a=2"), "a"), None);
        assert_eq!(field(None, "a"), None);
    }
}
