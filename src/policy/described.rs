//! A question as people write it: a caller and a request in words, named and judged like a real one.
//!
//! `policy test`, `policy why` and `can-i` make their questions here, so that they differ from the
//! gate's in nothing but where caller and request come from. A caller described here proves nothing:
//! no permit can be made of one.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use http::{HeaderMap, Method};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Azure, DecisionId, DenialCode, Judgement, OpenGlass, PolicySet, Question, RequestFacts, Standing, words,
};
use crate::{
    azureml::{
        self, Act, Action, Audience, BodyNeed, Effect, Effects, Facts, Inspected, Naming, Operation,
        Protocol, ResourceId,
    },
    cloud::{Cloud, Service},
    http::Target,
    identity::{Caller, GerritGroup, Groups, PrincipalId, PrincipalKind, ReviewerGroups, TRIGGER},
    time::Timestamp,
};

/// A caller in words: `as` of a test case, `--as` of `policy why`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribedCaller {
    /// The issuer's name in the configuration.
    pub issuer: String,
    /// The subject; of an Entra issuer `TENANT/OBJECT_ID`.
    #[serde(default)]
    pub subject: String,
    /// Groups; absent: none.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Whether the token names more groups than it carries.
    #[serde(default)]
    pub overage: bool,
    /// Groups of Gerrits, by the server's name; absent: none.
    #[serde(default)]
    pub gerrit_groups: BTreeMap<String, Vec<String>>,
    /// Application roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// `person`, `machine`, `agent` (for the subject) or `autonomous_agent`; absent: a person.
    #[serde(default)]
    pub kind: Option<PrincipalKind>,
    /// The Entra tenant.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The client that the token was issued to; of an agent, the agent.
    #[serde(default)]
    pub client: Option<String>,
    /// The trigger of the policies that acts for the subject.
    #[serde(default)]
    pub trigger: Option<String>,
    /// Further claims.
    #[serde(default)]
    pub claims: Map<String, Value>,
}

impl DescribedCaller {
    fn starts(&self, claim: &str, with: &str) -> bool {
        self.claims.get(claim).and_then(Value::as_str).is_some_and(|held| held.starts_with(with))
    }

    /// The caller as policies see it.
    #[must_use]
    pub fn caller(&self) -> Caller {
        let groups = self.groups.iter().map(|g| g.as_str().into()).collect();
        let reviewers = self.gerrit_groups.iter().flat_map(|(server, groups)| {
            let of =
                |group: &String| GerritGroup { server: server.as_str().into(), group: group.as_str().into() };
            groups.iter().map(of)
        });
        Caller {
            id: PrincipalId { issuer: self.issuer.as_str().into(), subject: self.subject.as_str().into() },
            kind: match &self.trigger {
                Some(_) => PrincipalKind::Agent,
                None => self.kind.unwrap_or(PrincipalKind::Person),
            },
            tenant: self.tenant.as_deref().map(Into::into),
            client: match &self.trigger {
                Some(trigger) => Some(format!("{TRIGGER}{trigger}").into()),
                None => self.client.as_deref().map(Into::into),
            },
            display: None,
            groups: if self.overage { Groups::Overage } else { Groups::Known(groups) },
            roles: self.roles.iter().map(|r| r.as_str().into()).collect(),
            claims: Arc::new(self.claims.clone()),
            expires: Timestamp::from_secs(u64::MAX / 2_000),
            // Whether the issuer's `accept` names such events is not known here: in doubt it does not.
            from_pull_request: self.starts("event_name", "pull_request")
                || self.claims.contains_key("repository_id") && self.starts("ref", "refs/pull/"),
            subjects_at_issue: None,
            reviewers: Some(Arc::new(ReviewerGroups::all(reviewers.collect()))),
            human: None,
            token_digest: [0; 32],
        }
    }
}

/// Why words make no question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoQuestion {
    /// The URL.
    #[error("`{url}` is no URL of Azure's: {why}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The resource.
    #[error("`{0}` is no resource's id")]
    Resource(String),
    /// The host.
    #[error("no route has the host `{0}`: the gate would answer 404, whoever asks; add it to `routes`")]
    NoRoute(String),
    /// The method.
    #[error("`{0}` is no method")]
    Method(String),
    /// The body.
    #[error("the body cannot be judged: {0}")]
    Body(String),
}

/// A route, as far as naming needs it.
#[derive(Debug, Clone)]
pub struct Door {
    /// The route's name.
    pub route: Arc<str>,
    /// How it names.
    pub naming: Naming,
}

impl Door {
    /// The door that a host of Azure's has without any configuration; `None` for other hosts.
    #[must_use]
    pub fn of_azure(host: &str) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        let (route, protocol) = match Cloud::all().iter().find_map(|cloud| cloud.service(&host))? {
            Service::ResourceManager => ("arm", Protocol::Arm),
            Service::DataPlane => ("data-plane", Protocol::Azureml),
            Service::Inference => ("inference", Protocol::Inference),
            Service::KeyVault => ("vault", Protocol::KeyVault),
            Service::Storage => ("storage", Protocol::Storage),
        };
        Some(Self::new(route, protocol, &host))
    }

    /// The door of a host that is only known as one of some route.
    #[must_use]
    pub fn of_any(host: &str) -> Self {
        Self::new("http", Protocol::Http, &host.to_ascii_lowercase())
    }

    fn new(route: &str, protocol: Protocol, host: &str) -> Self {
        Self { route: route.into(), naming: Naming { protocol, upstream_host: host.into(), resource: None } }
    }
}

/// A request in words.
#[derive(Debug, Clone)]
pub struct DescribedRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The whole URL, with Azure's host.
    pub url: &'a str,
    /// The JSON body.
    pub body: Option<&'a [u8]>,
    /// Where it comes from.
    pub from: SocketAddr,
    /// When.
    pub at: Timestamp,
    /// What the URL does not say: the resource behind an endpoint.
    pub resource: Option<ResourceId>,
}

/// An action in words.
#[derive(Debug, Clone)]
pub struct DescribedAct<'a> {
    /// The Azure action.
    pub action: &'a str,
    /// What it is done to: an ARM id.
    pub resource: &'a str,
    /// The route by which it comes.
    pub route: &'a str,
    /// Where it comes from.
    pub from: SocketAddr,
    /// When.
    pub at: Timestamp,
}

/// A question with an answer for everybody who asks it: what is not known is denied.
#[derive(Debug)]
pub struct Described {
    /// The caller.
    pub caller: Caller,
    /// What the request means; `None` if it cannot be named.
    pub operation: Option<Operation>,
    /// The request.
    pub request: RequestFacts,
    unnamed: Option<Box<super::Denial>>,
    standing: Standing,
    azure: Azure,
    /// Whether it is about an action, and not about one request.
    any_request: bool,
}

impl Described {
    /// Names a request and completes it with its body, as the gate does.
    ///
    /// # Errors
    /// [`NoQuestion`] if the words make no request; a request that cannot be named is a question
    /// all the same, whose answer is a denial.
    pub fn new(
        caller: Caller,
        words_of: &DescribedRequest<'_>,
        door: impl FnOnce(&str) -> Option<Door>,
    ) -> Result<Self, NoQuestion> {
        let wrong = |why: &str| NoQuestion::Url { url: words_of.url.to_owned(), why: why.to_owned() };
        let rest = words_of.url.strip_prefix("https://").ok_or_else(|| wrong("it begins with `https://`"))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = if path.is_empty() { "/" } else { path };
        let target = Target::parse(host, path).map_err(|error| wrong(&error.to_string()))?;
        let method: Method = words_of
            .method
            .to_ascii_uppercase()
            .parse()
            .map_err(|_| NoQuestion::Method(words_of.method.to_owned()))?;
        let mut door = door(host).ok_or_else(|| NoQuestion::NoRoute(host.to_owned()))?;
        if door.naming.resource.is_none() {
            door.naming.resource.clone_from(&words_of.resource);
        }
        let inspected = words_of
            .body
            .map(Inspected::parse)
            .transpose()
            .map_err(|refusal| NoQuestion::Body(refusal.to_string()))?
            .map(Arc::new);
        let request = RequestFacts {
            decision: DecisionId::fresh(),
            route: Arc::clone(&door.route),
            method: method.clone(),
            target,
            headers: HeaderMap::new(),
            body: inspected,
            source: words_of.from,
            received: words_of.at,
            glass: None,
        };
        let named = match azureml::name(&door.naming, &method, &request.target) {
            Ok(named) => named,
            Err(unknown) => {
                let unnamed = Some(Box::new(super::Denial::unknown_operation(&unknown)));
                let standing = Standing::Entries;
                return Ok(Self {
                    caller,
                    operation: None,
                    request,
                    unnamed,
                    standing,
                    azure: Azure::default(),
                    any_request: false,
                });
            }
        };
        if named.body_need() == BodyNeed::Inspect && request.body.is_none() {
            return Err(NoQuestion::Body(format!(
                "`{}` does what its body says, and there is none",
                named.so_far().name
            )));
        }
        let operation = named
            .complete(request.body.as_deref())
            .map_err(|refusal| NoQuestion::Body(refusal.to_string()))?;
        Ok(Self::of(caller, operation, request, Standing::Entries))
    }

    /// A question whose parts are known: out of a record.
    #[must_use]
    pub fn of(caller: Caller, operation: Operation, request: RequestFacts, standing: Standing) -> Self {
        Self {
            caller,
            operation: Some(operation),
            request,
            unnamed: None,
            standing,
            azure: Azure::default(),
            any_request: false,
        }
    }

    /// An action at a resource, whatever request does it: for `can-i`. It has the effects and secrets
    /// that all requests have which do it ([`Described::hinges`] tells of the others); conditions on
    /// the request see a GET without query, headers and body.
    ///
    /// # Errors
    /// [`NoQuestion::Resource`] if the resource's id is none.
    pub fn act(caller: Caller, words: &DescribedAct<'_>) -> Result<Self, NoQuestion> {
        let wrong = || NoQuestion::Resource(words.resource.to_owned());
        let id = ResourceId::parse(words.resource).ok_or_else(wrong)?;
        let target =
            Target::parse(Cloud::public().resource_manager_host(), id.as_str()).map_err(|_| wrong())?;
        let action = Action::new(words.action);
        let doings = azureml::action::doings(&action);
        let operation = Operation {
            name: words.action.into(),
            acts: vec![Act { action, resource: Some(id) }],
            kind: doings.kind,
            effects: doings.always,
            unclear_effects: Effects::NONE,
            secrets: doings.secrets,
            facts: Facts::default(),
            audience: Audience::Arm,
            long_running: false,
            protocol: Protocol::Arm,
        };
        let request = RequestFacts {
            decision: DecisionId::fresh(),
            route: words.route.into(),
            method: Method::GET,
            target,
            headers: HeaderMap::new(),
            body: None,
            source: words.from,
            received: words.at,
            glass: None,
        };
        Ok(Self { any_request: true, ..Self::of(caller, operation, request, Standing::Entries) })
    }

    /// Where an action that is allowed is refused after all, or needs a review or an approval that it
    /// does not need otherwise: effects that some requests have which do it, each with the code and
    /// the cause that it brings.
    #[must_use]
    pub fn hinges(&self, set: &PolicySet) -> Vec<(Effect, DenialCode, String)> {
        let Some(operation) = &self.operation else { return Vec::new() };
        let without = self.judge(set);
        if !self.any_request || without.denial.is_some() {
            return Vec::new();
        }
        let without = without.wanted();
        let sometimes = operation
            .acts
            .iter()
            .map(|act| azureml::action::doings(&act.action).sometimes)
            .collect::<Vec<_>>();
        let sometimes = sometimes.into_iter().fold(Effects::NONE, Effects::union);
        let with = |effect: Effect| {
            let operation = Operation { effects: operation.effects.with(effect), ..operation.clone() };
            let question = Question { operation: &operation, ..self.question()? };
            let judgement = set.judge(&question);
            let wanted = judgement.wanted().filter(|wanted| Some(wanted) != without.as_ref());
            let (code, cause) = match judgement.denial {
                Some(denial) => (denial.code, denial.cause),
                None => wanted.map(|wanted| (wanted.code, wanted.words))?,
            };
            Some((effect, code, cause))
        };
        sometimes.iter().filter_map(with).collect()
    }

    /// The same with what was read of the caller's own rights in Azure.
    #[must_use]
    pub fn with_azure(self, azure: Azure) -> Self {
        Self { azure, ..self }
    }

    /// The same under a break-glass that the caller holds open, if there is one.
    #[must_use]
    pub fn under(mut self, glass: Option<Arc<OpenGlass>>) -> Self {
        self.request.glass = glass;
        self
    }

    /// The role assignment in Azure that grants the first of its acts, in words, if that was read.
    #[must_use]
    pub fn assignment(&self) -> Option<String> {
        let act = self.operation.as_ref()?.acts.first()?;
        self.azure.granting(act.action.as_str(), act.resource.as_ref()?)
    }

    /// Where the caller's own rights in Azure must be read before it can be judged
    /// ([`PolicySet::azure_scopes`]).
    #[must_use]
    pub fn azure_scopes(&self, set: &PolicySet) -> Vec<ResourceId> {
        self.operation
            .as_ref()
            .map(|operation| set.azure_scopes(&self.caller, operation, &self.request))
            .unwrap_or_default()
    }

    /// The question; `None` if the request cannot be named.
    #[must_use]
    pub fn question(&self) -> Option<Question<'_>> {
        Some(Question {
            caller: &self.caller,
            operation: self.operation.as_ref()?,
            request: &self.request,
            now: self.request.received,
            standing: self.standing,
            azure: &self.azure,
        })
    }

    /// The gate's own answer.
    #[must_use]
    pub fn judge(&self, set: &PolicySet) -> Judgement {
        match self.question() {
            Some(question) => set.judge(&question),
            None => Judgement { denial: self.unnamed.as_deref().cloned(), ..Judgement::default() },
        }
    }

    /// What it is about, on one line.
    #[must_use]
    pub fn about(&self) -> String {
        match &self.operation {
            Some(operation) => words::about(operation),
            None => {
                format!("`{} {}`, which cannot be named", self.request.method, self.request.target.path())
            }
        }
    }
}
