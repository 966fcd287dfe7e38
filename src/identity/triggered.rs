//! A trigger of the policies as a caller: software of the gate's own that acts for the human who had a
//! change merged.
//!
//! Nobody signs in and there is no token. The gate read at the code host who did it, and `people.links`
//! says which human that is; of that human it knows the id and nothing else. So it belongs to subjects by
//! what is known alone: where one demands a group that nobody was asked about, or a claim, it counts as
//! perhaps a member, which lets nothing through and is held against it.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{Caller, Groups, IssuerKind, Principal, PrincipalId, PrincipalKind, Verifier};
use crate::time::Timestamp;

/// What the client of every trigger begins with; no other caller's does.
pub const TRIGGER: &str = "trigger:";
/// A caller of this kind is made for one call, which takes no longer.
const LIFE: Duration = Duration::from_secs(3_600);

/// What started a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The trigger's name in the policies.
    pub trigger: Arc<str>,
    /// The code host's name in the configuration.
    pub server: Arc<str>,
    /// The project there.
    pub project: String,
    /// The branch that the change went to.
    pub branch: String,
    /// The change's number.
    pub change: u64,
    /// The commit that was merged, whole.
    pub commit: String,
    /// When.
    pub at: Timestamp,
}

/// Nobody is there for whom a trigger could act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{person}` is no person of an Entra issuer of this gate")]
pub struct NobodyServed {
    person: String,
}

impl Verifier {
    /// A trigger that acts for `person`, issuer and subject as [`PrincipalId`] is written.
    ///
    /// # Errors
    /// [`NobodyServed`] if that is nobody whom an issuer of this gate could vouch for.
    pub fn triggered(&self, person: &str, merged: &Merged) -> Result<Principal, NobodyServed> {
        let nobody = || NobodyServed { person: person.to_owned() };
        let (issuer, subject) = person.split_once(':').ok_or_else(nobody)?;
        let keyring = self.named(issuer).ok_or_else(nobody)?;
        let IssuerKind::Entra { tenant, .. } = &keyring.issuer.kind else { return Err(nobody()) };
        let oid = subject.strip_prefix(&**tenant).and_then(|rest| rest.strip_prefix('/'));
        let is_oid =
            |oid: &str| uuid::Uuid::try_parse(oid).is_ok_and(|parsed| parsed.hyphenated().to_string() == oid);
        oid.filter(|oid| is_oid(oid)).ok_or_else(nobody)?;
        let claims = json!({
            // Whoever was revoked before they had it merged is no longer who did.
            "iat": merged.at.as_secs(),
            "sha": merged.commit,
            "gerrit": {
                "server": merged.server,
                "project": merged.project,
                "branch": merged.branch,
                "change": merged.change,
            },
        });
        Ok(Principal::of_trigger(Caller {
            id: PrincipalId { issuer: Arc::clone(&keyring.issuer.name), subject: subject.into() },
            human: None,
            kind: PrincipalKind::Agent,
            tenant: Some(tenant.as_ref().into()),
            client: Some(format!("{TRIGGER}{}", merged.trigger).into()),
            display: None,
            groups: Groups::Overage,
            reviewers: None,
            roles: Arc::default(),
            claims: Arc::new(claims.as_object().cloned().unwrap_or_default()),
            expires: self.now().plus(LIFE),
            from_pull_request: false,
            subjects_at_issue: None,
            token_digest: [0; 32],
        }))
    }
}

impl Caller {
    /// The name of the trigger that acts; `None` for everybody else.
    #[must_use]
    pub fn trigger(&self) -> Option<&str> {
        self.client.as_deref().filter(|_| self.kind == PrincipalKind::Agent)?.strip_prefix(TRIGGER)
    }

    /// The commit that was merged when a trigger acts, and its project as the gate calls it: server and
    /// name.
    #[must_use]
    pub fn merged(&self) -> Option<(&str, String)> {
        self.trigger()?;
        let gerrit = self.claims.get("gerrit")?;
        let text = |name: &str| gerrit.get(name).and_then(serde_json::Value::as_str);
        let commit = self.claims.get("sha")?.as_str()?;
        Some((commit, format!("{}/{}", text("server")?, text("project")?)))
    }
}
