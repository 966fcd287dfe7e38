//! Who must say yes, and that everything that explains a decision says the same.

use super::*;
use crate::{
    azureml::{SecretClass, Secrets as Held},
    policy::{
        Approvers, Covers, DenialCode, SecretTreatment, StreamLimits, cases, decide,
        described::{Described, Door},
        explained::Explained,
        flip,
        lease::Cut,
        replay::{Replayed, replay},
    },
    yaml::Problem,
};

const POLICIES: &str = "
version: 1
subjects:
  team: [{issuer: corp, group: team}]
  admins: [{issuer: corp, group: admins}]
  platform: [{issuer: corp, group: platform}]
  copilots: [{issuer: corp, agent: {client_id: app}}]
allow:
  - {name: reads, who: [team], kinds: [read]}
  - {name: writes, who: [team], kinds: [write], approval: {by: [{subject: platform}], uses: 2, covers: entry, valid_for: 4h, skip: [admins]}}
  - {name: agents, who: [copilots], actions: [\"*\"]}
require:
  - {name: agents ask, who: [copilots], kinds: [write], approval: {by: human, hold: 30s}}
";

fn writes() -> Operation {
    operation(Kind::Write, vec![act("jobs/write", WS_A)])
}

fn wanted(judgement: &Judgement) -> Vec<&str> {
    assert_eq!(judgement.denial, None, "{judgement:?}");
    judgement.approvals().map(|approval| &*approval.entry.name).collect()
}

fn person(groups: &[&str]) -> Caller {
    Caller { client: Some("browser".into()), ..caller(groups) }
}

#[test]
fn an_entry_with_an_approval_lets_nothing_through_without_one() {
    let set = set(POLICIES);
    let judgement = judged(&set, &person(&["team"]), &writes());
    assert_eq!(wanted(&judgement), ["writes"]);
    assert_eq!(&*judgement.allowed_by[0].name, "writes");
    let approval = set.approval("writes").unwrap();
    assert_eq!(
        (approval.covers, approval.uses, approval.valid_for.as_secs()),
        (Covers::Entry, Some(2), 14_400)
    );
    assert_eq!(*approval.by, [Approvers::Subject { name: "platform".into(), count: 1 }]);
    assert_eq!(wanted(&judged(&set, &person(&["team"]), &list_jobs())), Vec::<&str>::new());
    assert_eq!(wanted(&judged(&set, &person(&["team", "admins"]), &writes())), Vec::<&str>::new(), "skipped");
}

#[test]
fn where_an_entry_without_an_approval_suffices_nobody_is_asked() {
    let more = POLICIES.replace("require:", "  - {name: free, who: [admins], kinds: [write]}\nrequire:");
    let set = set(&more.replace(", skip: [admins]", ""));
    let judgement = judged(&set, &person(&["team", "admins"]), &writes());
    assert_eq!((wanted(&judgement), &*judgement.allowed_by[0].name), (vec![], "free"));
    // Of several acts, each that nothing else allows.
    let other = WS_A.replace("workspaces/a", "workspaces/b");
    let scoped = more.replace("free, who: [admins]", &format!("free, who: [team], scope: {other}"));
    let both = operation(Kind::Write, vec![act("jobs/write", &other), act("jobs/write", WS_A)]);
    let judgement = judged(&super::set(&scoped), &person(&["team"]), &both);
    assert_eq!(wanted(&judgement), ["writes"]);
}

#[test]
fn secrets_that_only_an_entry_with_an_approval_names_need_it() {
    let set = set("
version: 1
subjects: {team: [{issuer: corp, group: team}], platform: [{issuer: corp, group: platform}]}
allow:
  - {name: plain, who: [team], actions: [\"*\"]}
  - {name: keys, who: [team], actions: [\"*/listKeys/action\"], secrets: {endpoint_key: reveal}, approval: {by: {subject: platform}}}
");
    let keys = Operation {
        secrets: Held::NONE.with(SecretClass::EndpointKey),
        ..operation(Kind::Action, vec![act("onlineEndpoints/listKeys/action", WS_A)])
    };
    let judgement = judged(&set, &person(&["team"]), &keys);
    assert_eq!(wanted(&judgement), ["keys"]);
    assert_eq!(judgement.secrets, [(SecretClass::EndpointKey, SecretTreatment::Reveal)]);
    let without = Operation { secrets: Held::NONE, ..keys };
    assert_eq!(wanted(&judged(&set, &person(&["team"]), &without)), Vec::<&str>::new());
}

#[test]
fn the_human_of_an_agent_is_asked_and_a_human_who_calls_is_one_already() {
    let set = set(POLICIES);
    let agent = caller(&[]).as_agent();
    assert_eq!(wanted(&judged(&set, &agent, &writes())), ["agents ask"]);
    assert_eq!(wanted(&judged(&set, &agent, &list_jobs())), Vec::<&str>::new());
    let everybody = super::set(&POLICIES.replace("agents ask, who: [copilots]", "all ask"));
    assert_eq!(wanted(&judged(&everybody, &person(&["team"]), &writes())), ["writes"]);
    // Nothing that a human may only do with an approval is lent.
    let lent = super::set(&POLICIES.replace("actions: [\"*\"]", "as: human"));
    let team = caller(&["team"]).as_agent();
    assert_eq!(verdict(&judged(&lent, &team, &writes())), "AuthorizationFailed");
    assert_eq!(verdict(&judged(&lent, &team, &list_jobs())), "allow");
}

#[test]
fn who_meets_a_demand_is_surely_of_its_subject() {
    let set = set(POLICIES);
    let by = &set.approval("writes").unwrap().by;
    assert_eq!(set.meets(by, &person(&["platform"])), [0]);
    assert_eq!(set.meets(by, &person(&["team"])), [0; 0]);
    assert_eq!(set.meets(by, &Caller { groups: Groups::Overage, ..person(&[]) }), [0; 0]);
    assert_eq!(
        set.meets(by, &caller(&["platform"]).as_agent()),
        [0; 0],
        "software is of no subject of people"
    );
    assert_eq!(set.meets(&set.approval("agents ask").unwrap().by, &person(&["platform"])), [0; 0]);
}

#[test]
fn an_approval_has_another_version_once_the_entry_or_a_subject_of_its_own_changes() {
    let version = |text: &str| set(text).approval("writes").unwrap().version;
    let before = version(POLICIES);
    assert_ne!(before, [0; 32]);
    assert_eq!(before, version(&POLICIES.replace("name: reads", "name: other reads")));
    assert_eq!(before, version(&POLICIES.replace("\nallow:", "\n# moved by a line\nallow:")));
    for (old, new) in [
        ("uses: 2", "uses: 3"),
        ("kinds: [write]", "kinds: [write, delete]"),
        ("group: team", "group: others"),
        ("group: platform", "group: everybody"),
        ("group: admins", "group: more"),
        ("skip: [admins]", "skip: [admins, platform]"),
        ("covers: entry, valid_for", "ask: {reason: required}, covers: entry, valid_for"),
    ] {
        assert_ne!(before, version(&POLICIES.replace(old, new)), "{old} -> {new}");
    }
    let when = |condition: &str| {
        version(&POLICIES.replace("kinds: [write],", &format!("kinds: [write], when: \"{condition}\",")))
    };
    assert_ne!(when("allocates.nodes > 4"), when("allocates.nodes > 5"));
}

#[test]
fn a_body_is_read_where_an_approval_would_bind_it() {
    let read = |text: &str| {
        let request = request(Method::PUT, "/x");
        set(text).reads_body(&person(&["team"]), &writes(), &request)
    };
    assert!(!read(POLICIES), "it covers the entry");
    let bound = POLICIES.replace("covers: entry, ", "");
    assert!(read(&bound));
    assert!(!set(&bound).reads_body(&person(&["team", "admins"]), &writes(), &request(Method::PUT, "/x")));
    assert!(!set(&bound).reads_body(&person(&["team"]), &list_jobs(), &request(Method::GET, "/x")));
}

#[test]
fn a_demand_that_is_only_watched_asks_nobody() {
    let watched = POLICIES.replace(
        "agents ask, who: [copilots],",
        "agents ask, who: [copilots], dry_run_until: 2026-12-01T00:00:00Z,",
    );
    let judgement = judged(&set(&watched), &caller(&[]).as_agent(), &writes());
    assert_eq!(wanted(&judgement), Vec::<&str>::new());
    assert_eq!(judgement.would_deny.iter().map(|entry| &*entry.name).collect::<Vec<_>>(), ["agents ask"]);
}

#[test]
fn a_stream_goes_on_only_while_every_approval_that_is_demanded_is_one_that_it_had() {
    let free = POLICIES.replace(
        ", approval: {by: [{subject: platform}], uses: 2, covers: entry, valid_for: 4h, skip: [admins]}",
        "",
    );
    let opened = |text: &str| {
        let principal = crate::identity::Principal::for_tests(person(&["team"]));
        let request = request(Method::PUT, "/x");
        let azure = crate::policy::Azure::default();
        let permit =
            decide(&set(text), principal, writes(), request, Standing::Entries, azure, noon()).unwrap();
        permit.lease(StreamLimits::default())
    };
    assert_eq!(set(POLICIES).renew(&opened(&free), noon()), Err(Cut::Unapproved("writes".into())));
    let lease = opened(POLICIES);
    assert_eq!(set(POLICIES).renew(&lease, noon()), Ok(()));
    assert_eq!(set(&POLICIES.replace("name: reads", "name: r")).renew(&lease, noon()), Ok(()));
    assert_eq!(
        set(&POLICIES.replace("uses: 2", "uses: 1")).renew(&lease, noon()),
        Err(Cut::Unapproved("writes".into()))
    );
}

#[test]
fn tests_flips_traces_and_replays_say_the_same() {
    let set = set(POLICIES);
    let case = |expect: &str| {
        let url = format!("https://management.azure.com{WS_A}/datastores/d?api-version=1");
        let text = format!(
            "version: 1\ncases:\n  - {{name: c, as: {{issuer: corp, groups: [team]}}, request: {{method: PUT, url: '{url}', body: {{}}}}, expect: {expect}}}\n"
        );
        let outcome = cases::run(&set, &"p.test.yaml".into(), &text, &Door::of_azure).unwrap().remove(0);
        (outcome.failure.map(|problem| problem.message), outcome.decided_by)
    };
    let (failure, decided_by) = case("{decision: needs_approval, entry: writes, code: ApprovalRequired}");
    assert_eq!(failure, None);
    assert!(decided_by.contains(&"writes".to_owned()), "{decided_by:?}");
    for expect in ["{decision: allow}", "{decision: deny}", "{decision: needs_approval, code: OutsideHours}"]
    {
        let failure = case(expect).0.unwrap();
        assert!(failure.contains("it needs the approval of 1 of `platform` (entry `writes`)"), "{failure}");
    }
    let (request, operation, who) = (request(Method::PUT, "/x"), writes(), person(&["team"]));
    let question = Question {
        caller: &who,
        operation: &operation,
        request: &request,
        now: noon(),
        standing: Standing::Entries,
        azure: &crate::policy::rights::UNREAD,
    };
    assert!(flip::flips(&set, &question).sets.is_empty(), "nothing is denied");
    let traced = set.trace(&question);
    let of = |name: &str| traced.iter().find(|trace| *trace.entry.name == *name).unwrap().approval.clone();
    assert_eq!(of("writes").unwrap().words(), "1 of `platform`");
    assert_eq!(of("reads"), None);
    let Replayed::Decided(judgement) = replay(&set, &question, true) else { panic!() };
    assert_eq!(judgement.wanted().unwrap().words, "entry `writes` demands the approval of 1 of `platform`");
    assert_eq!(DenialCode::ApprovalRequired.name(), "ApprovalRequired");
    assert!(set.views().iter().any(|view| format!("{:?}", view.keys).contains("by 1 of `platform`")));
    let described = Described::of(who, operation, request, Standing::Entries);
    let explained = serde_json::to_value(Explained::of(&set, &described)).unwrap();
    let told = ["decision", "code", "cause", "cure"].map(|key| explained[key].as_str());
    let cause = "entry `writes` demands the approval of 1 of `platform`";
    assert_eq!(told, [Some("needs_approval"), Some("ApprovalRequired"), Some(cause), None]);
    let entries = explained["entries"].as_array().unwrap();
    let approval = |name| &entries.iter().find(|one| one["entry"]["name"] == name).unwrap()["approval"];
    assert_eq!((approval("writes"), approval("reads")), (&"1 of `platform`".into(), &Value::Null));
}

#[test]
fn what_makes_no_approval_is_refused_where_it_stands() {
    for (written, wanted) in [
        ("x", "`approval` must be a map"),
        ("{}", "`approval` needs `by`"),
        ("{by: []}", "empty list"),
        ("{by: platform}", "write `{subject: platform, count: 1}`"),
        ("{by: [{subject: nobody}]}", "subject `nobody` is not defined"),
        ("{by: [{subject: authenticated}]}", "everybody with a valid token could approve"),
        ("{by: [{count: 1}]}", "names neither `subject` nor `gerrit_group`"),
        ("{by: [{subject: platform, count: 0}]}", "whole number"),
        ("{by: [{subject: platform, count: 17}]}", "more than 16"),
        ("{by: [{subject: platform}, {subject: platform}]}", "the same twice"),
        ("{by: [human, human]}", "the same twice"),
        ("{by: [{gerrit_group: risk}]}", "`gerrit_group` does not say of which server the group is"),
        ("{by: human, covers: all}", "`covers` does not know `all`"),
        ("{by: human, uses: 0}", "whole number"),
        ("{by: human, valid_for: 4}", "must be text"),
        ("{by: human, valid_for: 31d}", "longer than"),
        ("{by: human, valid_for: 250ms}", "is no duration"),
        ("{by: human, hold: 3m}", "longer than 120 s"),
        ("{by: human, never: [commit_author]}", "the entry demands no `review`"),
        ("{by: human, never: [boss]}", "`never` does not know `boss`"),
        ("{by: human, ask: {reason: always}}", "`reason` does not know `always`"),
        ("{by: human, ask: {ticket: '('}}", "is no regular expression"),
        ("{by: human, skip: [authenticated]}", "exempts every caller"),
        ("{by: human, skip: []}", "empty list"),
        ("{by: human, after: 4h}", "unknown key `after`"),
    ] {
        let text = format!(
            "version: 1\nsubjects: {{platform: [{{issuer: corp, group: platform}}]}}\nrequire:\n  - {{name: r, approval: {written}}}\n"
        );
        let files = FileSet::from_texts([("p.yaml", &*text)]);
        let problems = PolicySet::compile(&files, &Surroundings::default()).unwrap_err();
        let said: Vec<_> = problems.iter().map(Problem::to_string).collect();
        assert!(said[0].contains(wanted) && said[0].starts_with("p.yaml:4:"), "{written}: {said:?}");
        assert_eq!(said.len(), 1, "{written}: {said:?}");
    }
    let denying = "version: 1\ndeny:\n  - {name: d, kinds: [read], approval: {by: human}}\n";
    let problems = PolicySet::compile(&FileSet::from_texts([("p.yaml", denying)]), &Surroundings::default());
    assert!(problems.unwrap_err()[0].to_string().contains("nothing that is approved lifts"));
}

#[test]
fn the_schema_has_the_keys_of_an_approval() {
    let schema: Value = serde_json::from_str(crate::policy::SCHEMA).unwrap();
    let keys = schema["$defs"]["approval"]["properties"].as_object().unwrap();
    let mut known = crate::policy::raw::APPROVAL_KEYS.to_vec();
    known.sort_unstable();
    let mut keys: Vec<_> = keys.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, known);
}

#[test]
fn a_ticket_is_all_of_what_the_pattern_says() {
    let text = POLICIES.replace("by: human, hold", "by: human, ask: {ticket: 'CHG[0-9]{3}|INC[0-9]'}, hold");
    let set = set(&text);
    let ticket = set.approval("agents ask").unwrap().ticket.clone().unwrap();
    for (name, is) in [("CHG123", true), ("INC7", true), ("CHG1234", false), ("xCHG123", false), ("", false)]
    {
        assert_eq!(ticket.is(name), is, "{name}");
    }
}
