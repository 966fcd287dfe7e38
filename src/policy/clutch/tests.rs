//! What is read of Clutch is what Clutch would have allowed, and never more.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::{
    azureml::{
        Act, Action, Kind, action,
        method::{ActionType, FullMethod},
    },
    policy::tests::{caller, judged, operation, set, verdict},
};

const WS: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/vision";

fn terms(scope: &str) -> Terms {
    let scopes = vec![ResourceId::parse(scope).unwrap()];
    Terms { issuer: "corp".into(), user_claim: "email".into(), scopes }
}

fn import_one(text: &str) -> Result<Imported, Vec<String>> {
    let files = [("clutch.yaml".into(), text.to_owned())];
    import(&files, &terms("/subscriptions/s")).map_err(|all| all.iter().map(ToString::to_string).collect())
}

#[test]
fn golden_translation() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/policy/clutch/golden");
    let text = std::fs::read_to_string(directory.join("clutch-config.yaml")).unwrap();
    let imported = import(&[("clutch-config.yaml".into(), text)], &terms("/subscriptions/s")).unwrap();
    let path = directory.join("policies.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &imported.policies).unwrap();
    }
    assert_eq!(imported.policies, std::fs::read_to_string(&path).unwrap_or_default());
    let said: Vec<_> = imported.left_out.iter().map(|p| p.place.line).collect();
    assert_eq!(said, [6, 21, 38, 43, 45, 58, 59], "{:#?}", imported.left_out);
}

#[test]
fn mistakes_are_told_all_at_once_and_where_they_stand() {
    let said = import_one(
        "role_bindings:
  - to: [reader]
    principals: [{user: a, group: b}, {}]
  - principals: [{group: g}]
roles:
  - role_name: other
    policies:
      - policy_name: p
        action_types: [REED, 7]
        methods: /x/y
      - method: ${METHOD}
        policy_name: q
  - role_name: other
",
    )
    .unwrap_err();
    let places: Vec<_> = said.iter().map(|p| p.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "clutch.yaml:10:9",
            "clutch.yaml:8:9",
            "clutch.yaml:9:24",
            "clutch.yaml:9:30",
            "clutch.yaml:11:17",
            "clutch.yaml:3:18",
            "clutch.yaml:3:39",
            "clutch.yaml:4:5",
            "clutch.yaml:13:16",
            "clutch.yaml:2:10",
        ],
        "{said:#?}"
    );
}

#[test]
fn roles_and_bindings_may_stand_in_two_files_and_in_either_spelling() {
    let roles = "roles: [{roleName: r, policies: [{policyName: p, actionTypes: [2], method: '*'}]}]\n";
    let bindings = "roleBindings: [{to: [r], principals: [{group: g}]}]\n";
    let files = [("roles.yaml".into(), roles.to_owned()), ("bindings.yaml".into(), bindings.to_owned())];
    let imported = import(&files, &terms("/")).unwrap();
    assert_eq!((imported.entries, imported.left_out), (1, vec![]));
    let alone = import(&files[1..], &terms("/")).unwrap_err();
    assert_eq!(alone[0].to_string().lines().next().unwrap(), "bindings.yaml:1:22: role `r` is not defined");
}

#[test]
fn a_file_that_says_nothing_of_azure_ml_is_refused() {
    let said = import_one("gateway: {}\n").unwrap_err();
    assert!(said[0].contains("neither `roles` nor `role_bindings`"), "{said:?}");
    let said = import_one(
        "role_bindings: [{to: [r], principals: [{group: g}]}]
roles: [{role_name: r, policies: [{policy_name: p, method: /clutch.k8s.v1.K8sAPI/*}]}]
",
    )
    .unwrap_err();
    assert!(said[0].starts_with("clutch.yaml:2:60: warning: method"), "{said:?}");
    assert!(said[1].contains("nothing here says what anybody may do"), "{said:?}");
}

#[test]
fn no_text_of_clutchs_becomes_yaml() {
    let name = "x\\\"\\n  - {name: evil, who: [authenticated], actions: ['*']} #";
    let text = format!(
        "role_bindings: [{{to: [\"{name}\"], principals: [{{group: \"{name}\"}}]}}]
roles: [{{role_name: \"{name}\", policies: [{{policy_name: \"{name}\", method: '*'}}, {{policy_name: \"{name}\", method: '*'}}]}}]
"
    );
    let imported = import_one(&text).unwrap();
    assert_eq!(imported.entries, 2);
    let files = FileSet::from_texts([("p.yaml", imported.policies.as_str())]);
    let (set, _) = PolicySet::compile(&files, &Surroundings::default()).unwrap();
    assert_eq!(set.entries().count(), 2);
    assert_eq!(set.subjects().len(), 1);
}

/// Whether Clutch's matcher takes a text, written another way than the translation is: by trying.
fn clutch_matches(glob: &[u8], text: &[u8]) -> bool {
    match glob {
        b"*" if text.is_empty() => true,
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|at| clutch_matches(rest, &text[at..])),
        [b'*', rest @ ..] => {
            let most = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=most).any(|at| clutch_matches(rest, &text[at..]))
        }
        [b'?', rest @ ..] => !text.is_empty() && text[0] != b'/' && clutch_matches(rest, &text[1..]),
        [first, rest @ ..] => text.first() == Some(first) && clutch_matches(rest, &text[1..]),
        [] => text.is_empty(),
    }
}

fn clutch_allows(method: &str, types: &[ActionType], resources: &[String], act: &Act, kind: Kind) -> bool {
    let takes = |glob: &str, text: &str| glob == "*" || clutch_matches(glob.as_bytes(), text.as_bytes());
    let id = act.resource.as_ref().unwrap().as_str();
    let named = FullMethod::of(act.action.as_str()).to_string();
    ActionType::all_of(kind).iter().all(|one| types.is_empty() || types.contains(one))
        && takes(method, &named)
        && (resources.is_empty() || resources.iter().any(|glob| takes(glob, id)))
}

fn methods() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        Just("/azureml.v1.*/*".to_owned()),
        Just("/azureml.v1.*/Read".to_owned()),
        Just("/azureml.v1.Job?API/*".to_owned()),
        Just("/azureml.v1.JobsAPI/Write".to_owned()),
        Just("/azureml.v1.On*/Score".to_owned()),
        Just("/**".to_owned()),
        Just("/azure.storage.v1.**".to_owned()),
    ]
}

fn resources() -> impl Strategy<Value = String> {
    let end = prop_oneof![
        Just(""),
        Just("/**"),
        Just("/*"),
        Just("/jobs/*"),
        Just("/jobs/a?"),
        Just("*"),
        Just("/jobs/a.b")
    ];
    let start = prop_oneof![
        Just(WS),
        Just("/subscriptions/s"),
        Just("/subscriptions/*/resourceGroups/g"),
        Just("/**/workspaces/vision")
    ];
    prop_oneof![8 => (start, end).prop_map(|(start, end)| format!("{start}{end}")), 1 => Just("*".to_owned())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_allowed_then_was_allowed_by_clutch_and_nothing_of_it_is_lost(
        method in methods(),
        types in proptest::sample::subsequence(ActionType::ALL.to_vec(), 0..=4),
        resources in proptest::collection::vec(resources(), 0..3),
    ) {
        let named = types.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ");
        let text = format!(
            "role_bindings: [{{to: [r], principals: [{{group: g}}]}}]\nroles: [{{role_name: r, policies: \
             [{{policy_name: p, method: '{method}', action_types: [{named}], resources: {}}}]}}]\n",
            serde_json::to_string(&resources).unwrap(),
        );
        let policies = import_one(&text).map(|imported| set(&imported.policies));
        for action in action::known() {
            let storage = action.as_str().starts_with("Microsoft.Storage/");
            if !storage && !action.as_str().contains("/jobs/") && !action.as_str().contains("/onlineEndpoints/") {
                continue;
            }
            for below in ["", "/jobs", "/jobs/ab", "/jobs/a.b", "/jobs/acb", "/jobs/ab/x", "2"] {
                let kind = action::doings(&action).kind;
                let resource = ResourceId::parse(&format!("{WS}{below}"));
                let act = Act { action: Action::new(action.as_str()), resource };
                // A star speaks of Azure ML alone: what it means beside that is left out.
                let meant = !storage || method.starts_with("/azure.storage.");
                let wanted = meant && clutch_allows(&method, &types, &resources, &act, kind);
                let allowed = policies.as_ref().is_ok_and(|set| {
                    verdict(&judged(set, &caller(&["g"]), &operation(kind, vec![act.clone()]))) == "allow"
                });
                prop_assert_eq!(allowed, wanted, "{} {:?}\n{}", action.as_str(), act.resource, text);
            }
        }
    }
}
