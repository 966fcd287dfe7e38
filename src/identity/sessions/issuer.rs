//! The issuer's side of a sign-in, through openidconnect over the gate's own connector.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use openidconnect::{
    AccessTokenHash, AsyncHttpClient, AuthenticationFlow, AuthorizationCode, ClientId, ClientSecret,
    CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IssuerUrl,
    LogoutRequest, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier,
    PostLogoutRedirectUrl, ProviderMetadataWithLogout, RedirectUrl, RefreshToken, RequestTokenError, Scope,
    TokenResponse as _,
    core::{CoreClient, CoreIdToken, CoreIdTokenVerifier, CoreResponseType, CoreTokenResponse},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use crate::{
    identity::{IssuerSettings, http_source},
    net::{Connector, FetchLimits},
    time::{SharedClock, Timestamp},
};

/// The issuer's metadata are asked for again after this.
const METADATA: Duration = Duration::from_secs(300);

/// Where browsers sign in.
#[derive(Debug, Clone)]
pub struct SignInSettings {
    /// The configured issuer's name.
    pub name: Arc<str>,
    /// Its name for itself.
    pub issuer: String,
    /// How it is reached, and whom it is believed by.
    pub reached: IssuerSettings,
    /// The client that the gate is to it.
    pub client_id: String,
    /// The client's secret, for an issuer that demands one.
    pub client_secret: Option<SecretString>,
    /// What to ask for.
    pub scopes: Vec<String>,
    /// Where browsers come back to.
    pub callback: String,
    /// Where they come back to after the issuer ended its own session.
    pub signed_out: String,
    /// A session that nobody uses ends after this.
    pub idle: Duration,
    /// Any session ends after this.
    pub max_age: Duration,
}

/// Why the issuer signs nobody in.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IssuerError {
    /// It does not answer, or not as OpenID Connect says.
    #[error("the issuer cannot be asked: {0}")]
    Unreachable(String),
    /// It refused.
    #[error("the issuer refuses: {0}")]
    Refused(String),
    /// What it gave out is not of this sign-in.
    #[error("the issuer's answer is not of this sign-in: {0}")]
    IdToken(String),
}

impl IssuerError {
    /// Whether asking again can change nothing.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::IdToken(_))
    }
}

/// What is asked of the issuer for one browser.
pub(super) struct Asked {
    pub page: String,
    pub state: String,
    pub nonce: String,
    pub verifier: String,
}

/// What the issuer gave out. The ID token, if there is one, is verified.
pub(super) struct Granted {
    pub access: String,
    pub id_token: Option<String>,
    pub refresh: Option<String>,
    /// `sub` of the ID token; empty if there is none.
    pub subject: String,
    pub issuer_session: Option<String>,
    pub binds: Binds,
}

/// By what the ID token and the access token are of the same person.
pub(super) enum Binds {
    /// The ID token holds the access token's hash, which was checked; or there is no ID token (a
    /// renewal).
    Already,
    /// The access token must speak of the same subject.
    Same { sub: String, oid: Option<String> },
}

impl Binds {
    pub fn hold(&self, access: &Map<String, Value>) -> bool {
        let is = |name: &str, wanted: &str| access.get(name).and_then(Value::as_str) == Some(wanted);
        match self {
            Self::Already => true,
            // Entra's `sub` differs from application to application, its `oid` does not.
            Self::Same { sub, oid } => is("sub", sub) || oid.as_ref().is_some_and(|oid| is("oid", oid)),
        }
    }
}

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// The issuer that browsers sign in at.
pub(super) struct Authority {
    settings: SignInSettings,
    connector: Connector,
    clock: SharedClock,
    metadata: Mutex<Option<(Timestamp, ProviderMetadataWithLogout)>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.settings.issuer)
    }
}

impl Authority {
    pub fn new(settings: SignInSettings, connector: Connector, clock: SharedClock) -> Self {
        Self { settings, connector, clock, metadata: Mutex::default() }
    }

    pub const fn settings(&self) -> &SignInSettings {
        &self.settings
    }

    pub async fn ask(&self) -> Result<Asked, IssuerError> {
        let client = self.client(Fresh::Lately).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (page, state, nonce) = client
            .authorize_url(
                AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .add_scopes(self.scopes())
            .set_pkce_challenge(challenge)
            .url();
        Ok(Asked {
            page: page.to_string(),
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
        })
    }

    /// A code for tokens; the ID token must be of the sign-in of `nonce`.
    pub async fn redeem(&self, code: &str, nonce: &str, verifier: &str) -> Result<Granted, IssuerError> {
        let client = self.client(Fresh::Now).await?;
        let answer = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| IssuerError::Unreachable(error.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()))
            .request_async(&Asking(self))
            .await
            .map_err(read)?;
        if answer.id_token().is_none() {
            return Err(IssuerError::IdToken("there is no ID token".to_owned()));
        }
        let nonce = Nonce::new(nonce.to_owned());
        self.granted(&client, &answer, |said| match said {
            Some(said) if said.secret() == nonce.secret() => Ok(()),
            Some(_) | None => Err("its `nonce` is another".to_owned()),
        })
    }

    /// New tokens for a refresh token.
    pub async fn renew(&self, refresh: &str) -> Result<Granted, IssuerError> {
        let client = self.client(Fresh::Now).await?;
        let token = RefreshToken::new(refresh.to_owned());
        let answer = client
            .exchange_refresh_token(&token)
            .map_err(|error| IssuerError::Unreachable(error.to_string()))?
            .request_async(&Asking(self))
            .await
            .map_err(read)?;
        let mut granted = self.granted(&client, &answer, |_| Ok(()))?;
        // An issuer that does not rotate means the old one to be used again (RFC 6749, 6).
        granted.refresh.get_or_insert_with(|| refresh.to_owned());
        Ok(granted)
    }

    /// Where the issuer ends its own session (OpenID Connect RP-Initiated Logout 1.0).
    pub async fn sign_out_page(&self, hint: Option<&str>) -> Result<Option<String>, IssuerError> {
        let metadata = self.metadata(Fresh::Lately).await?;
        let Some(endpoint) = metadata.additional_metadata().end_session_endpoint.clone() else {
            return Ok(None);
        };
        let mut request =
            LogoutRequest::from(endpoint).set_client_id(ClientId::new(self.settings.client_id.clone()));
        if let Ok(back) = PostLogoutRedirectUrl::new(self.settings.signed_out.clone()) {
            request = request.set_post_logout_redirect_uri(back);
        }
        let hint: Option<CoreIdToken> = hint.and_then(|hint| hint.parse().ok());
        if let Some(hint) = &hint {
            request = request.set_id_token_hint(hint);
        }
        Ok(Some(request.http_get_url().to_string()))
    }

    fn granted(
        &self,
        client: &Client,
        answer: &CoreTokenResponse,
        nonce: impl FnOnce(Option<&Nonce>) -> Result<(), String>,
    ) -> Result<Granted, IssuerError> {
        let wrong = |why: String| IssuerError::IdToken(why);
        let mut granted = Granted {
            access: answer.access_token().secret().clone(),
            id_token: None,
            refresh: answer.refresh_token().map(|token| token.secret().clone()),
            subject: String::new(),
            issuer_session: None,
            binds: Binds::Already,
        };
        let Some(token) = answer.id_token() else { return Ok(granted) };
        let now = self.clock.now().to_utc();
        let verifier: CoreIdTokenVerifier<'_> = client.id_token_verifier().set_time_fn(move || now);
        let claims = token.claims(&verifier, nonce).map_err(|error| wrong(error.to_string()))?;
        let text = token.to_string();
        let also = members(&text);
        granted.subject = claims.subject().to_string();
        granted.issuer_session = also.get("sid").and_then(Value::as_str).map(ToOwned::to_owned);
        granted.binds = match claims.access_token_hash() {
            Some(said) => {
                let algorithm = token.signing_alg().map_err(|error| wrong(error.to_string()))?;
                let key = token.signing_key(&verifier).map_err(|error| wrong(error.to_string()))?;
                let ours = AccessTokenHash::from_token(answer.access_token(), algorithm, key)
                    .map_err(|error| wrong(error.to_string()))?;
                if ours != *said {
                    return Err(wrong("its `at_hash` is of another access token".to_owned()));
                }
                Binds::Already
            }
            None => Binds::Same {
                sub: granted.subject.clone(),
                oid: also.get("oid").and_then(Value::as_str).map(ToOwned::to_owned),
            },
        };
        granted.id_token = Some(text);
        Ok(granted)
    }

    fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.settings.scopes.iter().filter(|scope| *scope != "openid").cloned().map(Scope::new)
    }

    async fn client(&self, fresh: Fresh) -> Result<Client, IssuerError> {
        let metadata = self.metadata(fresh).await?;
        let secret = self.settings.client_secret.as_ref();
        let secret = secret.map(|secret| ClientSecret::new(secret.expose_secret().to_owned()));
        let id = ClientId::new(self.settings.client_id.clone());
        let callback = RedirectUrl::new(self.settings.callback.clone())
            .map_err(|error| IssuerError::Unreachable(error.to_string()))?;
        Ok(CoreClient::from_provider_metadata(metadata, id, secret).set_redirect_uri(callback))
    }

    /// The issuer's metadata and keys. Whoever only knocks at the door is answered from memory.
    async fn metadata(&self, fresh: Fresh) -> Result<ProviderMetadataWithLogout, IssuerError> {
        let now = self.clock.now();
        let known = self.metadata.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Fresh::Lately, Some((since, metadata))) = (fresh, known)
            && now.since(since) < METADATA
        {
            return Ok(metadata);
        }
        let unreachable = |error: &dyn fmt::Display| IssuerError::Unreachable(error.to_string());
        let url = IssuerUrl::new(self.settings.issuer.clone()).map_err(|error| unreachable(&error))?;
        let metadata = ProviderMetadataWithLogout::discover_async(url, &Asking(self))
            .await
            .map_err(|error| unreachable(&error))?;
        *self.metadata.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, metadata.clone()));
        Ok(metadata)
    }

    /// Redirects are answers like others: an endpoint that moves is not followed.
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, NoAnswer> {
        let request = request.map(Bytes::from);
        let to = http_source::destination(request.uri(), &self.settings.reached).map_err(NoAnswer)?;
        let answer = self.connector.send(&to, request, FetchLimits::default()).await;
        answer.map(|answer| answer.map(|body| body.to_vec())).map_err(|error| NoAnswer(error.to_string()))
    }
}

/// How old the issuer's metadata may be.
#[derive(Clone, Copy)]
enum Fresh {
    /// Minutes.
    Lately,
    /// They are asked for: keys change.
    Now,
}

struct Asking<'a>(&'a Authority);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoAnswer(String);

impl<'c> AsyncHttpClient<'c> for Asking<'_> {
    type Error = NoAnswer;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, NoAnswer>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.0.fetch(request))
    }
}

fn read<E: std::error::Error + 'static, R: openidconnect::ErrorResponse + fmt::Display + 'static>(
    error: RequestTokenError<E, R>,
) -> IssuerError {
    match error {
        RequestTokenError::ServerResponse(said) => {
            IssuerError::Refused(said.to_string().chars().filter(|c| !c.is_control()).take(300).collect())
        }
        RequestTokenError::Request(error) => IssuerError::Unreachable(error.to_string()),
        RequestTokenError::Parse(error, _) => IssuerError::Unreachable(error.to_string()),
        RequestTokenError::Other(why) => IssuerError::Refused(why),
    }
}

/// The claims of a token that was verified.
fn members(token: &str) -> Map<String, Value> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    payload.and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default()
}
