//! `amlgate token verify`: what a gate would make of a token.
//!
//! It runs the gate's own verifier, so that its answer is the gate's. The token comes from
//! standard input, because arguments are visible to other users; neither it nor its signature is
//! ever printed.

use std::{
    io::{IsTerminal, Read},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Uri;
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::super::{exit, put_whole, report};
use crate::{
    config,
    identity::{
        Binding, Fetching, Groups, Handles, HttpKeySource, IssuerKind, IssuerSettings, KeySet, KeySource,
        KeysAt, MAX_TOKEN, Principal, Reason, Rejection, RememberedSettings, Verifier,
    },
    net::{Connector, ConnectorSettings},
    time::SystemClock,
};

/// `token verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The configuration whose issuers are asked.
    #[arg(long, default_value = "amlgate.yaml", conflicts_with_all = ["jwks", "iss", "aud"])]
    config: PathBuf,
    /// Only this issuer of the configuration.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["jwks", "iss", "aud"])]
    issuer: Option<String>,
    /// A file with a JSON Web Key Set, instead of a configuration.
    #[arg(long, value_name = "FILE", requires = "iss", requires = "aud")]
    jwks: Option<PathBuf>,
    /// The issuer, exactly as `iss` says; an Entra issuer is checked as Entra.
    #[arg(long, value_name = "ISSUER", requires = "jwks")]
    iss: Option<String>,
    /// The audience, exactly as `aud` says; repeatable.
    #[arg(long, value_name = "AUDIENCE", requires = "jwks")]
    aud: Vec<String>,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The shape of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// One JSON object.
    Json,
    /// One YAML document.
    Yaml,
}

/// Why the question cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Standard input gave no token.
    #[error(
        "standard input holds no token: pipe one in, as in `... | amlgate token verify` or `... | amlgate can-i ACTION --scope ID`"
    )]
    NoToken,
    /// Standard input broke off, or is no text.
    #[error("cannot read a token from standard input")]
    Input(#[source] std::io::Error),
    /// The key set cannot be read.
    #[error("cannot read the key set `{path}`")]
    KeySetFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key set is none.
    #[error("`{path}` is no key set")]
    KeySet {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: crate::identity::KeySetError,
    },
    /// `--iss` is not a URL.
    #[error("`{0}` is not an issuer: write exactly what `iss` says in its tokens")]
    Issuer(String),
    /// The configuration has no issuer of this name.
    #[error("the configuration has no issuer `{name}`; it has {known}")]
    UnknownIssuer {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Outgoing TLS cannot be set up.
    #[error("cannot set up outgoing connections")]
    Connector(#[from] crate::net::TrustError),
    /// The system gave no runtime.
    #[error("cannot start")]
    Runtime(#[source] std::io::Error),
}

/// Runs the verb.
#[must_use]
pub fn run(verify: &Verify) -> ExitCode {
    let asked = match question(verify) {
        Ok(asked) => asked,
        Err(Refused::Problems(problems)) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            return exit::FINDING;
        }
        Err(Refused::Error(error)) => return report(&error, exit::usage()),
    };
    match read_token().and_then(|token| answer(&asked, &token)) {
        Ok(answer) => {
            put_whole(format_args!("{}", answer.print(verify.output)));
            answer.code()
        }
        Err(error) => report(&error, exit::usage()),
    }
}

enum Refused {
    Problems(Vec<crate::yaml::Problem>),
    Error(TokenError),
}

/// Who is trusted, and where the keys come from.
struct Asked {
    issuers: Vec<IssuerSettings>,
    source: Arc<dyn KeySource>,
}

fn question(verify: &Verify) -> Result<Asked, Refused> {
    let error = Refused::Error;
    if let (Some(path), Some(iss)) = (&verify.jwks, &verify.iss) {
        let document = std::fs::read(path)
            .map_err(|source| error(TokenError::KeySetFile { path: path.clone(), source }))?;
        KeySet::parse(&document)
            .map_err(|source| error(TokenError::KeySet { path: path.clone(), source }))?;
        let audiences: Vec<&str> = verify.aud.iter().map(String::as_str).collect();
        let issuer = described(iss, &audiences).ok_or_else(|| error(TokenError::Issuer(iss.clone())))?;
        return Ok(Asked { issuers: vec![issuer], source: Arc::new(FileKeys(document.into())) });
    }
    let settings = config::load(&verify.config).map_err(Refused::Problems)?;
    let known: Vec<_> = settings.issuers.iter().map(|i| format!("`{}`", i.name)).collect();
    let mut issuers = settings.issuers;
    if let Some(name) = &verify.issuer {
        issuers.retain(|issuer| issuer.name.as_ref() == name);
        if issuers.is_empty() {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(error(TokenError::UnknownIssuer { name: name.clone(), known }));
        }
    }
    let proxy = settings.outgoing.egress();
    let connector = Connector::new(ConnectorSettings { proxy, ..ConnectorSettings::default() });
    let connector = connector.map_err(|e| error(e.into()))?;
    Ok(Asked { issuers, source: Arc::new(HttpKeySource::new(connector)) })
}

/// The settings that `--iss` and `--aud` describe; an Entra issuer is recognised by its form.
fn described(iss: &str, audiences: &[&str]) -> Option<IssuerSettings> {
    let tenant = iss.split('/').find(|part| uuid::Uuid::try_parse(part).is_ok());
    if let Some(tenant) = tenant {
        let entra = IssuerSettings::entra("given", tenant, audiences);
        if entra.forms().iter().any(|form| form.iss.as_ref() == iss) {
            return Some(entra);
        }
    }
    let mut settings = IssuerSettings::oidc("given", iss, audiences).ok()?;
    if let IssuerKind::Oidc { keys, .. } = &mut settings.kind {
        *keys = KeysAt::Jwks(keys.uri().clone());
    }
    Some(settings)
}

/// One key set for whatever is asked.
#[derive(Debug)]
struct FileKeys(Bytes);

impl KeySource for FileKeys {
    fn get<'a>(&'a self, uri: &'a Uri, issuer: &'a IssuerSettings) -> Fetching<'a> {
        // An Entra tenant's keys are found through discovery: it names the same file.
        let form = issuer.forms().into_iter().find(|form| form.keys == KeysAt::Discovery(uri.clone()));
        let document = match form {
            Some(form) => {
                json!({"issuer": form.iss, "jwks_uri": "https://given.invalid/jwks"}).to_string().into()
            }
            None => self.0.clone(),
        };
        Box::pin(async move { Ok(document) })
    }
}

/// The token on standard input. Bounded; a pasted `Bearer ` and white space around are no part of it.
///
/// # Errors
/// [`TokenError::NoToken`] or [`TokenError::Input`].
pub(in crate::cli) fn read_token() -> Result<Zeroizing<String>, TokenError> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        eprintln!("amlgate: paste a token, then end the input");
    }
    let mut text = Zeroizing::new(String::new());
    let bound = u64::try_from(MAX_TOKEN).unwrap_or(u64::MAX).saturating_add(1_024);
    input.by_ref().take(bound).read_to_string(&mut text).map_err(TokenError::Input)?;
    let trimmed = text.trim();
    let bare = match trimmed.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim_start(),
        Some(_) | None => trimmed,
    };
    if bare.is_empty() { Err(TokenError::NoToken) } else { Ok(Zeroizing::new(bare.to_owned())) }
}

fn answer(asked: &Asked, token: &str) -> Result<Answer, TokenError> {
    if Handles::is_handle(token) {
        return Ok(Answer::handle());
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(TokenError::Runtime)?;
    runtime.block_on(async {
        let verifier = Verifier::new(
            asked.issuers.clone(),
            RememberedSettings::default(),
            Arc::clone(&asked.source),
            Arc::new(SystemClock),
        );
        verifier.refresh_once().await;
        let outcome = verifier.present(token).await;
        let notes = verifier
            .status()
            .into_iter()
            .flat_map(|status| status.notes)
            .map(|note| format!("the published key `{}` is not used: {}", note.key, note.why))
            .collect();
        Ok(match outcome {
            Ok(principal) => Answer::accepted(&principal),
            Err(rejection) => Answer::refused(&rejection, notes),
        })
    })
}

/// The verb's answer, as it is printed.
#[derive(Debug, Serialize)]
struct Answer {
    accepted: bool,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum What {
    Caller {
        issuer: String,
        subject: String,
        kind: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        groups: Value,
        roles: Vec<String>,
        expires: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        bound_to: Option<String>,
    },
    Refusal {
        check: &'static str,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        found: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        expected: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<&'static str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        notes: Vec<String>,
        #[serde(skip)]
        outage: bool,
    },
}

/// What must come with a token, in words.
fn bound_to(binding: &Binding) -> String {
    let certificate = binding.certificate.map(|digest| {
        let digest = URL_SAFE_NO_PAD.encode(digest);
        format!("the client certificate with `x5t#S256` {digest}: it counts on its connection alone")
    });
    let key = binding.key.as_ref().map(|key| {
        format!(
            "the key with the thumbprint {key}: send it as `Authorization: DPoP` with a proof by that key"
        )
    });
    certificate.into_iter().chain(key).collect::<Vec<_>>().join("; ")
}

impl Answer {
    fn accepted(principal: &Principal) -> Self {
        let text = |value: &Option<Arc<str>>| value.as_deref().map(str::to_owned);
        let what = What::Caller {
            issuer: principal.id.issuer.to_string(),
            subject: principal.id.subject.to_string(),
            kind: principal.kind.name(),
            tenant: text(&principal.tenant),
            client: text(&principal.client),
            name: text(&principal.display),
            groups: match &principal.groups {
                Groups::Known(all) => all.iter().map(|group| Value::from(group.as_ref())).collect(),
                Groups::Overage | Groups::Asked(_) => Value::from("more than the token carries"),
            },
            roles: principal.roles.iter().map(ToString::to_string).collect(),
            expires: principal.expires.to_rfc3339(),
            bound_to: principal.binding().map(bound_to),
        };
        Self { accepted: true, what }
    }

    fn refused(rejection: &Rejection, notes: Vec<String>) -> Self {
        let keys = matches!(rejection.reason(), Reason::Key | Reason::KeysUnavailable);
        let what = What::Refusal {
            check: rejection.reason().name(),
            message: rejection.to_string(),
            found: rejection.value_found().map(str::to_owned),
            expected: rejection.value_expected().map(str::to_owned),
            hint: hint(rejection.reason()),
            notes: if keys { notes } else { Vec::new() },
            outage: rejection.is_outage(),
        };
        Self { accepted: false, what }
    }

    fn handle() -> Self {
        let what = What::Refusal {
            check: "handle",
            message: "this is a handle, not a token: only the gate that issued it can read it".to_owned(),
            found: None,
            expected: Some("a signed token: 3 segments".to_owned()),
            hint: Some("send it to the endpoint's route of that gate; it is worth nothing elsewhere"),
            notes: Vec::new(),
            outage: false,
        };
        Self { accepted: false, what }
    }

    fn code(&self) -> ExitCode {
        match &self.what {
            What::Caller { .. } => exit::DONE,
            What::Refusal { outage: true, .. } => exit::unreachable(),
            What::Refusal { outage: false, .. } => exit::FINDING,
        }
    }

    fn print(&self, output: Output) -> String {
        let Ok(Value::Object(members)) = serde_json::to_value(self) else { return String::new() };
        match output {
            Output::Json => format!("{}\n", Value::Object(members)),
            // A JSON value is a YAML value.
            Output::Yaml => members.iter().map(|(name, value)| format!("{name}: {value}\n")).collect(),
            Output::Table => {
                let shown = |value: &Value| match value {
                    Value::Bool(true) => "yes".to_owned(),
                    Value::Bool(false) => "no".to_owned(),
                    Value::String(text) => text.clone(),
                    Value::Array(all) if all.is_empty() => "none".to_owned(),
                    Value::Array(all) => all
                        .iter()
                        .map(|one| one.as_str().unwrap_or_default())
                        .collect::<Vec<_>>()
                        .join("\n            "),
                    Value::Null | Value::Number(_) | Value::Object(_) => value.to_string(),
                };
                let order = [
                    "accepted", "issuer", "subject", "kind", "name", "tenant", "client", "groups", "roles",
                    "expires", "bound_to", "check", "message", "found", "expected", "hint", "notes",
                ];
                order
                    .iter()
                    .filter_map(|name| Some(format!("{name:<12}{}\n", shown(members.get(*name)?))))
                    .collect()
            }
        }
    }
}

/// How the holder of the token, or who configures the gate, mends it.
const fn hint(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::Malformed | Reason::Type | Reason::Header | Reason::KeyId => {
            "the gate takes signed access tokens (compact JWS) and nothing else"
        }
        Reason::Issuer => {
            "compare with the issuers in amlgate.yaml, to the letter: a slash at the end counts"
        }
        Reason::Algorithm => "add it to `algorithms` of the issuer, if it signs with a public key",
        Reason::Key => "the token is older than the issuer's keys, or from another issuer of the same name",
        Reason::Signature => {
            "a Graph token cannot be verified by anybody else; any other was changed or forged"
        }
        Reason::Expired => "get a fresh one",
        Reason::NotYetValid | Reason::IssuedInFuture => "compare the clocks of this machine and the issuer",
        Reason::Lifetime => "ask the issuer for a shorter token",
        Reason::Audience => "ask for a token for the gate: its audience, not Azure's",
        Reason::Claim => "the issuer must put the claim into the access token",
        Reason::Tenant => "sign in to the tenant that is configured",
        Reason::Unscoped => "expose a scope or an application role of the gate's application, and grant it",
        Reason::NotAccepted => "the issuer serves everybody; `accept` says whose tokens are taken",
        Reason::Bound => {
            "`cnf` may hold `x5t#S256` (RFC 8705) and `jkt` (RFC 9449): ask the issuer for a token that is bound so, or for a bearer token"
        }
        Reason::LimitedUser => "send the user's own Backstage token: a limited one is no bearer",
        Reason::GroupsUnavailable => "`found` says why the issuer does not tell the groups",
        Reason::KeysUnavailable => "`found` says why the keys could not be fetched",
    })
}

#[cfg(test)]
mod tests;
