//! The named operation: what every later room reasons about.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Descent, Inspected, ResourceId, inspected::BodyRefusal};

/// The protocol that a route speaks: it decides how a request is named and how errors look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Azure Resource Manager.
    Arm,
    /// The regional data plane: run history, MLflow, artifacts, `mferp`.
    Azureml,
    /// Scoring endpoints.
    Inference,
    /// Blob storage of the workspaces.
    Storage,
    /// Key Vault secrets.
    KeyVault,
    /// A Kubernetes API server.
    Kubernetes,
    /// Any other HTTP service.
    Http,
}

/// What a request does, in the coarsest words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Changes nothing; a POST that only queries is a read.
    Read,
    /// Creates or changes.
    Write,
    /// Removes.
    Delete,
    /// Does something else: starts, cancels, scores, lists keys.
    Action,
}

/// An Azure action as published, compared without case.
#[derive(Debug, Clone)]
pub struct Action(Arc<str>);

impl Action {
    /// From the published spelling.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The published spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Action {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Action {}

/// One thing that a request does: an Azure action on a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The Azure action.
    pub action: Action,
    /// What it is done to; `None` where the request does not say (a run id without its workspace):
    /// then `scope` cannot be evaluated (DECISIONS 3).
    pub resource: Option<ResourceId>,
}

macro_rules! small_set {
    ($(#[$doc:meta])* $set:ident of $item:ident { $($(#[$vdoc:meta])* $variant:ident = $name:literal),* $(,)? }) => {
        #[doc = concat!("One member of [`", stringify!($set), "`].")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $item { $($(#[$vdoc])* #[serde(rename = $name)] $variant),* }

        impl $item {
            /// All members, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name used in policies and records.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }

        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
        pub struct $set(u16);

        impl $set {
            /// The empty set.
            pub const NONE: Self = Self(0);

            /// This set and one member more.
            #[must_use]
            pub const fn with(self, item: $item) -> Self { Self(self.0 | 1 << item as u16) }

            /// All members of both.
            #[must_use]
            pub const fn union(self, other: Self) -> Self { Self(self.0 | other.0) }

            /// The members that both have.
            #[must_use]
            pub const fn intersection(self, other: Self) -> Self { Self(self.0 & other.0) }

            /// Whether `item` is a member.
            #[must_use]
            pub const fn contains(self, item: $item) -> bool { self.0 & (1 << item as u16) != 0 }

            /// Whether there is no member.
            #[must_use]
            pub const fn is_empty(self) -> bool { self.0 == 0 }

            /// The members, in the order of their declaration.
            pub fn iter(self) -> impl Iterator<Item = $item> {
                $item::ALL.iter().copied().filter(move |i| self.contains(*i))
            }
        }

        impl FromIterator<$item> for $set {
            fn from_iter<I: IntoIterator<Item = $item>>(items: I) -> Self {
                items.into_iter().fold(Self::NONE, Self::with)
            }
        }

        impl std::fmt::Debug for $set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_set().entries(self.iter().map($item::name)).finish()
            }
        }
    };
}

small_set! {
    /// What a request brings about, whichever door it comes through.
    Effects of Effect {
        /// A model version comes into being.
        RegisterModel = "register_model",
        /// A model begins to serve, or serves more traffic.
        DeployModel = "deploy_model",
        /// Compute is reserved or may be.
        AllocateCompute = "allocate_compute",
        /// Stopped compute starts.
        StartCompute = "start_compute",
        /// Running compute stops.
        StopCompute = "stop_compute",
        /// Something becomes reachable from a public network.
        ExposeNetwork = "expose_network",
        /// Who may do what changes.
        ChangeAccess = "change_access",
        /// Data flows in.
        UploadData = "upload_data",
        /// Data flows out.
        DownloadData = "download_data",
        /// Code runs as somebody other than its sender.
        RunCodeAsAnother = "run_code_as_another",
    }
}

small_set! {
    /// The classes of secrets that an answer holds.
    Secrets of SecretClass {
        /// A signed URL to write one asset.
        UploadSas = "upload_sas",
        /// A signed URL to read one asset.
        DownloadSas = "download_sas",
        /// A token of a run.
        RunToken = "run_token",
        /// The keys of a scoring endpoint.
        EndpointKey = "endpoint_key",
        /// A token for a scoring endpoint.
        EndpointToken = "endpoint_token",
        /// Credentials of a workspace connection.
        Connection = "connection",
        /// Credentials of a datastore.
        Datastore = "datastore",
        /// Keys of the workspace's own resources.
        WorkspaceKey = "workspace_key",
        /// Keys, passwords or kubeconfigs of compute.
        ComputeKey = "compute_key",
        /// Tokens and keys of notebooks.
        NotebookToken = "notebook_token",
    }
}

/// The audience of the Azure token that the operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// `https://management.azure.com`: ARM and the data plane.
    Arm,
    /// `https://ml.azure.com`: scoring with Entra tokens, batch invocations.
    MachineLearning,
    /// Microsoft Graph: the gate's own questions only.
    Graph,
    /// `https://vault.azure.net`.
    KeyVault,
    /// `https://storage.azure.com`.
    Storage,
    /// `https://monitor.azure.com`: Logs Ingestion, which only the gate itself calls.
    Monitor,
    /// API servers of Azure Kubernetes Service and of clusters that Arc connects, which share one
    /// application of Entra.
    Kubernetes,
    /// None: the request carries no bearer of ours (`http` routes without a credential).
    None,
}

/// Upper bounds on what a request may reserve, summed over trials and children. `None` is not
/// known or without bound: a condition on it cannot be evaluated, and then counts as matching in
/// `deny` and `require`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Allocation {
    /// Nodes or instances at the same time.
    pub nodes: Option<u64>,
    /// VM sizes, as spelled; `None` if some are not said (a job on an existing cluster).
    pub skus: Option<Vec<String>>,
    /// GPUs at the same time, where every size is known.
    pub gpus: Option<u64>,
    /// Node hours.
    pub hours: Option<f64>,
}

/// What conditions can read of the resource and the act.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// What may be reserved, when the effect is `allocate_compute`. Boxed: few requests reserve anything.
    pub allocates: Option<Box<Allocation>>,
    /// The experiment, where the request names one.
    pub experiment: Option<String>,
    /// The storage container.
    pub container: Option<String>,
    /// The blob's path.
    pub blob: Option<String>,
    /// Tags that the body sets on the resource.
    pub tags: Option<std::collections::BTreeMap<String, String>>,
    /// What the models descend from that come into being or begin to serve; never empty of a request
    /// that registers or deploys, or may.
    pub descends: Vec<Descent>,
}

/// A request's meaning, complete: made by [`Named`] alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// The catalogue's name (`OnlineEndpoints_ListKeys`, `mlflow.runs.create`).
    pub name: Arc<str>,
    /// What it does; never empty. It is allowed only if every act is (DECISIONS 2).
    pub acts: Vec<Act>,
    /// The coarsest word for it.
    pub kind: Kind,
    /// What it brings about.
    pub effects: Effects,
    /// Effects that could not be determined: a selector on them cannot be evaluated.
    pub unclear_effects: Effects,
    /// Secrets in the answer.
    pub secrets: Secrets,
    /// What conditions read.
    pub facts: Facts,
    /// Which Azure token it needs.
    pub audience: Audience,
    /// Whether a polling URL may come back.
    pub long_running: bool,
    /// The protocol whose error shape an answer takes.
    pub protocol: Protocol,
}

impl Operation {
    /// What a call to the gate's own API does: an action of the gate (`amlgate/...`), on nothing of
    /// Azure's.
    #[must_use]
    pub fn of_the_gate(action: &str, kind: Kind) -> Self {
        Self {
            name: action.into(),
            acts: vec![Act { action: Action::new(action), resource: ResourceId::parse("/") }],
            kind,
            effects: Effects::NONE,
            unclear_effects: Effects::NONE,
            secrets: Secrets::NONE,
            facts: Facts::default(),
            audience: Audience::None,
            long_running: false,
            protocol: Protocol::Http,
        }
    }
}

/// Whether the meaning depends on the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyNeed {
    /// The body streams and is never read, unless a policy entry asks.
    Opaque,
    /// The body is read once, whole, into [`Inspected`].
    Inspect,
}

/// What naming may know besides the request: facts of the route.
#[derive(Debug, Clone)]
pub struct Naming {
    /// The route's protocol.
    pub protocol: Protocol,
    /// The upstream's host.
    pub upstream_host: Arc<str>,
    /// The route's `resource`, where the host does not say.
    pub resource: Option<ResourceId>,
}

/// Method, host and path are understood; the body may still add to the meaning.
#[derive(Debug, Clone)]
pub struct Named {
    pub(super) operation: Operation,
    pub(super) need: BodyNeed,
}

/// The request cannot be named, so it is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no Azure ML operation is known for `{method} {path}`")]
pub struct UnknownOperation {
    /// The method as sent.
    pub method: String,
    /// The path, without the query.
    pub path: String,
}

impl Named {
    /// Whether the meaning depends on the body.
    #[must_use]
    pub fn body_need(&self) -> BodyNeed {
        self.need
    }

    /// The operation as far as method, host and path tell it: enough to look for candidate entries.
    #[must_use]
    pub fn so_far(&self) -> &Operation {
        &self.operation
    }

    /// Completes the meaning; `body` must be given when [`Named::body_need`] is
    /// [`BodyNeed::Inspect`]; where it is given though nothing depends on it, it says what a model
    /// descends from.
    ///
    /// # Errors
    /// If a body is needed and missing, or one of its guarded members is of another type than Azure
    /// takes: then its effects would be a guess.
    pub fn complete(self, body: Option<&Inspected>) -> Result<Operation, BodyRefusal> {
        match (self.need, body) {
            (BodyNeed::Opaque, body) => super::doors::descends(self.operation, body.map(Inspected::value)),
            (BodyNeed::Inspect, Some(body)) => super::doors::complete(self.operation, body.value()),
            (BodyNeed::Inspect, None) => Err(BodyRefusal::Ambiguous(format!(
                "`{}` needs a JSON body: what it does stands there",
                self.operation.name
            ))),
        }
    }
}
