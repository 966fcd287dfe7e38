//! Signing a person in (OpenID Connect Core; RFC 8252 for programs without a web server, RFC 7636,
//! RFC 8628) and renewing what was had.

use std::{
    convert::Infallible,
    future::ready,
    io,
    net::Ipv4Addr,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use openidconnect::{
    AdditionalProviderMetadata, AsyncHttpClient, AuthenticationFlow, AuthorizationCode, ClientId, CsrfToken,
    DeviceAuthorizationUrl, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse,
    IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, ProviderMetadata, RedirectUrl,
    RefreshToken, RequestTokenError, Scope,
    core::{
        CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClient, CoreClientAuthMethod,
        CoreDeviceAuthorizationResponse, CoreGrantType, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
        CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType, CoreSubjectIdentifierType,
        CoreTokenResponse,
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::timeout};

use super::{ALGORITHM, Key, Session, Shown, Tokens, gate::destination};
use crate::{
    net::{Connector, FetchError, FetchLimits, Trust, TrustError},
    time::{Clock as _, SystemClock, Timestamp},
};

/// How long a token lives whose issuer does not say.
const SHORT: Duration = Duration::from_secs(300);
/// The longest head of a request with which a browser comes back, in bytes.
const MAX_CALLBACK: usize = 64 << 10;
/// How long the last page may take to reach the browser.
const LAST_PAGE: Duration = Duration::from_millis(500);

/// Entra, Keycloak, Okta and dex say this beside what OpenID Connect demands.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Devices {
    device_authorization_endpoint: Option<DeviceAuthorizationUrl>,
    /// RFC 9449, 5.1: that it binds tokens to keys.
    dpop_signing_alg_values_supported: Option<Vec<String>>,
}

impl AdditionalProviderMetadata for Devices {}

type Metadata = ProviderMetadata<
    Devices,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The issuer's URL.
    #[error("`{0}` is no issuer that can be signed in to")]
    Issuer(String),
    /// Roots of TLS.
    #[error("the authorities to believe cannot be used")]
    Trust(#[from] TrustError),
    /// The issuer does not answer.
    #[error("the issuer does not answer")]
    Unreachable(#[from] FetchError),
    /// The issuer's discovery document.
    #[error("the issuer `{issuer}` does not say how to sign in: {why}")]
    Discovery {
        /// Who.
        issuer: String,
        /// Why.
        why: String,
    },
    /// The issuer refused.
    #[error("the issuer refuses: {0}")]
    Refused(String),
    /// The issuer cannot do this.
    #[error("the issuer `{0}` has no sign-in by device code; leave --device-code out")]
    NoDevices(String),
    /// The answer is not one.
    #[error("the issuer's answer cannot be read: {0}")]
    Unreadable(String),
    /// The browser came back with something else than it was sent for.
    #[error("the browser came back with another sign-in than was begun here: try again")]
    State,
    /// The ID token is not for this sign-in.
    #[error("the issuer's ID token is not of this sign-in: {0}")]
    IdToken(String),
    /// No port.
    #[error("cannot listen on this machine's loopback for the browser to come back")]
    Listen(#[source] io::Error),
}

impl SignInError {
    /// Whether asking again can change nothing.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// Signs people in.
#[derive(Debug, Clone)]
pub struct SignIn {
    connector: Connector,
    key: Option<Arc<Key>>,
}

/// Whom to sign in where.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The issuer's URL.
    pub issuer: &'a str,
    /// The public client.
    pub client_id: &'a str,
    /// What to ask for.
    pub scopes: &'a [String],
    /// Authorities to believe besides the system's, PEM.
    pub trust: Option<&'a str>,
}

impl Session {
    fn at(&self) -> At<'_> {
        At {
            issuer: &self.issuer,
            client_id: &self.client_id,
            scopes: &self.scopes,
            trust: self.trust.as_deref(),
        }
    }
}

impl SignIn {
    /// Over `connector`.
    #[must_use]
    pub const fn new(connector: Connector) -> Self {
        Self { connector, key: None }
    }

    /// Its tokens are bound to this key, where the issuer can do that.
    #[must_use]
    pub fn holding(mut self, key: Arc<Key>) -> Self {
        self.key = Some(key);
        self
    }

    /// Signs in with a browser: `open` is given the page to show. The browser comes back to a port of
    /// this machine's loopback.
    ///
    /// # Errors
    /// [`SignInError`].
    pub async fn with_browser(
        &self,
        at: At<'_>,
        now: impl Fn() -> Timestamp,
        open: impl FnOnce(&str),
    ) -> Result<Tokens, SignInError> {
        let asking = self.asking(at)?;
        let (client, _) = asking.client(at).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(SignInError::Listen)?;
        let port = listener.local_addr().map_err(SignInError::Listen)?.port();
        // Entra lets the port of `localhost` be any; RFC 8252, 7.3 demands it of 127.0.0.1.
        let back = RedirectUrl::new(format!("http://localhost:{port}/"));
        let client = client.set_redirect_uri(back.map_err(|e| SignInError::Issuer(e.to_string()))?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, state, nonce) = client
            .authorize_url(
                AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .add_scopes(at.scopes.iter().filter(|s| *s != "openid").cloned().map(Scope::new))
            .set_pkce_challenge(challenge)
            .url();
        open(url.as_str());
        let code = came_back(&listener, state.secret()).await?;
        let answer = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|e| SignInError::Issuer(e.to_string()))?
            .set_pkce_verifier(verifier)
            .request_async(&asking)
            .await
            .map_err(|error| asking.read(error))?;
        if let Some(token) = openidconnect::TokenResponse::id_token(&answer) {
            token
                .claims(&client.id_token_verifier(), &nonce)
                .map_err(|error| SignInError::IdToken(error.to_string()))?;
        }
        Ok(tokens(&answer, now()))
    }

    /// Signs in where there is no browser: `show` is given the page to open elsewhere and the code to
    /// type there.
    ///
    /// # Errors
    /// [`SignInError`].
    pub async fn with_device_code(
        &self,
        at: At<'_>,
        now: impl Fn() -> Timestamp,
        show: impl FnOnce(&str, &str),
    ) -> Result<Tokens, SignInError> {
        let asking = self.asking(at)?;
        let (client, devices) = asking.client(at).await?;
        let Some(endpoint) = devices.device_authorization_endpoint else {
            return Err(SignInError::NoDevices(at.issuer.to_owned()));
        };
        let client = client.set_device_authorization_url(endpoint);
        let details: CoreDeviceAuthorizationResponse = client
            .exchange_device_code()
            .add_scopes(at.scopes.iter().filter(|s| *s != "openid").cloned().map(Scope::new))
            .request_async(&asking)
            .await
            .map_err(|error| asking.read(error))?;
        show(details.verification_uri(), details.user_code().secret());
        let answer = client
            .exchange_device_access_token(&details)
            .map_err(|e| SignInError::Issuer(e.to_string()))?
            .request_async(&asking, tokio::time::sleep, None)
            .await
            .map_err(|error| asking.read(error))?;
        Ok(tokens(&answer, now()))
    }

    /// A new token for a refresh token.
    ///
    /// # Errors
    /// [`SignInError`]; final if the issuer takes the refresh token no longer.
    pub(super) async fn refresh(
        &self,
        session: &Session,
        refresh: &SecretString,
        now: Timestamp,
    ) -> Result<Tokens, SignInError> {
        let at = session.at();
        let asking = self.asking(at)?;
        let (client, _) = asking.client(at).await?;
        let token = RefreshToken::new(refresh.expose_secret().to_owned());
        let answer = client
            .exchange_refresh_token(&token)
            .map_err(|e| SignInError::Issuer(e.to_string()))?
            .add_scopes(at.scopes.iter().cloned().map(Scope::new))
            .request_async(&asking)
            .await
            .map_err(|error| asking.read(error))?;
        let mut tokens = tokens(&answer, now);
        // An issuer that does not rotate means the old one to be used again (RFC 6749, 6).
        tokens.refresh = tokens.refresh.or_else(|| Some(refresh.clone()));
        Ok(tokens)
    }

    fn asking(&self, at: At<'_>) -> Result<Asking<'_>, SignInError> {
        let trust = at.trust.map(|pem| Trust::new(Some(pem.as_bytes()))).transpose()?;
        let key = self.key.clone();
        Ok(Asking {
            connector: &self.connector,
            trust,
            key,
            proving: OnceLock::new(),
            failed: Mutex::default(),
        })
    }
}

/// One sign-in's conversation with its issuer.
struct Asking<'c> {
    connector: &'c Connector,
    trust: Option<Trust>,
    key: Option<Arc<Key>>,
    /// The token endpoint, if it takes proofs.
    proving: OnceLock<String>,
    /// Why the last request had no answer: the library's own error cannot say.
    failed: Mutex<Option<SignInError>>,
}

impl Asking<'_> {
    async fn client(&self, at: At<'_>) -> Result<(Client, Devices), SignInError> {
        let issuer =
            IssuerUrl::new(at.issuer.to_owned()).map_err(|_| SignInError::Issuer(at.issuer.to_owned()))?;
        let metadata = Metadata::discover_async(issuer, self).await;
        let metadata = metadata.map_err(|error| {
            self.why().unwrap_or_else(|| SignInError::Discovery {
                issuer: at.issuer.to_owned(),
                why: error.to_string(),
            })
        })?;
        let devices = metadata.additional_metadata().clone();
        let known = devices.dpop_signing_alg_values_supported.iter().flatten().any(|name| name == ALGORITHM);
        if let Some(endpoint) = metadata.token_endpoint().filter(|_| known) {
            // Set once: each conversation discovers once.
            self.proving.get_or_init(|| endpoint.url().to_string());
        }
        Ok((
            CoreClient::from_provider_metadata(metadata, ClientId::new(at.client_id.to_owned()), None),
            devices,
        ))
    }

    /// Redirects are answers like others: a token endpoint that moves is not followed.
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, Unanswered> {
        let request = request.map(Bytes::from);
        let Some(to) = destination(request.uri(), self.trust.clone()) else {
            return Err(self.fail(SignInError::Issuer(request.uri().to_string())));
        };
        let mut nonce = None;
        loop {
            let mut asked = request.clone();
            let proves = self.prove(&mut asked, nonce.as_deref())?;
            let answer = match self.connector.send(&to, asked, FetchLimits::default()).await {
                Ok(answer) => answer.map(|body| body.to_vec()),
                Err(error) => return Err(self.fail(error.into())),
            };
            // RFC 9449, 8: an issuer may want its own word in the proof.
            let wanted = answer.headers().get("dpop-nonce").and_then(|value| value.to_str().ok());
            let asks = answer.body().windows(14).any(|part| part == b"use_dpop_nonce");
            let again = proves && asks && nonce.is_none();
            match wanted.filter(|_| again).map(str::to_owned) {
                Some(word) => nonce = Some(word),
                None => return Ok(answer),
            }
        }
    }

    /// Adds a proof of the key to what is asked of a token endpoint that takes them.
    fn prove(&self, request: &mut Request<Bytes>, nonce: Option<&str>) -> Result<bool, Unanswered> {
        let (Some(key), Some(endpoint)) = (&self.key, self.proving.get()) else { return Ok(false) };
        if request.uri().to_string() != *endpoint {
            return Ok(false);
        }
        let shown = Shown { method: request.method().as_str(), url: endpoint, token: None, nonce };
        // Proofs are of now, whatever a test's clock says of tokens.
        let proof = key
            .proof(&shown, SystemClock.now())
            .map_err(|error| self.fail(SignInError::Unreadable(error.to_string())))?;
        request.headers_mut().insert("dpop", proof);
        Ok(true)
    }

    fn fail(&self, error: SignInError) -> Unanswered {
        *self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
        Unanswered
    }

    fn why(&self) -> Option<SignInError> {
        self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    fn read<E: std::error::Error + 'static, R: openidconnect::ErrorResponse + 'static>(
        &self,
        error: RequestTokenError<E, R>,
    ) -> SignInError {
        match error {
            RequestTokenError::ServerResponse(response) => SignInError::Refused(response.to_string()),
            RequestTokenError::Request(_) => {
                self.why().unwrap_or_else(|| SignInError::Unreadable("it did not come".to_owned()))
            }
            RequestTokenError::Parse(why, _) => SignInError::Unreadable(why.to_string()),
            RequestTokenError::Other(why) => SignInError::Refused(why),
        }
    }
}

impl<'c> AsyncHttpClient<'c> for Asking<'_> {
    type Error = Unanswered;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Unanswered>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.fetch(request))
    }
}

/// Stands for the error that [`Asking`] keeps.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct Unanswered;

fn tokens(answer: &CoreTokenResponse, now: Timestamp) -> Tokens {
    let refresh = answer.refresh_token().map(|t| SecretString::from(t.secret().to_owned()));
    Tokens {
        access: SecretString::from(answer.access_token().secret().to_owned()),
        refresh,
        expires: now.plus(answer.expires_in().unwrap_or(SHORT)).as_secs(),
        bound: answer.token_type().as_ref().eq_ignore_ascii_case("dpop"),
    }
}

/// Waits for the browser to come back with a code. Browsers open connections that they may never use,
/// and ask for icons: each connection is served beside the others until one brings an answer.
async fn came_back(listener: &TcpListener, state: &str) -> Result<String, SignInError> {
    let (found, mut answers) = mpsc::channel(1);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.map_err(SignInError::Listen)?;
                let (found, state) = (found.clone(), state.to_owned());
                connections.spawn(async move {
                    let page = service_fn(|request: Request<Incoming>| {
                        let answer = landed(request.uri().query().unwrap_or_default(), &state);
                        let page = said(answer.as_ref());
                        if let Some(answer) = answer {
                            // The first answer is the one; there is no room for another.
                            drop(found.try_send(answer));
                        }
                        ready(Ok::<_, Infallible>(page))
                    });
                    let mut server = http1::Builder::new();
                    server.keep_alive(false).max_buf_size(MAX_CALLBACK);
                    server.serve_connection(TokioIo::new(stream), page).await
                });
            }
            Some(answer) = answers.recv() => {
                // The page is on its way to the browser; whoever sent nothing is not waited for.
                while let Ok(Some(_)) = timeout(LAST_PAGE, connections.join_next()).await {}
                return answer;
            }
        }
    }
}

/// What a browser brings: a code, the issuer's refusal, or nothing of either.
fn landed(query: &str, state: &str) -> Option<Result<String, SignInError>> {
    let field = |name: &str| {
        form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n == name).map(|(_, v)| v.into_owned())
    };
    let ours = field("state").as_deref() == Some(state);
    match (field("code"), field("error")) {
        (None, None) => None,
        _ if !ours => Some(Err(SignInError::State)),
        (_, Some(error)) => {
            let more = field("error_description").map(|d| format!(": {d}")).unwrap_or_default();
            Some(Err(SignInError::Refused(format!("{error}{more}"))))
        }
        (Some(code), None) => Some(Ok(code)),
    }
}

fn said(answer: Option<&Result<String, SignInError>>) -> Response<Full<Bytes>> {
    let (status, text) = match answer {
        None => (StatusCode::NOT_FOUND, "There is nothing here."),
        Some(Ok(_)) => (StatusCode::OK, "You are signed in. This window can be closed."),
        Some(Err(_)) => (StatusCode::OK, "You are not signed in; the terminal says why."),
    };
    let mut page = Response::new(Full::from(text));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    page
}

#[cfg(test)]
mod tests_of_landing {
    use super::*;

    #[test]
    fn a_browser_brings_the_code_of_this_sign_in_or_nothing() {
        assert!(matches!(landed("code=c&state=s", "s"), Some(Ok(code)) if code == "c"));
        assert!(matches!(landed("code=c&state=other", "s"), Some(Err(SignInError::State))));
        assert!(matches!(landed("error=access_denied", "s"), Some(Err(SignInError::State))));
        let refused = landed("error=access_denied&error_description=no+way&state=s", "s");
        assert!(matches!(refused, Some(Err(SignInError::Refused(why))) if why == "access_denied: no way"));
        assert!(landed("", "s").is_none());
    }
}
