//! `/api/v1/lineage`: which reviewed code models came from, to those whom the policies let read it.
//!
//! Every statement is checked again under the keys in force when it is read: what the store holds is
//! called verified only if its signatures are good and it says what it is kept for. Of any other it is
//! told that it is there and why it does not count, and nothing that it says.

mod asked;
mod shown;

use std::{fmt, sync::Arc};

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

pub(in crate::admin) use self::{
    asked::{Asked, version},
    shown::Line,
};
use super::{
    Api, Peer,
    call::{Named, Refused, Said},
    changes::{unavailable, unknown},
    openapi::{Answer, Operation, Parameter, Shape},
    pages::cursor,
};
use crate::{
    azureml::Kind,
    lineage::{Kept, ModelId, OfModel, Page, ReadError, Statements, Version},
};

/// What this is called in policies and in the record.
pub(in crate::admin) const ACTION: &str = "amlgate/lineage/read";
/// What a file of DSSE envelopes with in-toto statements is, one a line.
const BUNDLE: &str = "application/vnd.in-toto.bundle";
const ID: Parameter = Parameter::path("id", "A statement's id.", Shape::Pattern("^[0-9a-f]{64}$"));
const NONE_MADE: (StatusCode, &str) =
    (StatusCode::NOT_IMPLEMENTED, "The configuration has no `evidence`: nothing is stated here.");

pub(super) const LIST: Operation = Operation {
    about: "`before` an instant and `verified`, they are the versions that can be rolled back to. Pages follow \
            each other by `next` as `cursor`; a page may end early, even empty, when much was looked through: \
            go on while there is a `next`.",
    parameters: asked::OF_LISTS,
    problems: &[NONE_MADE],
    ..Operation::judged(
        "listLineage",
        "Statements of where models came from, the newest first",
        &[ACTION],
        &[Answer::json::<shown::Listing>(StatusCode::OK, "A page.")],
    )
};

pub(super) const OF: Operation = Operation {
    about: "The chain is that of the newest statement that holds; without any it is null, and `statements` say \
            why.",
    parameters: asked::OF_ONE,
    problems: &[
        (StatusCode::NOT_FOUND, "Nothing was stated of this model."),
        (StatusCode::CONFLICT, "Several models are called so: name one by its id."),
        NONE_MADE,
    ],
    ..Operation::judged(
        "readLineage",
        "Model, job, commit, change and approvers",
        &[ACTION],
        &[Answer::json::<shown::ChainView>(
            StatusCode::OK,
            "The chain of custody of one version of a model.",
        )],
    )
};

pub(super) const ONE: Operation = Operation {
    about: "The provenance and the summary, one a line, as they were signed: `amlgate lineage verify` and stock \
            verifiers read them. They are given as they are kept; `x-amlgate-verified` says what the gate \
            thinks of them.",
    parameters: &[ID],
    problems: &[(StatusCode::NOT_FOUND, "There is no such statement."), NONE_MADE],
    ..Operation::judged(
        "readStatement",
        "A statement's envelopes",
        &[ACTION],
        &[Answer {
            headers: &[(
                "x-amlgate-verified",
                "`true` or `false`: whether it holds under the keys in force.",
            )],
            ..Answer::of(StatusCode::OK, "Two DSSE envelopes, one a line.", BUNDLE)
        }],
    )
};

pub(super) const KEYS: Operation = Operation {
    about: "For `amlgate lineage verify --key`. Whoever must not take the gate's word keeps a copy from elsewhere.",
    problems: &[NONE_MADE],
    ..Operation::judged(
        "readLineageKeys",
        "The public keys that statements are checked by, the one that signs first",
        &[ACTION],
        &[Answer::of(StatusCode::OK, "Keys in PEM.", "application/x-pem-file")],
    )
};

/// The statements of the parts in force, which this room does not know; none where nothing is stated.
pub struct Stated(pub Box<dyn Fn() -> Option<Arc<Statements>> + Send + Sync>);

impl fmt::Debug for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stated")
    }
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let (allowed, _) = api.entered(&head, peer, ACTION, Kind::Read).await?;
    let asked = Asked::read(head.uri.query().unwrap_or_default());
    let found = match asked {
        Ok(asked) => api.lineage(&asked).await,
        Err(refused) => Err(refused),
    };
    Ok(match found {
        Ok(page) => {
            let next = page.next.as_ref().map(|(made, id)| cursor(*made, id));
            let statements = page.kept.iter().map(Line::of).collect();
            allowed.answer(StatusCode::OK, &shown::Listing { statements, next })
        }
        Err(refused) => allowed.refuse(refused),
    })
}

pub(super) async fn of(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let (allowed, _) = api.entered(&head, peer, ACTION, Kind::Read).await?;
    let found = match version(head.uri.query().unwrap_or_default()) {
        Ok(version) => api.lineage_of(&version).await,
        Err(refused) => Err(refused),
    };
    Ok(match found {
        Ok(found) => allowed.answer(StatusCode::OK, &shown::ChainView::of(&found)),
        Err(refused) => allowed.refuse(refused),
    })
}

pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Named(id): Named,
    request: Request,
) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let (allowed, _) = api.entered(&head, peer, ACTION, Kind::Read).await?;
    Ok(match api.statement(&id).await {
        Ok(kept) => allowed.shown(bundle(&kept)),
        Err(refused) => allowed.refuse(refused),
    })
}

pub(super) async fn keys(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let (allowed, _) = api.entered(&head, peer, ACTION, Kind::Read).await?;
    Ok(match api.statements() {
        Ok(statements) => {
            let pem: String = statements.keys().trusted().iter().map(|key| key.to_pem()).collect();
            let head = [
                (header::CONTENT_TYPE, "application/x-pem-file"),
                (header::CONTENT_DISPOSITION, "attachment; filename=\"evidence.pub\""),
                (header::CACHE_CONTROL, "no-store"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            allowed.shown((StatusCode::OK, head, pem).into_response())
        }
        Err(refused) => allowed.refuse(refused),
    })
}

fn bundle(kept: &Kept) -> Response {
    let body = format!("{}\n{}\n", kept.row.provenance, kept.row.summary);
    // The name of a file, whatever the model is called.
    let short = ModelId::parse(&kept.row.named).map(|model| model.short().replace(':', "-"));
    let plain = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let name = short.filter(plain).unwrap_or_else(|| kept.row.id.clone());
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(BUNDLE));
    if let Ok(attached) = HeaderValue::from_str(&format!("attachment; filename=\"{name}.intoto.jsonl\"")) {
        headers.insert(header::CONTENT_DISPOSITION, attached);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let verified = if kept.checked.is_ok() { "true" } else { "false" };
    headers.insert("x-amlgate-verified", HeaderValue::from_static(verified));
    response
}

impl Api {
    fn statements(&self) -> Result<Arc<Statements>, Refused> {
        (self.stated.0)().ok_or_else(|| {
            let why = "nothing is stated of models here: the configuration has no `evidence`";
            Refused::new(StatusCode::NOT_IMPLEMENTED, Said::NotConfigured, why)
        })
    }

    /// A page of what was stated.
    pub(in crate::admin) async fn lineage(&self, asked: &Asked) -> Result<Page, Refused> {
        self.statements()?.listed(&asked.0).await.map_err(|error| unavailable(&error))
    }

    /// What was stated of one version of a model.
    pub(in crate::admin) async fn lineage_of(&self, version: &Version) -> Result<OfModel, Refused> {
        self.statements()?.of(version).await.map_err(|error| match &error {
            ReadError::Nothing => Refused::new(StatusCode::NOT_FOUND, Said::NotFound, error.to_string()),
            ReadError::Several(_) => Refused::new(StatusCode::CONFLICT, Said::Conflict, error.to_string()),
            ReadError::Store(error) => unavailable(error),
        })
    }

    async fn statement(&self, id: &str) -> Result<Kept, Refused> {
        let statements = self.statements()?;
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(Refused::malformed("a statement's id is 64 hexadecimal digits in lower case"));
        }
        let found = statements.one(id).await.map_err(|error| unavailable(&error))?;
        found.ok_or_else(|| unknown("statement"))
    }
}
