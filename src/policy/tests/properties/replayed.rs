//! Past requests: what is said of them is what was true, though the record holds less.

use super::*;
use crate::policy::replay::{Replayed, replay};

/// Conditions on what the record holds and on what it does not.
const CONDITIONS: [&str; 4] = [
    "caller.claims.c == 'g3'",
    "request.query.k == 'v'",
    "resource.workspace == 'a'",
    "has(caller.claims.c) && caller.claims.c != 'g2'",
];

/// The sets of the other properties, with two subjects that are known by a claim, and conditions.
fn with_claims(lists: &Lists, conditions: &[&str]) -> Option<PolicySet> {
    let mut text = lists.text();
    for group in ["g2", "g3"] {
        text = text.replace(&format!("group: {group}}}"), &format!("claims: {{c: {group}}}}}"));
    }
    let named = ["name: a0,", "name: deny0,", "name: require0,", "name: a1,"];
    for (name, condition) in named.iter().zip(conditions) {
        text = text.replace(name, &format!("{name} when: \"{condition}\","));
    }
    let files = FileSet::from_texts([("p.yaml", text.as_str())]);
    PolicySet::compile(&files, &Surroundings::default()).ok().map(|(set, _)| set)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn what_a_replay_decides_is_what_was_decided(
        lists in lists(),
        ask in ask(),
        claim in prop::option::of(prop::sample::select(vec!["g2", "g3", "x"])),
        query in prop::sample::select(vec!["/x", "/x?k=v", "/x?k=w"]),
        conditions in prop::collection::vec(prop::sample::select(CONDITIONS.to_vec()), 4),
    ) {
        let set = with_claims(&lists, &conditions).unwrap();
        let mut then = ask;
        if let Some(claim) = claim {
            then.caller.claims = Arc::new(json!({"c": claim}).as_object().cloned().unwrap());
        }
        then.request.target = Target::parse("gate", query).unwrap();
        let judged = then.of(&set);
        let mut now = then.clone();
        now.caller.claims = Arc::default();
        now.request.target = Target::parse("gate", "/x").unwrap();
        if let Replayed::Decided(replayed) = replay(&set, &now.question(), false) {
            prop_assert_eq!(allows(&judged), allows(&replayed), "{:?} {:?}", judged, replayed);
            if allows(&judged) {
                prop_assert_eq!(judged.secrets, replayed.secrets);
            }
        }
    }
}

#[test]
fn what_an_entry_reads_of_claims_is_undecidable_and_says_so() {
    let policies = "version: 1\nsubjects:\n  ci: [{issuer: corp, claims: {ref: main}}]\n  team: [{issuer: corp, group: g}]\nallow:\n  \
                    - {name: ci runs, who: [ci], kinds: [read]}\n";
    let asked = |text: &str| {
        let (operation, request) = (list_jobs(), request(Method::GET, "/x"));
        let caller = caller(&["g"]);
        let (now, standing) = (noon(), Standing::Entries);
        replay(
            &set(text),
            &Question {
                caller: &caller,
                operation: &operation,
                request: &request,
                now,
                standing,
                azure: &crate::policy::rights::UNREAD,
            },
            true,
        )
    };
    let Replayed::Undecidable(why) = asked(policies) else { panic!("a claim decides") };
    assert_eq!(
        why,
        ["entry `ci runs` reads at `who` what was not recorded: a claim of the caller is not in the record"]
    );
    let also = format!("{policies}  - {{name: team reads, who: [team], kinds: [read]}}\n");
    assert!(matches!(asked(&also), Replayed::Decided(judgement) if judgement.denial.is_none()));
    let never = format!("{also}deny:\n  - {{name: no reads, kinds: [read]}}\n");
    assert!(matches!(asked(&never), Replayed::Decided(judgement) if judgement.denial.is_some()));
    let reads = "version: 1\nallow:\n  - {name: by body, who: [authenticated], kinds: [read], when: request.body.a == 1}\n";
    let files = FileSet::from_texts([("p.yaml", reads)]);
    let (by_body, _) = PolicySet::compile(&files, &Surroundings::default()).unwrap();
    let (caller, operation, request) = (caller(&[]), list_jobs(), request(Method::GET, "/x"));
    let question = Question {
        caller: &caller,
        operation: &operation,
        request: &request,
        now: noon(),
        standing: Standing::Entries,
        azure: &crate::policy::rights::UNREAD,
    };
    let Replayed::Undecidable(why) = replay(&by_body, &question, true) else { panic!("a body decides") };
    assert!(why[0].contains("`request.body.a` is not in the record"), "{why:?}");
}
