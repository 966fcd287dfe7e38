//! Where models came from: what was stated, and the chain of one version from the model to those who
//! approved its code, with what each link rests on.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};

use super::{
    super::api::{Api, AskedOfLineage, Peer, READ_LINEAGE, Refused, StatementLine, cursor_of, version_of},
    Frame, Visit, entered, html, refusal,
};
use crate::{
    azureml::Kind,
    lineage::{Basis, Chain, Difference, Listed, ModelId, OfModel, Version, Versions, differences},
};

/// Other versions of a model that are named beside one.
const OTHERS: usize = 20;

#[derive(Template)]
#[template(path = "lineage.html")]
struct List {
    frame: Frame,
    fields: Vec<Field>,
    verified: bool,
    lines: Vec<StatementLine>,
    /// The query of the next page.
    next: Option<String>,
    /// Why the question was none.
    wrong: Option<String>,
}

/// Something to choose by.
struct Field {
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    value: String,
}

#[derive(Template)]
#[template(path = "lineage_of.html")]
struct One {
    frame: Frame,
    name: String,
    model: String,
    verified: bool,
    steps: Vec<Step>,
    statements: Vec<StatementLine>,
    others: Vec<StatementLine>,
    compared: Option<Compared>,
    /// Why nothing was compared.
    wrong: Option<String>,
}

/// One link of the chain.
struct Step {
    what: &'static str,
    which: String,
    /// Where people read it.
    url: Option<String>,
    basis: Option<Basis>,
    facts: Vec<Fact>,
}

/// Something about it.
struct Fact {
    what: String,
    value: String,
    basis: Option<Basis>,
}

/// In what another model differs.
struct Compared {
    with: String,
    differences: Vec<Difference>,
}

/// What can be chosen by: the name, how it is called, an example.
const FIELDS: [(&str, &str, &str); 4] = [
    ("model", "Model", "azureml://… or churn"),
    ("workspace", "Workspace", "its name"),
    ("registry", "Registry", "its name"),
    ("before", "Stated before", "2026-11-30T09:00:00Z"),
];

/// The fields that were filled in: a form sends those that were left empty, too.
fn given(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes())
        .map(|(key, value)| (key.into_owned(), value.trim().to_owned()))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

fn query_of(pairs: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let entered = entered(&api, peer, head, "/lineage", READ_LINEAGE, Kind::Read).await;
    let (Visit { head, frame, .. }, allowed) = match entered {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    let given = given(head.uri.query().unwrap_or_default());
    let value = |name: &str| {
        let found = given.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let fields = FIELDS.map(|(name, label, hint)| Field { name, label, hint, value: value(name) });
    let mut page = List {
        fields: fields.into(),
        verified: value("verified") == "true",
        lines: Vec::new(),
        next: None,
        wrong: None,
        frame,
    };
    let asked = match AskedOfLineage::read(&query_of(&given)) {
        Ok(asked) => asked,
        Err(refused) => {
            page.wrong = Some(refused.message);
            return allowed.shown(html(StatusCode::BAD_REQUEST, &page.frame, &page));
        }
    };
    let found = match api.lineage(&asked).await {
        Ok(found) => found,
        Err(refused) => return allowed.shown(refusal(refused, page.frame)),
    };
    page.lines = found.kept.iter().map(StatementLine::of).collect();
    page.next = found.next.map(|(made, id)| {
        let mut pairs: Vec<_> = given.into_iter().filter(|(key, _)| key != "cursor").collect();
        pairs.push(("cursor".to_owned(), cursor_of(made, &id)));
        query_of(&pairs)
    });
    allowed.shown(html(StatusCode::OK, &page.frame, &page))
}

pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let entered = entered(&api, peer, head, "/lineage", READ_LINEAGE, Kind::Read).await;
    let (Visit { head, frame, .. }, allowed) = match entered {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    let mut given = given(head.uri.query().unwrap_or_default());
    let with = given.iter().position(|(key, _)| key == "with").map(|at| given.remove(at).1);
    let found = match version_of(&query_of(&given)) {
        Ok(version) => api.lineage_of(&version).await,
        Err(refused) => Err(refused),
    };
    let found = match found {
        Ok(found) => found,
        Err(refused) => return allowed.shown(refusal(refused, frame)),
    };
    let others = match others(&api, &found).await {
        Ok(others) => others,
        Err(refused) => return allowed.shown(refusal(refused, frame)),
    };
    let chain = found.verified().map(|(_, verified)| &verified.chain);
    let (mut compared, mut wrong) = (None, None);
    if let Some(with) = with {
        match other(&api, &with).await {
            Ok(Some(other)) => {
                let differences = chain.map(|chain| differences(chain, &other)).unwrap_or_default();
                compared = chain.is_some().then_some(Compared { with: other.model, differences });
            }
            Ok(None) => wrong = Some("no statement of the other model holds".to_owned()),
            Err(refused) => wrong = Some(refused.message),
        }
    }
    let page = One {
        frame,
        name: ModelId::parse(&found.model).map_or_else(|| found.model.clone(), |model| model.short()),
        verified: chain.is_some(),
        steps: chain.map(steps).unwrap_or_default(),
        statements: found.kept.iter().map(StatementLine::of).collect(),
        others,
        compared,
        wrong,
        model: found.model,
    };
    let status = if page.wrong.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    allowed.shown(html(status, &page.frame, &page))
}

/// The chain of another model, if some statement of it holds.
async fn other(api: &Api, id: &str) -> Result<Option<Chain>, Refused> {
    let version = Version::parse(id, None).map_err(|error| Refused::malformed(error.to_string()))?;
    let found = api.lineage_of(&version).await?;
    Ok(found.verified().map(|(_, verified)| verified.chain.clone()))
}

/// The newest statement that holds of each other version of the same model, if they are not too many.
async fn others(api: &Api, found: &OfModel) -> Result<Vec<StatementLine>, Refused> {
    let name = found.model.rsplit_once("/versions/").map(|(name, _)| name);
    let Some(of) = name.and_then(|name| Versions::parse(Some(name), None).ok()) else {
        return Ok(Vec::new());
    };
    let asked = AskedOfLineage(Listed { of: Some(of), verified: true, ..AskedOfLineage::read("")?.0 });
    let mut lines: Vec<StatementLine> = Vec::new();
    for kept in api.lineage(&asked).await?.kept {
        let is_known = lines.iter().any(|line| line.model.eq_ignore_ascii_case(&kept.row.named));
        if !is_known && !kept.row.named.eq_ignore_ascii_case(&found.model) && lines.len() < OTHERS {
            lines.push(StatementLine::of(&kept));
        }
    }
    Ok(lines)
}

fn steps(chain: &Chain) -> Vec<Step> {
    let fact = |what: &str, value: &str, basis: Option<Basis>| Fact {
        what: what.to_owned(),
        value: value.to_owned(),
        basis,
    };
    let some = |what: &str, value: &Option<String>| value.as_ref().map(|value| fact(what, value, None));
    let digests = chain.subject.digest.iter().map(|(kind, value)| format!("{kind}:{value}"));
    let mut model: Vec<Fact> = digests.map(|digest| fact("Digest", &digest, None)).collect();
    if chain.subject.digest_of.as_deref() == Some("id") {
        model.push(fact("", "of its id: Azure ML gave none of its content", None));
    }
    model.push(fact("Registered by", &chain.caller, Some(Basis::Witnessed)));
    let mut job: Vec<Fact> =
        [some("Began", &chain.started), some("Ended", &chain.finished)].into_iter().flatten().collect();
    let links = [("Code", &chain.code), ("Environment", &chain.environment)];
    let links = links.into_iter().filter_map(|(what, link)| Some((what.to_owned(), link.as_ref()?)));
    let data = chain.data.iter().map(|(name, link)| (format!("Data {name}"), link));
    job.extend(links.chain(data).map(|(what, link)| {
        let digest = link.digest.as_ref().map(|digest| format!(" {digest}")).unwrap_or_default();
        fact(&what, &format!("{}{digest}", link.id), Some(link.basis))
    }));
    let metrics = chain.metrics.iter();
    job.extend(metrics.map(|(name, value)| fact(&format!("Metric {name}"), value, Some(Basis::Claimed))));
    let step = |what, which: &str, url: Option<&String>, basis, facts| Step {
        what,
        which: which.to_owned(),
        // Whatever a code host calls its address: nothing but the web is linked to.
        url: url.filter(|url| url.starts_with("https://") || url.starts_with("http://")).cloned(),
        basis,
        facts,
    };
    let source = vec![fact("Repository", &chain.repository, None), fact("Branch", &chain.branch, None)];
    let mut change: Vec<Fact> = [some("Owner", &chain.change_owner), some("State", &chain.change_revision)]
        .into_iter()
        .flatten()
        .collect();
    change.extend(chain.approvers.iter().map(|approver| fact("Approved by", approver, Some(Basis::Read))));
    let let_in = vec![
        fact("Decision", &chain.decision, None),
        fact("When", &chain.decided, None),
        fact("Policies", &chain.policies, None),
        fact("By", &chain.gate, None),
    ];
    vec![
        step("Model", &chain.model, None, None, model),
        step("Job", &chain.job, None, Some(Basis::Read), job),
        step("Commit", &chain.commit.id, None, Some(chain.commit.basis), source),
        step("Change", &chain.change, Some(&chain.change_url), Some(Basis::Read), change),
        step("Let in by", &chain.entry, None, None, let_in),
    ]
}

/// What a link rests on, in words and for the style.
trait Shown {
    fn words(&self) -> &'static str;
    fn class(&self) -> &'static str;
}

impl Shown for Basis {
    fn words(&self) -> &'static str {
        match self {
            Self::Witnessed => "the gate saw it",
            Self::Read => "the gate read it",
            Self::Claimed => "only said",
        }
    }

    fn class(&self) -> &'static str {
        match self {
            Self::Witnessed | Self::Read => "allowed",
            Self::Claimed => "failed",
        }
    }
}

impl StatementLine {
    /// The query that leads to its model.
    fn query(&self) -> String {
        query_of(&[("model".to_owned(), self.model.clone())])
    }

    /// The query that compares its model with another.
    fn compared_with(&self, model: &str) -> String {
        query_of(&[("model".to_owned(), model.to_owned()), ("with".to_owned(), self.model.clone())])
    }

    /// The beginning of its commit.
    fn short_commit(&self) -> String {
        self.commit.iter().flat_map(|commit| commit.chars()).take(12).collect()
    }

    /// Where its change is read, if that is on the web.
    fn link(&self) -> Option<&str> {
        let url = self.change.as_deref()?;
        (url.starts_with("https://") || url.starts_with("http://")).then_some(url)
    }
}
