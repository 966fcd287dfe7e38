//! What Azure itself lets a caller do: role assignments, role definitions and deny assignments as
//! they were read at an instant, judged as Azure judges them.
//!
//! An entry with `rights: azure` asks for it. Nothing is fetched here: whoever asks the judge looks
//! first which scopes could count ([`PolicySet::azure_scopes`](super::PolicySet::azure_scopes)) and
//! hands in what was read of them. What was not read, cannot be told, or hangs on a condition
//! grants nothing, and the answer names the reason.

use std::{fmt, sync::Arc};

use super::roles::{Role, RoleDefinition};
use crate::{azureml::ResourceId, identity::Caller, time::Timestamp};

/// The object of Entra that a caller is, or that the same human is by `people`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntraObject {
    /// The tenant's id.
    pub tenant: Box<str>,
    /// The object's id, lower case.
    pub object: Box<str>,
}

impl EntraObject {
    /// The object that `caller` is in Entra: its own, else that of the human whom `people` takes it
    /// for. `None` for everybody else, who has no rights in Azure.
    #[must_use]
    pub fn of(caller: &Caller) -> Option<Self> {
        // `people.canonical` is an Entra issuer, and only Entra's callers have a tenant.
        let subject = match (&caller.human, &caller.tenant) {
            (Some(human), _) => &human.subject,
            (None, Some(_)) => &caller.id.subject,
            (None, None) => return None,
        };
        let (tenant, object) = subject.split_once('/')?;
        let guid = |text: &str| uuid::Uuid::try_parse(text).is_ok();
        (guid(tenant) && guid(object)).then(|| Self {
            tenant: tenant.to_ascii_lowercase().into(),
            object: object.to_ascii_lowercase().into(),
        })
    }
}

/// Where an assignment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reach {
    /// At this resource, group or subscription, and below.
    Below(ResourceId),
    /// At this one only (`doNotApplyToChildScopes`).
    Only(ResourceId),
    /// Above every subscription that it was listed at: a management group, or the root.
    Everywhere,
}

impl Reach {
    /// Of an assignment at `scope` that was listed at `listed`. The ids of resources do not tell
    /// their management groups, but a list holds only those that the scope lies in.
    fn new(scope: ResourceId, listed: &ResourceId) -> Self {
        const GROUPS: &str = "/providers/microsoft.management/managementgroups/";
        let above = scope.folded() == "/" || scope.folded().starts_with(GROUPS);
        if above && listed.folded().starts_with("/subscriptions/") {
            Self::Everywhere
        } else {
            Self::Below(scope)
        }
    }

    fn holds(&self, resource: &ResourceId) -> bool {
        match self {
            Self::Below(scope) => resource.is_within(scope),
            Self::Only(scope) => resource == scope,
            Self::Everywhere => true,
        }
    }
}

/// A role assignment of the caller, directly or through a group.
#[derive(Debug, Clone)]
pub struct Assignment {
    id: Arc<str>,
    through: Option<Arc<str>>,
    reach: Reach,
    role: Arc<RoleDefinition>,
    conditional: bool,
}

impl Assignment {
    /// An assignment at `scope` that a list of `listed` holds. `through` is the group that it is
    /// given to, if it is not given to the caller itself. One with a condition grants nothing: what
    /// Azure would read to evaluate it is not known here.
    #[must_use]
    pub fn new(
        id: &str,
        through: Option<&str>,
        (scope, listed): (ResourceId, &ResourceId),
        role: Arc<RoleDefinition>,
        condition: Option<&str>,
    ) -> Self {
        Self {
            id: id.into(),
            through: through.map(Into::into),
            reach: Reach::new(scope, listed),
            role,
            conditional: condition.is_some_and(|text| !text.trim().is_empty()),
        }
    }

    /// The role's name and what it grants, block by block; `-` before what a block takes.
    #[must_use]
    pub fn role(&self) -> &RoleDefinition {
        &self.role
    }

    /// Whether a condition stands at the assignment.
    #[must_use]
    pub const fn is_conditional(&self) -> bool {
        self.conditional
    }
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "role assignment `{}` (`{}`", self.id, self.role.name())?;
        match &self.reach {
            Reach::Below(scope) | Reach::Only(scope) => write!(f, " at `{scope}`")?,
            Reach::Everywhere => f.write_str(" above the subscription")?,
        }
        match &self.through {
            Some(group) => write!(f, ", through group `{group}`)"),
            None => f.write_str(")"),
        }
    }
}

/// A deny assignment that names the caller, everybody, or a group of the caller's.
#[derive(Debug, Clone)]
pub struct DenyAssignment {
    name: Arc<str>,
    reach: Reach,
    denied: Arc<Role>,
}

impl DenyAssignment {
    /// One at `scope` that a list of `listed` holds. A condition of it is not looked at: it denies.
    #[must_use]
    pub fn new(
        name: &str,
        (scope, listed): (ResourceId, &ResourceId),
        only_there: bool,
        denied: Arc<Role>,
    ) -> Self {
        let reach = if only_there { Reach::Only(scope) } else { Reach::new(scope, listed) };
        Self { name: name.into(), reach, denied }
    }
}

/// What Azure lets one object do at a scope and below, as it was read.
#[derive(Debug, Clone)]
pub struct AzureRights {
    assignments: Box<[Assignment]>,
    denials: Box<[DenyAssignment]>,
    read: Timestamp,
}

/// What Azure says of one act.
#[derive(Debug, Clone, Copy)]
pub enum Word<'r> {
    /// An assignment grants it.
    Granted(&'r Assignment),
    /// A deny assignment takes it, whatever is granted.
    Denied(&'r str),
    /// Only this assignment would grant it, and it hangs on a condition.
    Conditional(&'r Assignment),
    /// Nothing grants it.
    Nothing,
}

impl AzureRights {
    /// What was read at `read`.
    #[must_use]
    pub fn new(assignments: Vec<Assignment>, denials: Vec<DenyAssignment>, read: Timestamp) -> Self {
        Self { assignments: assignments.into(), denials: denials.into(), read }
    }

    /// The instant that it was read at.
    #[must_use]
    pub const fn read(&self) -> Timestamp {
        self.read
    }

    /// Everything that is assigned.
    #[must_use]
    pub fn assignments(&self) -> &[Assignment] {
        &self.assignments
    }

    /// Azure's own decision: deny assignments first, then the union of what roles grant, each block
    /// minus its own `notActions`.
    #[must_use]
    pub fn word(&self, action: &str, resource: &ResourceId) -> Word<'_> {
        let denied = self.denials.iter().find(|d| d.reach.holds(resource) && d.denied.grants(action));
        if let Some(denied) = denied {
            return Word::Denied(&denied.name);
        }
        let here = || self.assignments.iter().filter(|a| a.reach.holds(resource));
        if let Some(granted) = here().find(|a| !a.conditional && a.role.grants(action)) {
            return Word::Granted(granted);
        }
        let conditional =
            |a: &&Assignment| (a.conditional && a.role.grants(action)) || a.role.grants_on_condition(action);
        here().find(conditional).map_or(Word::Nothing, Word::Conditional)
    }
}

/// Why nothing is known of a caller's rights at a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Azure knows the caller under no name.
    #[error("the caller has no object id of Entra, directly or through `people`, and so no rights in Azure")]
    NoObject,
    /// The object is of another tenant than the gate's identity.
    #[error("the caller is of tenant `{0}`, whose rights the gate's identity cannot read")]
    OtherTenant(Box<str>),
    /// Azure did not say, and what it last said is too old.
    #[error("the caller's rights in Azure could not be read: {0}")]
    Failed(Arc<str>),
}

/// What was read of one scope.
pub type Reading = (ResourceId, Result<Arc<AzureRights>, Unread>);

/// What was read of Azure for one question; the default: nothing.
#[derive(Debug, Clone, Default)]
pub struct Azure(Option<Arc<[Reading]>>);

/// Nothing was read.
pub static UNREAD: Azure = Azure(None);

impl Azure {
    /// What was read, scope by scope.
    #[must_use]
    pub fn new(readings: Vec<Reading>) -> Self {
        Self((!readings.is_empty()).then(|| readings.into()))
    }

    /// Of one scope; `None` if it was not asked about.
    #[must_use]
    pub fn at(&self, scope: &ResourceId) -> Option<&Result<Arc<AzureRights>, Unread>> {
        self.0.as_deref()?.iter().find(|(read, _)| read == scope).map(|(_, found)| found)
    }

    /// All that was read.
    pub fn readings(&self) -> &[Reading] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The assignments that grant `action` at `resource`, in words.
    #[must_use]
    pub fn granting(&self, action: &str, resource: &ResourceId) -> Option<String> {
        self.readings().iter().filter(|(scope, _)| resource.is_within(scope)).find_map(|(_, found)| {
            match found.as_ref().ok()?.word(action, resource) {
                Word::Granted(assignment) => Some(assignment.to_string()),
                Word::Denied(_) | Word::Conditional(_) | Word::Nothing => None,
            }
        })
    }
}
