//! Which of Azure's actions a policy's methods and action types come to.

use super::{Why, glob::Glob};
use crate::{
    azureml::{
        Action, Kind,
        action::{self, doings},
        method::{ActionType, FullMethod},
    },
    policy::roles::ActionPattern,
};

const ML: &str = "Microsoft.MachineLearningServices/";

/// What no service or method of any version will be called.
const UNHEARD_OF: &str = "UnheardOf";

const PROXIED: Why = Why {
    message: "lets send requests through Clutch's proxy, and says nothing of what they do",
    hint: Some("amlgate judges them when they arrive; name what they do: `/azureml.v1.JobsAPI/Read`"),
};
const FOREIGN: Why = Why { message: "is none of Azure ML's", hint: None };
const OF_TYPE: Why = Why { message: "does nothing of the action types that are named beside it", hint: None };

/// What a policy lets do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rights {
    /// Azure's actions, as an entry lists them.
    pub actions: Vec<String>,
    /// Actions that the policy allows only in part, which are not among them.
    pub halved: Vec<String>,
}

impl Rights {
    /// The rights of a glob over methods, for some action types or for all.
    ///
    /// # Errors
    /// Why there are none.
    pub fn of(method: &str, types: Option<&[ActionType]>) -> Result<Self, Why> {
        let glob = Glob::parse(method)?;
        let pattern = glob.compiled()?;
        let fits = |action: &str| pattern.is_match(&FullMethod::of(action).to_string());
        let mut known = action::known();
        known.retain(|action| is_meant(&glob, action));
        let kind = |action: &Action| doings(action).kind;
        let covered = |kind: Kind| {
            let all = ActionType::all_of(kind);
            let named = |one: &ActionType| types.is_none_or(|types| types.contains(one));
            (all.iter().all(named), all.iter().any(named))
        };
        let matched: Vec<_> = known.iter().filter(|action| fits(action.as_str())).collect();
        let whole: Vec<_> = matched.iter().copied().filter(|action| covered(kind(action)).0).collect();
        let half = matched.iter().filter(|action| matches!(covered(kind(action)), (false, true)));
        let halved: Vec<_> = half.map(|action| action.as_str().to_owned()).collect();
        if matched.is_empty() {
            return Err(if method.starts_with("/clutch.proxy.") { PROXIED } else { FOREIGN });
        }
        if whole.is_empty() && halved.is_empty() {
            return Err(OF_TYPE);
        }
        // All actions with one ending, if the glob means those that are still to come, too.
        let unheard = |verb: &str| fits(&format!("{ML}{UNHEARD_OF}/{verb}"));
        let mut patterns = Vec::new();
        for (verb, kind, ending) in [
            ("read", Kind::Read, "read"),
            ("write", Kind::Write, "write"),
            ("delete", Kind::Delete, "delete"),
            (UNHEARD_OF, Kind::Action, "action"),
        ] {
            let text = format!("{ML}*/{ending}");
            let pattern = ActionPattern::new(&text);
            let all_of_it = known
                .iter()
                .filter(|action| pattern.matches(action.as_str()))
                .all(|action| whole.contains(&action));
            if unheard(verb) && covered(kind).0 && all_of_it {
                patterns.push((text, pattern));
            }
        }
        let rest = whole.iter().filter(|action| !patterns.iter().any(|(_, p)| p.matches(action.as_str())));
        let rest: Vec<_> = rest.map(|action| action.as_str().to_owned()).collect();
        let mut actions: Vec<_> = patterns.iter().map(|(text, _)| text.clone()).collect();
        // Azure has no other endings.
        if actions.len() == 4 {
            actions = vec![format!("{ML}*")];
        }
        actions.extend(rest);
        Ok(Self { actions, halved })
    }
}

/// Whether a glob speaks of an action's provider: of Azure ML always, of another only by its name. A
/// `*` in Clutch was written for Clutch's services, and not for role assignments.
fn is_meant(glob: &Glob, action: &Action) -> bool {
    let service = FullMethod::of(action.as_str()).service;
    let package = service.split_inclusive(".v1.").next().unwrap_or_default();
    package == "azureml.v1." || glob.literal.strip_prefix('/').is_some_and(|text| text.starts_with(package))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(method: &str, types: &[ActionType]) -> Vec<String> {
        let types = (!types.is_empty()).then_some(types);
        Rights::of(method, types).unwrap().actions
    }

    #[test]
    fn methods_are_the_actions_of_their_service() {
        let jobs = "Microsoft.MachineLearningServices/workspaces/jobs";
        assert_eq!(rights("/azureml.v1.JobsAPI/Cancel", &[]), [format!("{jobs}/cancel/action")]);
        assert_eq!(
            rights("/azureml.v1.JobsAPI/*", &[]),
            ["cancel/action", "delete", "read", "write"].map(|verb| format!("{jobs}/{verb}"))
        );
        assert_eq!(rights("/azureml.v1.JobsAPI/*", &[ActionType::Read]), [format!("{jobs}/read")]);
    }

    #[test]
    fn a_wildcard_stays_one_only_where_it_means_what_is_to_come() {
        let ml = "Microsoft.MachineLearningServices";
        assert_eq!(rights("*", &[]), [format!("{ml}/*")]);
        assert_eq!(rights("/azureml.v1.*/*", &[ActionType::Delete]), [format!("{ml}/*/delete")]);
        assert_eq!(rights("/azureml.v1.*/Delete", &[]), [format!("{ml}/*/delete")]);
        let named = rights("/azureml.v1.Jobs*/Delete", &[]);
        assert!(named.iter().all(|action| !action.contains('*')), "{named:?}");
    }

    #[test]
    fn a_star_does_not_mean_other_providers() {
        let all = rights("/*/*", &[]);
        assert!(all.iter().all(|action| action.starts_with(ML)), "{all:?}");
        let vault = rights("/azure.keyvault.v1.VaultsSecretsAPI/GetSecret", &[]);
        assert_eq!(vault, ["Microsoft.KeyVault/vaults/secrets/getSecret/action"]);
    }

    #[test]
    fn who_may_only_create_may_not_write() {
        let half = Rights::of("/azureml.v1.JobsAPI/*", Some(&[ActionType::Create])).unwrap();
        assert_eq!(half.actions, Vec::<String>::new());
        assert_eq!(half.halved, ["Microsoft.MachineLearningServices/workspaces/jobs/write"]);
    }

    #[test]
    fn what_is_not_of_azure_says_why() {
        assert_eq!(Rights::of("/clutch.k8s.v1.K8sAPI/ResizeHPA", None), Err(FOREIGN));
        assert_eq!(Rights::of("/clutch.proxy.v1.ProxyAPI/RequestProxyGet", None), Err(PROXIED));
        assert_eq!(Rights::of("/azureml.v1.JobsAPI/Read", Some(&[ActionType::Delete])), Err(OF_TYPE));
    }
}
