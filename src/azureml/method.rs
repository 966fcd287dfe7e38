//! Azure's actions in the form of gRPC methods, which is how Clutch names what is done.
//!
//! `Microsoft.MachineLearningServices/workspaces/jobs/cancel/action` is `/azureml.v1.JobsAPI/Cancel`.
//! The form follows from the action alone, so that there is no second list of rights to keep: roles
//! that are read from Clutch, questions that are put to it and records in its shape all use it.

use std::fmt;

use super::{Kind, ResourceId};

/// The provider whose methods are `azureml.v1`.
const ML: &str = "Microsoft.MachineLearningServices";

/// A service and one of its methods.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FullMethod {
    /// `azureml.v1.JobsAPI`.
    pub service: String,
    /// `Cancel`.
    pub method: String,
}

impl FullMethod {
    /// The method of an action.
    #[must_use]
    pub fn of(action: &str) -> Self {
        let mut segments: Vec<&str> = action.split('/').filter(|s| !s.is_empty()).collect();
        // `x/cancel/action` is a verb of its own; `x/action` alone would be the verb `action`.
        if segments.len() > 2 && segments.last().is_some_and(|last| last.eq_ignore_ascii_case("action")) {
            segments.pop();
        }
        let verb = segments.pop().unwrap_or_default();
        let (namespace, types) = segments.split_first().map_or(("", &[][..]), |(n, types)| (*n, types));
        Self { service: format!("{}.v1.{}API", package(namespace), joined(types)), method: words(verb) }
    }
}

impl fmt::Display for FullMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/{}", self.service, self.method)
    }
}

/// `azureml.v1.Jobs`: what sort of thing an id names.
#[must_use]
pub fn type_url(resource: &ResourceId) -> String {
    let segments: Vec<&str> = resource.as_str().split('/').filter(|s| !s.is_empty()).collect();
    let provider = segments.iter().rposition(|s| s.eq_ignore_ascii_case("providers"));
    let (package, named) =
        match provider.and_then(|at| Some((segments.get(at + 1)?, segments.get(at + 2..)?))) {
            Some((namespace, named)) => (package(namespace), named),
            None => ("azure".to_owned(), segments.as_slice()),
        };
    let mut types: Vec<&str> = named.iter().step_by(2).copied().collect();
    // A group lies in its subscription as a job lies in its workspace.
    if provider.is_none() && types.len() > 1 {
        types.remove(0);
    }
    match joined(&types) {
        // `/` is all that a tenant has.
        none if none.is_empty() => format!("{package}.v1.Tenants"),
        types => format!("{package}.v1.{types}"),
    }
}

/// Clutch's kinds of action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ActionType {
    /// Something comes to be.
    Create,
    /// Nothing changes.
    Read,
    /// Something is changed.
    Update,
    /// Something is removed.
    Delete,
}

impl ActionType {
    /// All of them, in the order of their numbers from 1 on.
    pub const ALL: [Self; 4] = [Self::Create, Self::Read, Self::Update, Self::Delete];

    /// Clutch's own spelling.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Read => "READ",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    /// What of Clutch's a kind comes to. Azure has one right for creating and for changing, so that
    /// whoever may write may do both.
    #[must_use]
    pub const fn all_of(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::Read => &[Self::Read],
            Kind::Write => &[Self::Create, Self::Update],
            Kind::Delete => &[Self::Delete],
            Kind::Action => &[Self::Update],
        }
    }
}

fn package(namespace: &str) -> String {
    if namespace.eq_ignore_ascii_case(ML) {
        return "azureml".to_owned();
    }
    let folded = namespace.to_ascii_lowercase();
    match folded.strip_prefix("microsoft.") {
        Some(provider) => format!("azure.{provider}"),
        None => folded,
    }
}

/// Types of resources as one word. Nearly everything lies in a workspace, so that this is not said.
fn joined(types: &[&str]) -> String {
    let types = match types {
        [first, rest @ ..] if !rest.is_empty() && first.eq_ignore_ascii_case("workspaces") => rest,
        all => all,
    };
    types.iter().map(|segment| words(segment)).collect()
}

/// `listKeys` is `ListKeys`, `rbac.k8s.io` is `RbacK8sIo`.
fn words(segment: &str) -> String {
    let mut all = String::with_capacity(segment.len());
    for word in segment.split(|c: char| !c.is_ascii_alphanumeric()) {
        let mut letters = word.chars();
        all.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        all.push_str(letters.as_str());
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::azureml::action;

    #[test]
    fn an_action_reads_as_a_method_of_a_service() {
        for (action, method) in [
            ("Microsoft.MachineLearningServices/workspaces/jobs/cancel/action", "/azureml.v1.JobsAPI/Cancel"),
            ("Microsoft.MachineLearningServices/workspaces/jobs/write", "/azureml.v1.JobsAPI/Write"),
            ("Microsoft.MachineLearningServices/workspaces/read", "/azureml.v1.WorkspacesAPI/Read"),
            (
                "microsoft.machinelearningservices/workspaces/onlineEndpoints/deployments/delete",
                "/azureml.v1.OnlineEndpointsDeploymentsAPI/Delete",
            ),
            (
                "Microsoft.KeyVault/vaults/secrets/getSecret/action",
                "/azure.keyvault.v1.VaultsSecretsAPI/GetSecret",
            ),
            ("amlgate/requests/approve/action", "/amlgate.v1.RequestsAPI/Approve"),
            (
                "kubernetes/rbac.authorization.k8s.io/roles/get",
                "/kubernetes.v1.RbacAuthorizationK8sIoRolesAPI/Get",
            ),
            ("http/get", "/http.v1.API/Get"),
            ("unknown", "/.v1.API/Unknown"),
        ] {
            assert_eq!(FullMethod::of(action).to_string(), method, "{action}");
        }
    }

    #[test]
    fn no_two_actions_have_one_method() {
        let mut seen = HashMap::new();
        for action in action::known() {
            let method = FullMethod::of(action.as_str()).to_string().to_ascii_lowercase();
            let other = seen.insert(method.clone(), action);
            assert_eq!(other, None, "{method}");
        }
        assert!(seen.len() > 200, "{}", seen.len());
    }

    #[test]
    fn an_id_says_what_sort_of_thing_it_names() {
        let of = |id: &str| type_url(&ResourceId::parse(id).unwrap());
        let workspace =
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w";
        assert_eq!(of(workspace), "azureml.v1.Workspaces");
        assert_eq!(of(&format!("{workspace}/jobs/j")), "azureml.v1.Jobs");
        assert_eq!(
            of(&format!("{workspace}/onlineEndpoints/e/deployments/d")),
            "azureml.v1.OnlineEndpointsDeployments"
        );
        assert_eq!(of("/subscriptions/s"), "azure.v1.Subscriptions");
        assert_eq!(of("/subscriptions/s/resourceGroups/g"), "azure.v1.ResourceGroups");
        assert_eq!(of("/"), "azure.v1.Tenants");
    }
}
