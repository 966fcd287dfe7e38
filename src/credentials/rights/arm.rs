//! The questions to `Microsoft.Authorization`, and its answers.
//!
//! Documents: "List Azure role assignments using the REST API", "List Azure deny assignments using
//! the REST API". `assignedTo` follows groups, as deep as they go.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, de::DeserializeOwned};

use super::super::{CredentialError, Credentials, ServiceToken, error::retry_after};
use crate::{
    azureml::ResourceId,
    net::Destination,
    policy::roles::{Role, RoleDefinition},
};

const API_VERSION: &str = "2022-04-01";
/// A list of more pages is not believed to end.
const PAGES: usize = 200;
/// Of deny assignments: everybody.
const EVERYBODY: &str = "00000000-0000-0000-0000-000000000000";
const MEND: &str = "give the gate's identity a role with `Microsoft.Authorization/*/read` at the scope";

/// A role assignment as it is listed.
#[derive(Debug)]
pub(super) struct Listed {
    pub id: String,
    pub principal: String,
    pub scope: ResourceId,
    pub definition: String,
    pub condition: Option<String>,
}

/// A deny assignment as it is listed.
#[derive(Debug)]
pub(super) struct Denying {
    id: String,
    pub name: String,
    pub scope: ResourceId,
    pub only_there: bool,
    pub denied: Arc<Role>,
    principals: Vec<Named>,
    excluded: Vec<Named>,
}

/// A principal of a deny assignment.
#[derive(Debug, Deserialize)]
struct Named {
    id: String,
    #[serde(rename = "type", default)]
    kind: String,
}

impl Named {
    fn is(&self, object: &str) -> bool {
        self.id.eq_ignore_ascii_case(object)
    }

    fn is_everybody(&self) -> bool {
        self.is(EVERYBODY)
    }
}

impl Denying {
    fn is_named(&self, object: &str) -> bool {
        self.principals.iter().any(|p| p.is_everybody() || p.is(object))
    }

    fn is_excluded(&self, object: &str) -> bool {
        self.excluded.iter().any(|p| p.is(object))
    }

    /// Whether only Azure can tell if it concerns an object: it names groups, and not the object.
    pub(super) fn may_concern(&self, object: &str) -> bool {
        let groups = self.principals.iter().any(|p| !p.kind.eq_ignore_ascii_case("User"));
        groups && !self.is_named(object) && !self.is_excluded(object)
    }

    /// Whether it concerns an object; `assigned` are the ids of those that Azure lists for it. Who is
    /// excluded through a group cannot be told: it is denied.
    pub(super) fn concerns(&self, object: &str, assigned: &[String]) -> bool {
        let listed = || assigned.iter().any(|id| id.eq_ignore_ascii_case(&self.id));
        !self.is_excluded(object) && (self.is_named(object) || listed())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    value: Vec<T>,
    next_link: Option<String>,
}

#[derive(Deserialize)]
struct Item<P> {
    id: String,
    properties: P,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssignmentProperties {
    role_definition_id: String,
    principal_id: String,
    scope: String,
    condition: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DenyProperties {
    #[serde(default)]
    deny_assignment_name: String,
    permissions: serde_json::Value,
    scope: String,
    #[serde(default)]
    do_not_apply_to_child_scopes: bool,
    principals: Vec<Named>,
    #[serde(default)]
    exclude_principals: Vec<Named>,
}

/// Only the id.
#[derive(Deserialize)]
struct Bare {
    id: String,
}

/// Asks Resource Manager with one token.
pub(super) struct Reader<'r> {
    pub credentials: &'r Credentials,
    pub arm: &'r Destination,
    pub token: &'r ServiceToken,
}

impl Reader<'_> {
    /// Everything that is assigned to an object at, above and below a scope, groups followed.
    pub(super) async fn assignments(
        &self,
        scope: &ResourceId,
        object: &str,
    ) -> Result<Vec<Listed>, CredentialError> {
        let filter = format!("assignedTo('{object}')");
        let items: Vec<Item<AssignmentProperties>> =
            self.list(scope, "roleAssignments", Some(&filter)).await?;
        // What holds at a scope of an unknown form grants nothing.
        Ok(items.into_iter().filter_map(Listed::of).collect())
    }

    /// Every deny assignment at, above and below a scope.
    pub(super) async fn denials(&self, scope: &ResourceId) -> Result<Vec<Denying>, CredentialError> {
        let items: Vec<Item<DenyProperties>> = self.list(scope, "denyAssignments", None).await?;
        items.into_iter().map(Denying::try_from).collect()
    }

    /// The ids of the deny assignments that concern an object, groups followed.
    pub(super) async fn denied_to(
        &self,
        scope: &ResourceId,
        object: &str,
    ) -> Result<Vec<String>, CredentialError> {
        let filter = format!("assignedTo('{object}')");
        let items: Vec<Bare> = self.list(scope, "denyAssignments", Some(&filter)).await?;
        Ok(items.into_iter().map(|item| item.id).collect())
    }

    /// A role definition by its id; `None` if there is none.
    pub(super) async fn definition(&self, id: &str) -> Result<Option<RoleDefinition>, CredentialError> {
        let id = ResourceId::parse(id).ok_or_else(|| odd("a role definition's id"))?;
        match self.get(&format!("{id}?api-version={API_VERSION}")).await? {
            None => Ok(None),
            Some(body) => RoleDefinition::parse(&body).map(Some).ok_or_else(|| odd("a role definition")),
        }
    }

    async fn list<T: DeserializeOwned>(
        &self,
        scope: &ResourceId,
        kind: &str,
        filter: Option<&str>,
    ) -> Result<Vec<T>, CredentialError> {
        let at = scope.as_str().trim_end_matches('/');
        let filter = filter
            .map(|f| format!("&$filter={}", utf8_percent_encode(f, NON_ALPHANUMERIC)))
            .unwrap_or_default();
        let mut next =
            format!("{at}/providers/Microsoft.Authorization/{kind}?api-version={API_VERSION}{filter}");
        let mut all = Vec::new();
        for _ in 0..PAGES {
            let body = self.get(&next).await?.ok_or_else(|| missing(scope))?;
            let page: Page<T> = serde_json::from_slice(&body).map_err(|_| odd("a list"))?;
            all.extend(page.value);
            match page.next_link.filter(|link| !link.is_empty()) {
                None => return Ok(all),
                Some(link) => next = self.here(&link)?,
            }
        }
        Err(CredentialError::passing(format!("Azure's list of {kind} at `{scope}` does not end")))
    }

    /// A link to a further page, which must lead to Resource Manager too.
    fn here(&self, link: &str) -> Result<String, CredentialError> {
        let uri: Uri = link.parse().map_err(|_| odd("a link to a further page"))?;
        let same = uri.host().is_some_and(|host| host.eq_ignore_ascii_case(&self.arm.host));
        match uri.path_and_query() {
            Some(path) if same => Ok(path.as_str().to_owned()),
            Some(_) | None => Err(odd("a link to a further page")),
        }
    }

    /// The body of an answer; `None` for what does not exist.
    async fn get(&self, path: &str) -> Result<Option<Bytes>, CredentialError> {
        let request =
            Request::get(path).body(Bytes::new()).map_err(|_| CredentialError::local("no path", MEND))?;
        let answer = self.credentials.call(self.token, self.arm, request).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(Some(answer.into_body()));
        }
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let what = format!("Azure answered {status} when the gate read role assignments");
        Err(if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            CredentialError::Passing { what, retry_after: retry_after(answer.headers()) }
        } else {
            CredentialError::Fatal { code: status.as_str().to_owned(), what, mend: MEND }
        })
    }
}

fn odd(what: &str) -> CredentialError {
    CredentialError::passing(format!("Azure's answer cannot be read: {what} of an unknown form"))
}

fn missing(scope: &ResourceId) -> CredentialError {
    CredentialError::local(format!("Azure knows no `{scope}`"), "check `scope` of the entry with `rights`")
}

impl Listed {
    fn of(item: Item<AssignmentProperties>) -> Option<Self> {
        let Item { id, properties } = item;
        Some(Self {
            id,
            principal: properties.principal_id,
            scope: ResourceId::parse(&properties.scope)?,
            definition: properties.role_definition_id,
            condition: properties.condition,
        })
    }
}

impl TryFrom<Item<DenyProperties>> for Denying {
    type Error = CredentialError;

    fn try_from(item: Item<DenyProperties>) -> Result<Self, CredentialError> {
        let Item { id, properties } = item;
        let denied = Role::denied(properties.permissions).ok_or_else(|| odd("a deny assignment"))?;
        Ok(Self {
            name: if properties.deny_assignment_name.is_empty() {
                id.clone()
            } else {
                properties.deny_assignment_name
            },
            scope: ResourceId::parse(&properties.scope).ok_or_else(|| odd("a deny assignment's scope"))?,
            only_there: properties.do_not_apply_to_child_scopes,
            denied: Arc::new(denied),
            principals: properties.principals,
            excluded: properties.exclude_principals,
            id,
        })
    }
}
