//! Whether a trigger asks for something that Azure ML knows and that a change can start: tried with a change
//! that might be, when the policies are compiled.

use std::sync::Arc;

use http::Method;

use super::{Change, Put, Trigger};
use crate::{
    azureml::{self, BodyRefusal, Inspected, Kind, Naming, Protocol},
    cloud::Cloud,
    http::Target,
};

/// The types whose bodies have their tags where the gate puts its own.
const KINDS: [&str; 3] = ["jobs", "schedules", "versions"];

/// Why a trigger is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::policy) enum Unfit {
    /// Its body is refused.
    #[error("`body` is none that Azure ML takes: {0}")]
    Body(BodyRefusal),
    /// Its path names nothing.
    #[error("Azure ML has no such thing to put: {0}")]
    Path(String),
    /// It is of another kind.
    #[error("a trigger starts a job or a schedule, or registers a version of an asset")]
    Kind,
}

impl Unfit {
    /// How to mend it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Body(_) => "write it as Azure takes it: `{properties: {jobType: Command, ...}}`",
            Self::Path(_) => "write a path of Resource Manager: `${scope}/jobs/train-${change}-${commit12}`",
            Self::Kind => "write a path below `/jobs`, `/schedules`, or `/data/NAME/versions` and the like",
        }
    }
}

impl Trigger {
    /// # Errors
    /// [`Unfit`].
    pub(in crate::policy) fn fits(&self) -> Result<(), Unfit> {
        let put = self.tried().map_err(Unfit::Body)?;
        let host: Arc<str> = Cloud::public().resource_manager_host().into();
        let target = Target::parse(&host, &put.target).map_err(|why| Unfit::Path(why.0.into()))?;
        let naming = Naming { protocol: Protocol::Arm, upstream_host: host, resource: None };
        let named = azureml::name(&naming, &Method::PUT, &target);
        let named = named.map_err(|unknown| Unfit::Path(unknown.path))?;
        let resource = named.so_far().acts.first().and_then(|act| act.resource.as_ref());
        let kind = resource.and_then(|id| id.as_str().rsplit('/').nth(1));
        let known = kind.is_some_and(|kind| KINDS.iter().any(|known| kind.eq_ignore_ascii_case(known)));
        if !known || named.so_far().kind != Kind::Write {
            return Err(Unfit::Kind);
        }
        let body = Inspected::parse(put.body.as_bytes()).map_err(Unfit::Body)?;
        named.complete(Some(&body)).map(drop).map_err(Unfit::Body)
    }

    /// What it puts for a change that might be.
    ///
    /// # Errors
    /// [`BodyRefusal`].
    pub(super) fn tried(&self) -> Result<Put, BodyRefusal> {
        let commit = "0".repeat(40);
        self.put(Change { number: 1, commit: &commit }, &[("amlgate.trigger", self.entry.name.to_string())])
    }
}
