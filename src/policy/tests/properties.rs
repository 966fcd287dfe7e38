//! What holds for every set and every question.

mod flips;
mod replayed;

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::{
    azureml::{Effect, SecretClass},
    policy::{
        flip,
        roles::{ActionPattern, Plane, Roles},
    },
};

/// The wildcard rule said in another way: a star is any text; `/*/` is a slash, or a slash, any
/// text and a slash. By recursion over both texts, without folding or pieces.
fn naive_match(pattern: &[u8], action: &[u8]) -> bool {
    match pattern {
        [] => action.is_empty(),
        [b'/', b'*', b'/', rest @ ..] => {
            let Some((b'/', after)) = action.split_first() else { return false };
            naive_match(rest, after)
                || (0..after.len()).any(|at| after[at] == b'/' && naive_match(rest, &after[at + 1..]))
        }
        [b'*', rest @ ..] => (0..=action.len()).any(|at| naive_match(rest, &action[at..])),
        [wanted, rest @ ..] => action
            .split_first()
            .is_some_and(|(given, after)| given.eq_ignore_ascii_case(wanted) && naive_match(rest, after)),
    }
}

/// Azure's algebra over the published JSON, without the compiled form.
fn naive_grants(role: &Value, action: &str) -> bool {
    let any = |block: &Value, key: &str| {
        let patterns = block[key].as_array().unwrap();
        patterns.iter().any(|p| naive_match(p.as_str().unwrap().as_bytes(), action.as_bytes()))
    };
    let (grant, take) = match Plane::of(action) {
        Plane::Control => ("actions", "notActions"),
        Plane::Data => ("dataActions", "notDataActions"),
    };
    role["permissions"].as_array().unwrap().iter().any(|block| any(block, grant) && !any(block, take))
}

fn action() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "A", "ab", "read", "write"]);
    prop::collection::vec(segment, 1..6).prop_map(|segments| segments.join("/"))
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "*", "a*", "*b", "read", "**", "B"]);
    prop::collection::vec(segment, 1..6).prop_map(|segments| segments.join("/"))
}

/// Actions in the words of the built-in roles, so that some match.
fn azure_action() -> impl Strategy<Value = String> {
    let parts = ["workspaces", "computes", "jobs", "connections", "secrets", "vaults", "listKeys", "x"];
    let provider = prop::sample::select(vec![
        "Microsoft.MachineLearningServices",
        "Microsoft.KeyVault",
        "microsoft.storage/storageAccounts/blobServices/containers/blobs",
        "Microsoft.Authorization",
        "Microsoft.Resources/deployments",
    ]);
    let middle = prop::collection::vec(prop::sample::select(parts.to_vec()), 0..4);
    let verb = prop::sample::select(vec!["read", "write", "delete", "action", "listKeys/action", "Read"]);
    (provider, middle, verb).prop_map(|(provider, middle, verb)| {
        let mut action = vec![provider];
        action.extend(middle);
        action.push(verb);
        action.join("/")
    })
}

/// In the place of secrets: the entry lends what a human may do.
const LEND: &str = "as: human";
/// Likewise: the entry lets nothing through without an approval.
const ASK: &str = "approval: {by: [{subject: s0}]}";
const ASK_FOR_KEYS: &str = "secrets: {endpoint_key: reveal}, approval: {by: [{subject: s0}]}";
const REVIEW: &str = ", limit: {requests: 1, every: 1s}, review: {gerrit: main, project: p, branch: main}";
const GROUPS: [&str; 4] = ["g0", "g1", "g2", "g3"];
const SCOPES: [&str; 5] = [
    "/",
    "/subscriptions/s",
    "/subscriptions/s/resourceGroups/g",
    WS_A,
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/ab",
];
const ACTIONS: [&str; 6] = [
    "Microsoft.MachineLearningServices/workspaces/jobs/read",
    "Microsoft.MachineLearningServices/workspaces/jobs/write",
    "*/read",
    "Microsoft.MachineLearningServices/workspaces/*/write",
    "*",
    "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/listKeys/action",
];

fn some_of(all: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop::sample::subsequence(all, 1..=2)).prop_map(|chosen| {
        chosen.map(|chosen| {
            format!("[{}]", chosen.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", "))
        })
    })
}

/// The keys of an entry, without list and name.
fn keys() -> impl Strategy<Value = String> {
    let effects = ["expose_network", "allocate_compute", "register_model"];
    let kinds = ["read", "write", "delete", "action"];
    (
        some_of(&ACTIONS),
        some_of(&SCOPES),
        some_of(&["arm", "other"]),
        prop::option::of(prop::sample::select(effects.to_vec())),
        prop::option::of(prop::sample::select(kinds.to_vec())),
        prop::option::of(Just("[near]")),
    )
        .prop_map(|(actions, scope, routes, effects, kinds, from)| {
            let mut keys = String::new();
            let all = [
                ("actions", actions),
                ("scope", scope),
                ("routes", routes),
                ("effects", effects.map(|e| format!("[{e}]"))),
                ("kinds", kinds.map(|k| format!("[{k}]"))),
                ("from", from.map(ToOwned::to_owned)),
            ];
            for (key, value) in all {
                keys.extend(value.map(|value| format!(", {key}: {value}")));
            }
            keys
        })
}

fn who() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::subsequence(&["s0", "s1", "s2", "s3", "s4"], 1..=2).prop_map(|s| format!("[{}]", s.join(", "))),
        1 => Just("[authenticated]".to_owned()),
    ]
}

#[derive(Debug, Clone)]
struct Lists {
    allow: Vec<(String, String, Option<&'static str>)>,
    deny: Vec<(Option<String>, String)>,
    require: Vec<(Option<String>, String)>,
}

fn lists() -> impl Strategy<Value = Lists> {
    let more = vec![
        "secrets: {endpoint_key: substitute}",
        "secrets: {endpoint_key: reveal}",
        LEND,
        LEND,
        ASK,
        ASK_FOR_KEYS,
    ];
    let more = prop::option::weighted(0.4, prop::sample::select(more));
    let allow = prop::collection::vec((who(), keys(), more), 0..8);
    let narrow = || prop::collection::vec((prop::option::of(who()), keys()), 0..3);
    (allow, narrow(), narrow()).prop_map(|(allow, deny, require)| Lists { allow, deny, require })
}

impl Lists {
    fn text(&self) -> String {
        let subjects = GROUPS
            .iter()
            .enumerate()
            .map(|(number, group)| format!("  s{number}: [{{issuer: corp, group: {group}}}]"))
            .chain(["  s4: [{issuer: corp, agent: {client_id: copilot}}]".to_owned()]);
        let allow = self.allow.iter().enumerate().map(|(number, (who, keys, more))| {
            let secrets = more.map(|more| format!(", {more}")).unwrap_or_default();
            // An entry that says nothing of what it allows is refused.
            let says = ["actions:", "kinds:", "effects:", "routes:", "secrets:"];
            let said = says.iter().any(|key| keys.contains(key) || secrets.contains(key));
            let all = if said { "" } else { ", actions: [\"*\"]" };
            format!("  - {{name: a{number}, who: {who}{keys}{secrets}{all}}}")
        });
        let narrow = |list: &'static str, entries: &[(Option<String>, String)], more: [&str; 2]| {
            let lines = entries.iter().enumerate().map(|(number, (who, keys))| {
                let who = who.as_ref().map(|who| format!(", who: {who}")).unwrap_or_default();
                format!("  - {{name: {list}{number}{who}{keys}{}}}", more[number % 2])
            });
            section(list, lines.collect())
        };
        [
            "version: 1".to_owned(),
            "networks: {near: [10.0.0.0/8]}".to_owned(),
            section("subjects", subjects.collect()),
            section("allow", allow.collect()),
            narrow("deny", &self.deny, [""; 2]),
            narrow("require", &self.require, [REVIEW, ", step_up: {acrs: c1, max_age: 1h}"]),
        ]
        .join("\n")
    }

    fn set(&self) -> PolicySet {
        set(&self.text())
    }
}

/// A key of the file with its lines; nothing if there are none.
fn section(key: &str, lines: Vec<String>) -> String {
    if lines.is_empty() { String::new() } else { format!("{key}:\n{}", lines.join("\n")) }
}

#[derive(Debug, Clone)]
struct Ask {
    caller: Caller,
    operation: Operation,
    request: RequestFacts,
}

fn ask() -> impl Strategy<Value = Ask> {
    let groups = prop_oneof![
        4 => prop::sample::subsequence(&GROUPS, 0..=3).prop_map(|g| Groups::Known(g.iter().map(|g| (*g).into()).collect())),
        1 => Just(Groups::Overage),
    ];
    let resources = prop::sample::select(vec![
        Some(WS_A.to_owned()),
        Some(format!("{WS_A}/jobs/j")),
        Some(format!("{WS_A}b")),
        Some("/subscriptions/s".to_owned()),
        Some("/subscriptions/other/resourceGroups/g".to_owned()),
        None,
    ]);
    let verbs =
        prop::sample::select(vec!["jobs/read", "jobs/write", "delete", "onlineEndpoints/listKeys/action"]);
    let acts = prop::collection::vec(
        (verbs, resources).prop_map(|(verb, resource)| Act {
            resource: resource.and_then(|r| ResourceId::parse(&r)),
            ..act(verb, "/")
        }),
        1..=2,
    );
    let effects = || {
        prop::sample::subsequence(&[Effect::ExposeNetwork, Effect::AllocateCompute], 0..=1)
            .prop_map(|e| e.into_iter().collect::<Effects>())
    };
    let kind = prop::sample::select(vec![Kind::Read, Kind::Write, Kind::Action]);
    let near = any::<bool>();
    let secret = prop::bool::weighted(0.3);
    let route = prop::sample::select(vec!["arm", "other", "third"]);
    let sign_in = (any::<bool>(), 0_u64..7_200);
    // The second is an agent by the word of the policies alone.
    let (person, agent, alone) =
        (PrincipalKind::Person, PrincipalKind::Agent, PrincipalKind::AutonomousAgent);
    let holder = prop_oneof![
        4 => Just(("app", person)),
        1 => Just(("copilot", person)),
        2 => Just(("copilot", agent)),
        1 => Just(("other", agent)),
        1 => Just(("copilot", alone)),
    ];
    (groups, acts, effects(), effects(), kind, near, secret, route, (sign_in, holder)).prop_map(
        |(groups, acts, sure, unclear, kind, near, secret, route, ((stepped_up, age), (client, holder)))| {
            let mut request = request(Method::GET, "/x");
            request.route = route.into();
            if !near {
                request.source = "192.0.2.1:1".parse().unwrap();
            }
            let operation = Operation {
                effects: sure,
                unclear_effects: unclear,
                secrets: secret.then_some(SecretClass::EndpointKey).into_iter().collect(),
                ..operation(kind, acts)
            };
            let context = if stepped_up { "c1" } else { "c2" };
            let claims = json!({"acrs": [context], "auth_time": noon().as_secs() - age});
            let claims = Arc::new(claims.as_object().cloned().unwrap());
            let caller = Caller { groups, claims, kind: holder, client: Some(client.into()), ..caller(&[]) };
            Ask { caller, operation, request }
        },
    )
}

impl Ask {
    /// Every change that can be supposed at all, whether or not it matters to the question.
    fn changes(&self, set: &PolicySet) -> Vec<flip::Change> {
        use crate::policy::List;
        let mut all: Vec<_> = set.subjects().iter().cloned().map(flip::Change::Join).collect();
        all.extend(self.operation.acts.iter().filter_map(flip::Change::grant));
        all.extend(self.operation.secrets.iter().map(|class| flip::Change::NameSecret(class.name())));
        all.extend(set.entries().filter_map(|(list, entry)| match list {
            List::Allow => None,
            List::Deny => Some(flip::Change::Leave(entry.into())),
            List::Require => Some(flip::Change::Satisfy(entry.into())),
        }));
        all
    }

    fn question(&self) -> Question<'_> {
        Question {
            caller: &self.caller,
            operation: &self.operation,
            request: &self.request,
            now: noon(),
            standing: Standing::Entries,
            azure: &crate::policy::rights::UNREAD,
        }
    }

    fn of(&self, set: &PolicySet) -> Judgement {
        judge_at(set, &self.caller, &self.operation, &self.request, noon())
    }
}

fn allows(judgement: &Judgement) -> bool {
    judgement.denial.is_none()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_pattern_matches_what_the_rule_says(pattern in pattern(), action in action()) {
        let compiled = ActionPattern::new(&pattern).matches(&action);
        prop_assert_eq!(compiled, naive_match(pattern.as_bytes(), action.as_bytes()));
    }

    #[test]
    fn every_built_in_role_grants_what_the_published_definition_says(action in azure_action()) {
        let definitions: Vec<Value> = serde_json::from_str(include_str!("../roles/built_in.json")).unwrap();
        let roles = Roles::built_in();
        for definition in &definitions {
            let name = definition["roleName"].as_str().unwrap();
            let grants = roles.find(name).unwrap().grants(&action);
            prop_assert_eq!(grants, naive_grants(definition, &action), "{} {}", name, action);
        }
    }

    #[test]
    fn the_index_finds_what_looking_at_every_entry_finds(lists in lists(), ask in ask()) {
        // `judge_at` compares the two.
        ask.of(&lists.set());
    }

    #[test]
    fn without_an_allow_entry_everything_is_denied(mut lists in lists(), ask in ask()) {
        lists.allow.clear();
        prop_assert!(!allows(&ask.of(&lists.set())));
    }

    #[test]
    fn another_allow_entry_never_takes_away(lists in lists(), more in (who(), keys()), ask in ask()) {
        let before = ask.of(&lists.set());
        let mut wider = lists;
        wider.allow.push((more.0, more.1, None));
        let after = ask.of(&wider.set());
        prop_assert!(!allows(&before) || allows(&after), "{before:?} {after:?}");
    }

    #[test]
    fn another_deny_or_demand_never_allows(lists in lists(), more in (prop::option::of(who()), keys()), deny in any::<bool>(), ask in ask()) {
        let before = ask.of(&lists.set());
        let mut narrower = lists;
        if deny { narrower.deny.push(more) } else { narrower.require.push(more) }
        let after = ask.of(&narrower.set());
        prop_assert!(allows(&before) || !allows(&after), "{before:?} {after:?}");
    }

    #[test]
    fn knowing_less_of_the_caller_never_allows_more(lists in lists(), ask in ask()) {
        // Whatever the groups are, a token that does not tell them gets no more than one that
        // tells all of them could.
        let unsure = Ask { caller: Caller { groups: Groups::Overage, ..ask.caller.clone() }, ..ask.clone() };
        if allows(&unsure.of(&lists.set())) {
            prop_assert!(allows(&ask.of(&lists.set())));
        }
    }

    #[test]
    fn an_agent_to_whom_things_are_only_lent_may_do_nothing_that_its_human_may_not(mut lists in lists(), ask in ask()) {
        lists.allow.retain(|(who, _, more)| !who.contains("s4") || *more == Some(LEND));
        let set = lists.set();
        let of = |kind, client: &str| Ask {
            caller: Caller { kind, client: Some(client.into()), ..ask.caller.clone() },
            ..ask.clone()
        };
        let human = of(PrincipalKind::Person, "app");
        let agent = of(PrincipalKind::Agent, "copilot");
        // Whether the token says it or the policies do.
        prop_assert_eq!(allows(&agent.of(&set)), allows(&of(PrincipalKind::Person, "copilot").of(&set)));
        prop_assert!(!allows(&agent.of(&set)) || allows(&human.of(&set)));
        prop_assert!(!allows(&agent.of(&set)) || ask.operation.secrets.is_empty());
        // Who acts for nobody is lent nothing.
        prop_assert!(!allows(&of(PrincipalKind::AutonomousAgent, "copilot").of(&set)));
    }

    #[test]
    fn an_approval_is_asked_for_exactly_where_nothing_else_suffices(mut lists in lists(), ask in ask()) {
        // What a human may only do with an approval is not lent: that is another claim.
        lists.allow.retain(|(_, _, more)| *more != Some(LEND));
        let asked = ask.of(&lists.set());
        let (mut free, mut plain) = (lists.clone(), lists);
        for (_, _, more) in &mut free.allow {
            *more = match *more {
                Some(ASK) => None,
                Some(ASK_FOR_KEYS) => Some("secrets: {endpoint_key: reveal}"),
                more => more,
            };
        }
        plain.allow.retain(|(_, _, more)| ![Some(ASK), Some(ASK_FOR_KEYS)].contains(more));
        prop_assert_eq!(allows(&asked), allows(&ask.of(&free.set())));
        let of_allow = asked.approvals().next().is_some();
        prop_assert_eq!(allows(&asked) && !of_allow, allows(&ask.of(&plain.set())));
    }

    #[test]
    fn a_review_is_demanded_by_exactly_the_entries_that_match(lists in lists(), ask in ask()) {
        let set = lists.set();
        let judgement = ask.of(&set);
        let demanded: BTreeSet<_> = judgement.reviews().map(|review| review.entry.name.clone()).collect();
        if !allows(&judgement) {
            prop_assert!(demanded.is_empty());
            return Ok(());
        }
        let traced = set.trace(&ask.question());
        let matching = traced.iter().filter(|trace| trace.matches && trace.review.is_some());
        prop_assert_eq!(demanded, matching.map(|trace| trace.entry.name.clone()).collect::<BTreeSet<_>>());
    }

    #[test]
    fn the_trace_tells_the_same_story(lists in lists(), ask in ask()) {
        let set = lists.set();
        let judgement = ask.of(&set);
        let question = Question {
            caller: &ask.caller,
            operation: &ask.operation,
            request: &ask.request,
            now: noon(),
            standing: Standing::Entries, azure: &crate::policy::rights::UNREAD, };
        let trace = set.trace(&question);
        let denied = trace.iter().any(|t| t.list == crate::policy::List::Deny && t.matches);
        let unmet = trace.iter().any(|t| !t.unmet.is_empty());
        let covered = (0..ask.operation.acts.len())
            .all(|act| trace.iter().any(|t| t.list == crate::policy::List::Allow && t.acts.contains(&act)));
        let secret = judgement.denial.as_ref().is_some_and(|d| d.code.name() == "SecretsNotGranted");
        prop_assert_eq!(allows(&judgement) || secret, !denied && covered && (secret || !unmet));
    }
}

#[test]
fn a_set_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Arc<PolicySet>>();
}
