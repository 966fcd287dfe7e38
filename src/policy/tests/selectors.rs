//! What selectors say beside each other, over time, and how many entries they are asked of.

use std::time::Duration;

use super::*;
use crate::{
    azureml::{Effect, Inspected},
    identity::Principal,
    policy::{Cut, Hypothesis, List, StreamLimits, decide, index::Doubt},
};

const TEAM: &str = "version: 1
subjects:
  team: [{issuer: corp, group: g-team}]
  boss: [{issuer: corp, group: g-boss}]
networks: {office: [10.0.0.0/8, \"2001:db8::/32\"]}
calendars: {week: {zone: Europe/Zurich, days: [mon, tue, wed, thu, fri], from: \"08:00\", to: \"18:00\"}}
";
const ALL: &str = "allow:\n  - {name: all, who: [authenticated], actions: [\"*\"]}\n";

fn policy(lists: &str) -> PolicySet {
    set(&format!("{TEAM}{lists}"))
}

fn team() -> Caller {
    caller(&["g-team"])
}

fn write_job() -> Operation {
    operation(Kind::Write, vec![act("jobs/write", WS_A)])
}

fn says(set: &PolicySet, operation: &Operation) -> &'static str {
    verdict(&judged(set, &team(), operation))
}

#[test]
fn all_keys_of_an_entry_must_match() {
    let entry = "allow:\n  - {name: one, who: [team], kinds: [write], effects: [allocate_compute], routes: [arm], from: [office], during: week}\n";
    let big = || Operation { effects: Effects::NONE.with(Effect::AllocateCompute), ..write_job() };
    let ask = |entry: &str, operation: &Operation| says(&policy(entry), operation);
    assert_eq!(ask(entry, &big()), "allow");
    assert_eq!(ask(entry, &write_job()), "AuthorizationFailed");
    for (key, other) in [
        ("who: [team]", "who: [boss]"),
        ("kinds: [write]", "kinds: [read, delete]"),
        ("effects: [allocate_compute]", "effects: [expose_network]"),
        ("routes: [arm]", "routes: [churn]"),
        ("from: [office]", "from: [home]"),
        ("during: week", "during: weekend"),
    ] {
        let entry = format!(
            "networks: {{home: [192.0.2.0/24]}}\ncalendars: {{weekend: {{zone: UTC, days: [sat, sun]}}}}\n{}",
            entry.replace(key, other)
        );
        // The other names stand in a file of their own.
        let (names, entry) = entry.split_at(entry.find("allow:").unwrap());
        let names = format!("version: 1\n{names}");
        let entry = format!("{TEAM}{entry}");
        let files = FileSet::from_texts([("names.yaml", names.as_str()), ("p.yaml", entry.as_str())]);
        let (set, _) = PolicySet::compile(&files, &Surroundings::default()).unwrap();
        assert_eq!(says(&set, &big()), "AuthorizationFailed", "{other}");
    }
}

#[test]
fn a_list_of_values_is_any_of_them() {
    let set = policy("allow:\n  - {name: one, who: [boss, team], kinds: [read, write], routes: [x, arm]}\n");
    assert_eq!((says(&set, &write_job()), says(&set, &list_jobs())), ("allow", "allow"));
}

#[test]
fn a_condition_narrows_and_what_it_read_is_kept() {
    let set = policy("allow:\n  - {name: own, who: [team], kinds: [read], when: resource.name == 'a'}\n");
    let judgement = judged(&set, &team(), &list_jobs());
    assert_eq!(verdict(&judgement), "allow");
    assert_eq!(judgement.read, [("resource.name".to_owned(), json!("a"))]);
    let elsewhere = operation(Kind::Read, vec![act("jobs/read", &format!("{WS_A}b"))]);
    let judgement = judged(&set, &team(), &elsewhere);
    assert_eq!(verdict(&judgement), "AuthorizationFailed");
    // An entry of the caller's own that came close is named, with the key that was in the way.
    assert!(judgement.denial.unwrap().cause.ends_with("; entry `own` would, but for its `when`"));
}

#[test]
fn a_condition_without_a_value_denies_and_demands_but_does_not_allow() {
    let missing = "when: caller.claims.level == 3";
    let compiled = |lists: &str| {
        let text = format!("{TEAM}{lists}");
        let files = FileSet::from_texts([("p.yaml", text.as_str())]);
        let (set, warnings) = PolicySet::compile(&files, &Surroundings::default()).unwrap();
        // Nothing guards the claim, and that is said when the files are read.
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        set
    };
    let allow = compiled(&format!("allow:\n  - {{name: a, who: [team], kinds: [read], {missing}}}\n"));
    let judgement = judged(&allow, &team(), &list_jobs());
    assert_eq!(verdict(&judgement), "AuthorizationFailed");
    assert_eq!((&*judgement.unevaluable[0].0.name, judgement.unevaluable[0].1), ("a", "when"));
    let deny = compiled(&format!("{ALL}deny:\n  - {{name: d, {missing}}}\n"));
    let judgement = judged(&deny, &team(), &list_jobs());
    assert_eq!(verdict(&judgement), "RequestDisallowedByPolicy");
    assert!(judgement.denial.unwrap().cause.contains("its `when` could not be evaluated"));
    let require =
        compiled(&format!("{ALL}require:\n  - {{name: r, {missing}, limit: {{requests: 1, every: 1s}}}}\n"));
    assert_eq!(judged(&require, &team(), &list_jobs()).obligations.len(), 1);
    let mut known = team();
    known.claims = Arc::new(json!({"level": 2}).as_object().cloned().unwrap());
    assert_eq!(verdict(&judged(&deny, &known, &list_jobs())), "allow");
    assert!(judged(&require, &known, &list_jobs()).obligations.is_empty());
}

#[test]
fn the_body_is_asked_for_only_where_an_entry_that_could_apply_reads_it() {
    let set = policy(&format!(
        "{ALL}deny:\n  - {{name: not big, kinds: [write], who: [team], scope: {WS_A}, when: \"has(request.body) && has(request.body.big)\"}}\n"
    ));
    let put = request(Method::PUT, "/x");
    assert!(set.reads_body(&team(), &write_job(), &put));
    assert!(!set.reads_body(&team(), &list_jobs(), &put));
    assert!(!set.reads_body(&caller(&[]), &write_job(), &put));
    let elsewhere = operation(Kind::Write, vec![act("jobs/write", "/subscriptions/other")]);
    assert!(!set.reads_body(&team(), &elsewhere, &put));
    let with = |body: &[u8]| {
        let mut request = put.clone();
        request.body = Some(Arc::new(Inspected::parse(body).unwrap()));
        verdict(&judge_at(&set, &team(), &write_job(), &request, noon()))
    };
    assert_eq!((with(b"{\"BIG\": 1}"), with(b"{}")), ("RequestDisallowedByPolicy", "allow"));
}

#[test]
fn unless_lifts_a_demand_too_and_only_that_one() {
    let set = policy(&format!(
        "{ALL}require:\n  - {{name: near, from: [office], unless: {{who: [boss]}}}}\n  - {{name: counted, limit: {{requests: 1, every: 1s}}}}\n"
    ));
    let mut far = request(Method::GET, "/x");
    far.source = "192.0.2.1:1".parse().unwrap();
    assert_eq!(verdict(&judge_at(&set, &team(), &list_jobs(), &far, noon())), "OutsideNetwork");
    let boss = judge_at(&set, &caller(&["g-boss"]), &list_jobs(), &far, noon());
    assert_eq!((verdict(&boss), boss.obligations.len()), ("allow", 1));
}

#[test]
fn a_network_is_any_of_its_ranges_in_either_family() {
    let set = policy(&format!("{ALL}require:\n  - {{name: near, from: [office]}}\n"));
    for (source, expected) in [
        ("10.255.0.1:1", "allow"),
        ("[2001:db8::7]:1", "allow"),
        ("[::ffff:10.0.0.1]:1", "allow"),
        ("11.0.0.1:1", "OutsideNetwork"),
        ("[2001:db9::7]:1", "OutsideNetwork"),
        ("[::ffff:11.0.0.1]:1", "OutsideNetwork"),
    ] {
        let mut asked = request(Method::GET, "/x");
        asked.source = source.parse().unwrap();
        assert_eq!(verdict(&judge_at(&set, &team(), &list_jobs(), &asked, noon())), expected, "{source}");
    }
}

#[test]
fn a_watched_entry_is_counted_only_where_it_would_change_something() {
    let set = policy(&format!(
        "{ALL}deny:\n  - {{name: now, kinds: [delete]}}\n  - {{name: soon, kinds: [delete, write], dry_run_until: \"2027-01-01T00:00:00Z\"}}\n"
    ));
    let watched = |operation: &Operation| judged(&set, &team(), operation).would_deny.len();
    assert_eq!(watched(&write_job()), 1);
    assert_eq!(watched(&operation(Kind::Delete, vec![act("jobs/delete", WS_A)])), 0);
    assert_eq!(watched(&list_jobs()), 0);
    // Nor is it anything that a caller is told of.
    let denied = judged(&set, &team(), &operation(Kind::Delete, vec![act("jobs/delete", WS_A)]));
    assert!(!format!("{:?}", denied.denial).contains("soon"));
    assert_eq!(denied.flip.len(), 1);
}

#[test]
fn a_stream_is_asked_again_with_everything_that_it_was_decided_by() {
    let opened = |set: &PolicySet, operation: Operation, request: RequestFacts| {
        let principal = Principal::for_tests(team());
        let permit = decide(
            set,
            principal,
            operation,
            request,
            Standing::Entries,
            crate::policy::Azure::default(),
            noon(),
        )
        .unwrap();
        permit.lease(StreamLimits::default())
    };
    let cut = |set: &PolicySet, lease: &crate::policy::Lease, later: u64| match set
        .renew(lease, noon().plus(Duration::from_secs(later)))
    {
        Ok(()) => None,
        Err(Cut::Denied(denial)) => Some(denial.entry.map_or(String::new(), |e| e.name.to_string())),
        Err(other) => panic!("{other}"),
    };
    let mut put = request(Method::PUT, "/x?k=v");
    put.body = Some(Arc::new(Inspected::parse(b"{\"size\": 4}").unwrap()));
    let big = Operation { effects: Effects::NONE.with(Effect::AllocateCompute), ..write_job() };
    let lease = opened(&policy(ALL), big, put);
    let narrowed = |entry: &str| policy(&format!("{ALL}deny:\n  - {{name: d, {entry}}}\n"));
    // A new entry on effects, the body, the query, the address or the caller ends it; its neighbour stays.
    for (entry, other) in [
        ("effects: [allocate_compute]", "effects: [expose_network]"),
        (
            "when: \"has(request.body) && has(request.body.size) && request.body.size > 3\"",
            "when: \"has(request.body) && has(request.body.size) && request.body.size > 4\"",
        ),
        (
            "when: \"has(request.query.k) && request.query.k == 'v'\"",
            "when: \"has(request.query.k) && request.query.k == 'w'\"",
        ),
        ("from: [office]", "who: [boss]"),
        ("who: [team]", "routes: [churn]"),
    ] {
        assert_eq!(cut(&narrowed(entry), &lease, 1).as_deref(), Some("d"), "{entry}");
        assert_eq!(cut(&narrowed(other), &lease, 1), None, "{other}");
    }
    // Time alone ends it, too, at the end of a dry run or by a condition on the time.
    let soon = narrowed("dry_run_until: \"2026-11-23T12:30:00Z\"");
    assert!(soon.depends_on_time());
    assert_eq!((cut(&soon, &lease, 1_799), cut(&soon, &lease, 1_800).as_deref()), (None, Some("d")));
    let until = narrowed("when: now > timestamp('2026-11-23T12:30:00Z')");
    assert!(until.depends_on_time());
    assert_eq!((cut(&until, &lease, 1_800), cut(&until, &lease, 1_801).as_deref()), (None, Some("d")));
    assert!(!policy(ALL).depends_on_time());
}

/// Sets of so many entries, most of which are about others, and one that allows the question.
fn grown(entries: usize) -> Vec<(&'static str, String)> {
    let others = |entry: &dyn Fn(usize) -> String| {
        (1..entries).map(|n| format!("  - {{name: e{n}, {}}}\n", entry(n))).collect::<String>()
    };
    let subjects: String =
        (1..entries).map(|n| format!("  t{n}: [{{issuer: corp, group: g{n}}}]\n")).collect();
    let head = format!(
        "version: 1\nsubjects:\n  team: [{{issuer: corp, group: g-team}}]\n{subjects}allow:\n  - {{name: mine, who: [team], role: Reader, scope: {WS_A}, when: resource.name == 'a'}}\n"
    );
    let scope = |n: usize| format!("scope: {WS_A}{n}");
    let condition = "when: \"resource.name == 'x' || caller.kind == 'machine'\"";
    let teams = others(&|n| format!("who: [t{n}], role: Reader, {}, {condition}", scope(n)));
    let scopes = others(&|n| format!("who: [team], role: Reader, {}, {condition}", scope(n)));
    let guardrails = others(&|n| format!("effects: [expose_network], {}, {condition}", scope(n)));
    let demands = others(&|n| format!("who: [t{n}], {condition}, limit: {{requests: 1, every: 1s}}"));
    vec![
        ("teams", format!("{head}{teams}")),
        ("scopes", format!("{head}{scopes}")),
        ("guardrails", format!("{head}deny:\n{guardrails}")),
        ("demands", format!("{head}require:\n{demands}")),
    ]
}

#[test]
fn of_a_hundred_times_as_many_entries_no_more_are_asked_whether_they_have_conditions_or_not() {
    let operation = list_jobs();
    let request = request(Method::GET, "/x");
    let (team, stranger) = (team(), caller(&[]));
    let asked = |set: &PolicySet, caller: &Caller| {
        let question = Question {
            caller,
            operation: &operation,
            request: &request,
            now: noon(),
            standing: Standing::Entries,
            azure: &crate::policy::rights::UNREAD,
        };
        let membership = set.membership(caller, &Hypothesis::default());
        let look = set.index.look(&question, &membership);
        let counts =
            [List::Allow, List::Deny, List::Require].map(|list| look.candidates(list, Doubt::Counts).len());
        (counts, set.judge(&question).denial.is_none())
    };
    for ((shape, few), (_, many)) in grown(10).into_iter().zip(grown(1_000)) {
        let (few, many) = (set(&few), set(&many));
        assert_eq!(asked(&few, &team), ([1, 0, 0], true), "{shape}");
        assert_eq!(asked(&many, &team), ([1, 0, 0], true), "{shape}");
        // A denial costs no more, its cure included: nobody is looked for who could help.
        assert_eq!(asked(&many, &stranger), ([0, 0, 0], false), "{shape}");
    }
}
