//! What is known of an action without a request that does it: for `can-i`.

use super::{Action, Effect, Effects, Kind, Secrets, catalogue::Catalogue};

/// What the requests have in common that do an action, and what some of them bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doings {
    /// The kind that all have; for an action that no catalogued request does, by its last word.
    pub kind: Kind,
    /// Effects that each has.
    pub always: Effects,
    /// Effects that some have, or that a body may add.
    pub sometimes: Effects,
    /// Secrets in every answer.
    pub secrets: Secrets,
}

/// The actions of all requests to Azure Resource Manager that the gate knows, each once, in order.
#[must_use]
pub fn all() -> Vec<&'static Action> {
    Catalogue::get().arm_actions()
}

/// Rights that no row of the catalogue has, because the requests that need them are known by their host.
const OF_HOSTS: &[&str] = &[
    "Microsoft.KeyVault/vaults/secrets/delete",
    "Microsoft.KeyVault/vaults/secrets/getSecret/action",
    "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
    "Microsoft.KeyVault/vaults/secrets/setSecret/action",
    "Microsoft.MachineLearningServices/workspaces/batchEndpoints/jobs/write",
    "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action",
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete",
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
];

/// Every right of Azure that a request through the gate can need, each once, in order.
#[must_use]
pub fn known() -> Vec<Action> {
    let mut found: Vec<_> = Catalogue::get().actions().into_iter().cloned().collect();
    found.extend(OF_HOSTS.iter().map(|text| Action::new(text)));
    found.sort_unstable_by_key(|action| action.as_str().to_ascii_lowercase());
    found.dedup();
    found
}

/// What is known of an action.
#[must_use]
pub fn doings(action: &Action) -> Doings {
    let rows = Catalogue::get().of_action(action);
    let by_word =
        || match action.as_str().rsplit('/').next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "read" => Kind::Read,
            "write" => Kind::Write,
            "delete" => Kind::Delete,
            _ => Kind::Action,
        };
    let Some((first, others)) = rows.split_first() else {
        return Doings {
            kind: by_word(),
            always: Effects::NONE,
            sometimes: Effects::NONE,
            secrets: Secrets::NONE,
        };
    };
    let always = others.iter().fold(first.effects, |all, row| all.intersection(row.effects));
    let some = rows.iter().fold(Effects::NONE, |all, row| all.union(row.effects));
    let added = rows.iter().any(|row| row.body);
    let sometimes = Effect::ALL.iter().filter(|e| !always.contains(**e) && (added || some.contains(**e)));
    Doings {
        kind: if others.iter().all(|row| row.kind == first.kind) { first.kind } else { by_word() },
        always,
        sometimes: sometimes.copied().collect(),
        secrets: others.iter().fold(first.secrets, |all, row| all.intersection(row.secrets)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azureml::SecretClass;

    fn of(action: &str) -> Doings {
        doings(&Action::new(&format!("Microsoft.MachineLearningServices/workspaces/{action}")))
    }

    #[test]
    fn an_action_is_what_its_requests_have_in_common() {
        let keys = of("ONLINEENDPOINTS/listkeys/action");
        assert_eq!((keys.kind, keys.secrets), (Kind::Action, Secrets::NONE.with(SecretClass::EndpointKey)));
        let compute = of("computes/write");
        assert_eq!(compute.kind, Kind::Write);
        assert!(compute.always.union(compute.sometimes).contains(Effect::AllocateCompute));
        assert!(compute.always.union(compute.sometimes).contains(Effect::ExposeNetwork));
        assert_eq!(of("computes/stop/action").always, Effects::NONE.with(Effect::StopCompute));
    }

    #[test]
    fn what_is_known_by_its_host_is_known_here_too() {
        use crate::{
            azureml::{Naming, Protocol, ResourceId},
            http::Target,
        };
        let named = |protocol, resource: Option<&str>, method: &str, path: &str| {
            let resource = resource.map(|id| ResourceId::parse(id).unwrap());
            let naming = Naming { protocol, resource, upstream_host: "h".into() };
            let method = http::Method::from_bytes(method.as_bytes()).unwrap();
            let named = crate::azureml::name(&naming, &method, &Target::parse("h", path).unwrap()).unwrap();
            named.operation.acts[0].action.clone()
        };
        let mut found = Vec::new();
        for (method, path) in
            [("GET", "/secrets"), ("GET", "/secrets/a"), ("PUT", "/secrets/a"), ("DELETE", "/secrets/a")]
        {
            found.push(named(Protocol::KeyVault, None, method, path));
        }
        for method in ["GET", "PUT", "DELETE"] {
            found.push(named(Protocol::Storage, None, method, "/container/blob"));
        }
        found.push(named(Protocol::Inference, Some("/s/onlineEndpoints/e"), "POST", "/score"));
        found.push(named(Protocol::Inference, Some("/s/batchEndpoints/e"), "POST", "/jobs"));
        assert_eq!(found.len(), OF_HOSTS.len());
        for action in &found {
            assert!(OF_HOSTS.iter().any(|of_host| Action::new(of_host) == *action), "{action:?}");
        }
        assert!(known().windows(2).all(|two| two[0] != two[1]));
    }

    #[test]
    fn of_an_action_that_no_request_does_only_its_last_word_is_known() {
        let nothing = doings(&Action::new("Microsoft.Other/things/delete"));
        assert_eq!(
            (nothing.kind, nothing.sometimes, nothing.secrets),
            (Kind::Delete, Effects::NONE, Secrets::NONE)
        );
    }
}
