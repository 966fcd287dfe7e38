//! `rights: azure`: Azure's own decision from what was read, and nothing without it.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::policy::{
    Azure,
    rights::{Assignment, AzureRights, DenyAssignment, EntraObject, Unread, Word},
    roles::{Role, RoleDefinition},
};

const POLICIES: &str = "version: 1
subjects:
  team: [{issuer: corp, group: g-team}]
scopes: {ws-a: /subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/a}
allow:
  - {name: as azure says, who: [team], rights: azure, scope: ws-a}
";

fn id(text: &str) -> ResourceId {
    ResourceId::parse(text).unwrap()
}

fn definition(permissions: &Value) -> Arc<RoleDefinition> {
    let text = json!({"name": "r", "properties": {"roleName": "R", "permissions": permissions}});
    Arc::new(RoleDefinition::parse(text.to_string().as_bytes()).unwrap())
}

fn grants(actions: &[&str], not_actions: &[&str]) -> Arc<RoleDefinition> {
    definition(&json!([{"actions": actions, "notActions": not_actions}]))
}

fn at(scope: &str, role: Arc<RoleDefinition>) -> Assignment {
    Assignment::new("/a", None, (id(scope), &id(WS_A)), role, None)
}

fn denied(scope: &str, only_there: bool, actions: &[&str]) -> DenyAssignment {
    let role = Role::denied(json!([{"actions": actions, "notActions": []}])).unwrap();
    DenyAssignment::new("locked", (id(scope), &id(WS_A)), only_there, Arc::new(role))
}

fn read(assignments: Vec<Assignment>, denials: Vec<DenyAssignment>) -> Azure {
    Azure::new(vec![(id(WS_A), Ok(Arc::new(AzureRights::new(assignments, denials, noon()))))])
}

fn judged_with(azure: &Azure, operation: &Operation) -> Judgement {
    let set = set(POLICIES);
    let (caller, request) = (caller(&["g-team"]), request(Method::GET, "/x"));
    let standing = Standing::Entries;
    let question = Question { caller: &caller, operation, request: &request, now: noon(), standing, azure };
    agreed(&set, &question)
}

fn told(azure: &Azure) -> String {
    judged_with(azure, &list_jobs()).denial.map(|denial| denial.cause).unwrap_or_default()
}

#[test]
fn an_assignment_at_the_scope_above_it_or_below_counts_where_it_holds() {
    let jobs = || grants(&["Microsoft.MachineLearningServices/workspaces/jobs/read"], &[]);
    for (scope, verdict_there) in [
        ("/subscriptions/s", "allow"),
        ("/subscriptions/S/resourcegroups/G", "allow"),
        (WS_A, "allow"),
        ("/providers/Microsoft.Management/managementGroups/corp", "allow"),
        ("/", "allow"),
        ("/subscriptions/s/resourceGroups/g2", "AuthorizationFailed"),
        (
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/a/jobs/j",
            "AuthorizationFailed",
        ),
    ] {
        let judgement = judged_with(&read(vec![at(scope, jobs())], vec![]), &list_jobs());
        assert_eq!(verdict(&judgement), verdict_there, "{scope}");
    }
    let judgement = judged_with(&read(vec![at(WS_A, jobs())], vec![]), &list_jobs());
    let (name, by) = &judgement.read[0];
    assert!(name == "rights.azure" && by.as_str().unwrap().contains("role assignment `/a` (`R` at"), "{by}");
}

#[test]
fn not_actions_take_from_their_block_and_another_assignment_gives() {
    let most = grants(&["*"], &["*/jobs/read"]);
    assert_eq!(
        verdict(&judged_with(&read(vec![at(WS_A, Arc::clone(&most))], vec![]), &list_jobs())),
        "AuthorizationFailed"
    );
    let both = read(vec![at(WS_A, most), at("/subscriptions/s", grants(&["*/read"], &[]))], vec![]);
    assert_eq!(verdict(&judged_with(&both, &list_jobs())), "allow");
}

#[test]
fn a_deny_assignment_wins_where_it_holds() {
    let all = || vec![at(WS_A, grants(&["*"], &[]))];
    let azure = |denial| read(all(), vec![denial]);
    for (denial, verdict_there) in [
        (denied(WS_A, false, &["*/jobs/read"]), "AuthorizationFailed"),
        (denied("/subscriptions/s", false, &["*"]), "AuthorizationFailed"),
        (denied("/subscriptions/s", true, &["*"]), "allow"),
        (denied(WS_A, true, &["*"]), "AuthorizationFailed"),
        (denied(WS_A, false, &["*/write"]), "allow"),
    ] {
        let said = format!("{denial:?}");
        assert_eq!(verdict(&judged_with(&azure(denial), &list_jobs())), verdict_there, "{said}");
    }
}

#[test]
fn a_condition_grants_nothing_and_is_named() {
    let role = grants(&["*"], &[]);
    let conditional = Assignment::new(
        "/a",
        Some("g-1"),
        (id(WS_A), &id(WS_A)),
        role,
        Some("@Resource[Microsoft.Storage/x] StringEquals 'y'"),
    );
    let said = told(&read(vec![conditional], vec![]));
    assert!(said.contains("through group `g-1`") && said.contains("has a condition"), "{said}");
    let block = definition(&json!([{"actions": ["*"], "notActions": [], "condition": "x"}]));
    let said = told(&read(vec![at(WS_A, Arc::clone(&block))], vec![]));
    assert!(said.contains("has a condition"), "{said}");
    // Another assignment without one still grants.
    let both = read(vec![at(WS_A, block), at(WS_A, grants(&["*/read"], &[]))], vec![]);
    assert_eq!(verdict(&judged_with(&both, &list_jobs())), "allow");
}

#[test]
fn what_was_not_read_grants_nothing_and_says_why() {
    assert!(told(&Azure::default()).contains("was not asked"));
    for (unread, word) in [
        (Unread::NoObject, "no object id of Entra"),
        (Unread::OtherTenant("t2".into()), "tenant `t2`"),
        (Unread::Failed("Azure answered 503".into()), "could not be read: Azure answered 503"),
    ] {
        let said = told(&Azure::new(vec![(id(WS_A), Err(unread))]));
        assert!(said.contains(word) && said.contains("as azure says"), "{said}");
    }
}

#[test]
fn only_whom_an_entry_could_concern_is_looked_up() {
    let set = set(POLICIES);
    let asked = |caller: &Caller, operation: &Operation| {
        let request = request(Method::GET, "/x");
        set.azure_scopes(caller, operation, &request).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(asked(&caller(&["g-team"]), &list_jobs()), [WS_A]);
    assert!(asked(&caller(&["other"]), &list_jobs()).is_empty());
    let elsewhere = operation(Kind::Read, vec![act("jobs/read", "/subscriptions/s2")]);
    assert!(asked(&caller(&["g-team"]), &elsewhere).is_empty());
}

#[test]
fn the_object_is_the_callers_own_or_the_humans_behind_it() {
    let (tenant, object) = ("00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b");
    let subject = format!("{tenant}/{object}");
    let own =
        Caller { id: PrincipalId { issuer: "corp".into(), subject: subject.as_str().into() }, ..caller(&[]) };
    let known = EntraObject { tenant: tenant.into(), object: object.into() };
    assert_eq!(EntraObject::of(&own), Some(known.clone()));
    // Of another kind of issuer, the same words say nothing.
    assert_eq!(EntraObject::of(&Caller { tenant: None, ..own.clone() }), None);
    let human = PrincipalId { issuer: "corp".into(), subject: subject.as_str().into() };
    let linked = Caller { tenant: None, human: Some(human), ..caller(&[]) };
    assert_eq!(EntraObject::of(&linked), Some(known));
    assert_eq!(EntraObject::of(&caller(&[])), None);
}

proptest! {
    /// Azure's order: a deny that holds, else the union of blocks, each minus its own.
    #[test]
    fn the_word_is_what_the_definition_of_azure_says(
        roles in prop::collection::vec((0_usize..4, 0_usize..4, 0_usize..5, any::<bool>()), 0..5),
        denials in prop::collection::vec((0_usize..4, 0_usize..4), 0..3),
        action in 0_usize..3,
        place in 0_usize..4,
    ) {
        const PATTERNS: [&[&str]; 4] = [&["*"], &["*/read"], &["M.X/a/*"], &["M.X/b/write", "M.X/a/read"]];
        const NOTS: [&[&str]; 5] = [&[], &["*/read"], &["M.X/a/*"], &["*"], &["M.X/b/write"]];
        const ACTIONS: [&str; 3] = ["M.X/a/read", "M.X/a/write", "M.X/b/write"];
        const SCOPES: [&str; 4] = ["/subscriptions/s", "/subscriptions/s/resourceGroups/g",
            "/subscriptions/s/resourceGroups/g2", WS_A];
        let covers = |pattern: &[&str]| match ACTIONS[action] {
            "M.X/a/read" => pattern.iter().any(|p| ["*", "*/read", "M.X/a/*", "M.X/a/read"].contains(p)),
            "M.X/a/write" => pattern.iter().any(|p| ["*", "M.X/a/*"].contains(p)),
            _ => pattern.iter().any(|p| ["*", "M.X/b/write"].contains(p)),
        };
        let holds = |scope: usize| {
            let (scope, place) = (SCOPES[scope].to_lowercase(), SCOPES[place].to_lowercase());
            place == scope || place.starts_with(&format!("{scope}/"))
        };
        let granted = roles.iter().any(|&(scope, given, taken, conditional)| {
            holds(scope) && covers(PATTERNS[given]) && !covers(NOTS[taken]) && !conditional
        });
        let taken = denials.iter().any(|&(scope, given)| holds(scope) && covers(PATTERNS[given]));
        let rights = AzureRights::new(
            roles.iter().map(|&(scope, given, taken, conditional)| {
                let role = grants(PATTERNS[given], NOTS[taken]);
                let condition = conditional.then_some("x");
                Assignment::new("/a", None, (id(SCOPES[scope]), &id(WS_A)), role, condition)
            }).collect(),
            denials.iter().map(|&(scope, given)| denied(SCOPES[scope], false, PATTERNS[given])).collect(),
            noon(),
        );
        let word = rights.word(ACTIONS[action], &id(SCOPES[place]));
        prop_assert_eq!(matches!(word, Word::Granted(_)), granted && !taken);
        prop_assert_eq!(matches!(word, Word::Denied(_)), taken);
    }
}
