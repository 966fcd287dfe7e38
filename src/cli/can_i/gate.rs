//! The same questions, put to a running gate by whoever has no more than its URL and a token.

use std::{path::PathBuf, process::ExitCode};

use bytes::Bytes;
use http::Method;
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    cli::{
        Output, exit,
        login::{ClientError, authorities, connector, runtime},
        print_data, put, report,
        token::{self, Who},
    },
    client::{AskError, Call, GateError, Session, Sessions, SignIn, Tokens, ask, ask_bytes},
    net::{Connector, Trust},
    policy::may::{Answer, Line},
    time::{Clock as _, SystemClock, Timestamp},
};

/// Why the gate gives no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the gate's URL is not known: name it with --gate, or a configuration with --config")]
    WhichGate,
}

impl NoAnswer {
    fn code(&self) -> ExitCode {
        match self {
            Self::Client(error) => error.code(),
            Self::WhichGate | Self::Ask(AskError::Gate(GateError::Url(_))) => exit::usage(),
            Self::Ask(AskError::Unreachable(_) | AskError::Gate(GateError::Unreachable(_))) => {
                exit::unreachable()
            }
            Self::Ask(AskError::Refused { status, .. }) if status.is_server_error() => exit::unreachable(),
            Self::Ask(
                AskError::Gate(GateError::NoGate { .. } | GateError::Unreadable { .. })
                | AskError::NoApi(_)
                | AskError::Unprotected(_)
                | AskError::Refused { .. }
                | AskError::Unreadable(_),
            ) => exit::FINDING,
        }
    }
}

/// A gate, and who asks it.
pub struct Gate {
    url: String,
    trust: Option<String>,
    token: SecretString,
}

impl Gate {
    /// The gate at `url`, or the one that was signed in to last, asked by `who`; where there is none,
    /// that was said.
    pub fn of(who: Who, url: Option<&str>, ca: Option<&PathBuf>) -> Result<Self, ExitCode> {
        let found = authorities(ca).and_then(|own| match who {
            Who::Me => {
                let sign_in = SignIn::new(connector()?);
                let sessions = Sessions::of_user()?;
                let (url, session) = runtime()?.block_on(sessions.fresh(url, &sign_in, SystemClock.now()))?;
                Ok((Some(url), own.or(session.trust), Some(session.tokens.access)))
            }
            // Who signed in to it before believes it as then.
            Who::Input => {
                let signed_in = Sessions::of_user().and_then(|sessions| sessions.find(url)).ok();
                let (known, trust) = signed_in.map_or((None, None), |(url, s)| (Some(url), s.trust));
                Ok((url.map(str::to_owned).or(known), own.or(trust), None))
            }
        });
        let (url, trust, token) = found.map_err(|error| report(&error, error.code()))?;
        let url = url.ok_or_else(|| report(&NoAnswer::WhichGate, NoAnswer::WhichGate.code()))?;
        let token = match token {
            Some(token) => token,
            None => token::bearer(who, Some(&url))?,
        };
        Ok(Self { url, trust, token })
    }

    /// The gate at `url`, or the one that was signed in to last, asked with what was read elsewhere.
    pub fn bearing(token: SecretString, url: Option<&str>, ca: Option<&PathBuf>) -> Result<Self, ExitCode> {
        let own = authorities(ca).map_err(|error| report(&error, error.code()))?;
        // Who signed in to it before believes it as then.
        let signed_in = Sessions::of_user().and_then(|sessions| sessions.find(url)).ok();
        let (known, trust) = signed_in.map_or((None, None), |(url, session)| (Some(url), session.trust));
        let url = url.map(str::to_owned).or(known);
        let url = url.ok_or_else(|| report(&NoAnswer::WhichGate, NoAnswer::WhichGate.code()))?;
        Ok(Self { url, trust: own.or(trust), token })
    }

    /// Keeps a token that the gate gave out as the session at it, until its end.
    pub fn keep(&self, access: SecretString, expires: Timestamp) -> Result<(), ExitCode> {
        let tokens = Tokens { access, refresh: None, expires: expires.as_secs(), bound: false };
        let session = Session {
            issuer_name: "amlgate".to_owned(),
            issuer: self.url.clone(),
            client_id: String::new(),
            scopes: Vec::new(),
            trust: self.trust.clone(),
            tokens,
        };
        let kept = Sessions::of_user().and_then(|sessions| sessions.keep(&self.url, session));
        kept.map(drop).map_err(|error| {
            let error = ClientError::from(error);
            report(&error, error.code())
        })
    }

    fn ask<T: DeserializeOwned>(&self, path: &str, question: &Value) -> Result<T, ExitCode> {
        self.call(&Method::POST, path, Some(question))
    }

    /// What the API says to a call; where it says nothing good, that was said.
    pub fn call<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ExitCode> {
        let call = Call { method, path, body };
        self.answered(async |connector, roots| ask(connector, &self.url, roots, &self.token, call).await)
    }

    /// What the API says to a GET that is answered with no JSON; where it says nothing good, that was
    /// said.
    pub fn bytes(&self, path: &str) -> Result<Bytes, ExitCode> {
        let call = Call { method: &Method::GET, path, body: None };
        self.answered(async |connector, roots| {
            ask_bytes(connector, &self.url, roots, &self.token, call).await
        })
    }

    fn answered<T>(
        &self,
        asking: impl AsyncFnOnce(&Connector, Option<Trust>) -> Result<T, AskError>,
    ) -> Result<T, ExitCode> {
        let asked = || -> Result<T, NoAnswer> {
            let roots = self.trust.as_deref().map(|pem| Trust::new(Some(pem.as_bytes()))).transpose();
            let roots = roots.map_err(ClientError::from)?;
            let connector = connector()?;
            Ok(runtime()?.block_on(asking(&connector, roots))?)
        };
        asked().map_err(|error| report(&error, error.code()))
    }

    /// Whether they may do `action` at `scope`, printed.
    pub fn can_i(&self, action: &str, scope: &str, output: Output) -> ExitCode {
        let question = json!({"action": action, "scope": scope});
        let answer: Answer = match self.ask("/api/v1/can-i", &question) {
            Ok(answer) => answer,
            Err(code) => return code,
        };
        if output == Output::Table {
            print(&answer);
        } else {
            print_data(&answer, output);
        }
        if answer.decision == "allow" { exit::DONE } else { exit::FINDING }
    }

    /// Everything that they may do at `scope`, or at those that entries name.
    pub fn list(&self, scope: Option<&str>) -> Result<Vec<Line>, ExitCode> {
        #[derive(Deserialize)]
        struct All {
            can: Vec<Line>,
        }
        let all: All = self.ask("/api/v1/can-i/list", &json!({ "scope": scope }))?;
        Ok(all.can)
    }
}

fn print(answer: &Answer) {
    put(format_args!("{}", answer.about));
    if answer.decision == "allow" {
        let mut by: Vec<_> = answer.allowed_by.iter().map(|entry| format!("`{}`", entry.name)).collect();
        by.sort();
        by.dedup();
        put(format_args!("allowed by {}", by.join(", ")));
        if let Some(assignment) = &answer.through {
            put(format_args!("through {assignment}"));
        }
    } else if answer.decision == "needs_review" {
        put(format_args!("allowed for reviewed code: {}", answer.cause.as_deref().unwrap_or_default()));
    } else if answer.decision == "needs_approval" {
        put(format_args!("allowed once people say yes: {}", answer.cause.as_deref().unwrap_or_default()));
    } else {
        let [code, cause, cure] =
            [&answer.code, &answer.cause, &answer.cure].map(|text| text.as_deref().unwrap_or_default());
        put(format_args!("denied, {code}: {cause}"));
        put(format_args!("{cure}"));
    }
    for but in &answer.but {
        put(format_args!("but not where it brings about `{}`: {}", but.effect, but.cause));
    }
}
