//! What break-glass lifts: the entries that say so, for whoever holds it open, and no right besides.

use super::*;
use crate::policy::{Change, OpenGlass, Recording};

const POLICY: &str = "version: 1
subjects: {team: [{issuer: corp, group: g}], boss: [{issuer: corp, group: b}]}
allow:
  - {name: team, who: [team], kinds: [read, write]}
  - {name: own, who: [team], actions: [amlgate/*]}
deny:
  - {name: frozen, kinds: [write], unless: {break_glass: true}}
  - {name: for nobody, kinds: [write], actions: [Microsoft.MachineLearningServices/workspaces/delete]}
  - {name: but the boss, actions: [Microsoft.MachineLearningServices/workspaces/models/write], unless: {who: [boss], break_glass: true}}
  - {name: all of it, from: [here], who: [team], actions: [amlgate/*], unless: {break_glass: true}}
require:
  - {name: at night, kinds: [write], during: night, record: {bodies: [request], redact: [/password]}, unless: {break_glass: true}}
networks: {here: [10.0.0.0/8]}
calendars: {night: {zone: UTC, from: '20:00', to: '06:00'}}
";

fn glass() -> Option<Arc<OpenGlass>> {
    Some(Arc::new(OpenGlass { id: "b-1".into() }))
}

fn under(set: &PolicySet, groups: &[&str], operation: &Operation) -> Judgement {
    let request = RequestFacts { glass: glass(), ..request(Method::PUT, "/x") };
    judge_at(set, &caller(groups), operation, &request, noon())
}

fn write(action: &str) -> Operation {
    operation(Kind::Write, vec![act(action, WS_A)])
}

#[test]
fn an_entry_that_says_so_is_lifted_and_noted_and_what_it_lifted_is_recorded_whole() {
    let set = set(POLICY);
    let jobs = write("jobs/write");
    let denied = judged(&set, &caller(&["g"]), &jobs);
    assert_eq!(verdict(&denied), "RequestDisallowedByPolicy");
    assert!(denied.denial.unwrap().cure.contains("amlgate break-glass open"));
    let passed = under(&set, &["g"], &jobs);
    assert_eq!(verdict(&passed), "allow");
    let lifted: Vec<_> = passed.lifted.iter().map(|entry| &*entry.name).collect();
    assert_eq!(lifted, ["frozen", "at night"]);
    let record = passed.record.unwrap();
    assert!(record.request && record.response && record.keep.is_none());
    assert_eq!(record.redact.len(), 1, "what an entry leaves out of the record stays out");
}

#[test]
fn nothing_else_is_lifted_and_no_right_comes_with_it() {
    let set = set(POLICY);
    let delete = under(&set, &["g"], &write("delete"));
    assert_eq!(verdict(&delete), "RequestDisallowedByPolicy");
    assert!(delete.lifted.is_empty() && delete.record.is_none(), "nothing was done under it");
    assert!(
        delete
            .flip
            .iter()
            .any(|change| matches!(change, Change::Leave(entry) if entry.name() == "for nobody"))
    );
    let stranger = under(&set, &[], &write("jobs/write"));
    assert_eq!(verdict(&stranger), "AuthorizationFailed");
    // A plain read is what it was.
    let read = under(&set, &["g"], &list_jobs());
    assert_eq!((verdict(&read), read.lifted.len(), read.record), ("allow", 0, None::<Box<Recording>>));
}

#[test]
fn each_key_of_unless_lifts_by_itself() {
    let set = set("version: 1
subjects: {team: [{issuer: corp, group: g}], boss: [{issuer: corp, group: b}]}
allow: [{name: team, who: [team], kinds: [write]}]
deny: [{name: but the boss, kinds: [write], unless: {who: [boss], break_glass: true}}]
");
    let models = write("models/write");
    assert_eq!(verdict(&judged(&set, &caller(&["g"]), &models)), "RequestDisallowedByPolicy");
    assert_eq!(verdict(&judged(&set, &caller(&["g", "b"]), &models)), "allow");
    assert_eq!(under(&set, &["g"], &models).lifted.len(), 1);
    let boss = under(&set, &["g", "b"], &models);
    assert!(boss.lifted.is_empty(), "whom the entry exempts needs no break-glass");
}

#[test]
fn what_only_break_glass_lifts_does_not_keep_it_shut() {
    let set = set(POLICY);
    let of = |action| Operation::of_the_gate(action, Kind::Action);
    assert_eq!(verdict(&judged(&set, &caller(&["g"]), &of("amlgate/break-glass/open/action"))), "allow");
    let other = judged(&set, &caller(&["g"]), &of("amlgate/audit/read"));
    assert_eq!(verdict(&other), "RequestDisallowedByPolicy");
}

#[test]
fn a_watched_entry_is_not_noted_as_lifted() {
    let set = set("version: 1
subjects: {team: [{issuer: corp, group: g}]}
allow: [{name: team, who: [team], kinds: [write]}]
deny: [{name: soon, kinds: [write], unless: {break_glass: true}, dry_run_until: 2027-01-01T00:00:00Z}]
");
    let passed = under(&set, &["g"], &write("jobs/write"));
    assert!(passed.lifted.is_empty() && passed.record.is_none() && passed.would_deny.is_empty());
    assert_eq!(judged(&set, &caller(&["g"]), &write("jobs/write")).would_deny.len(), 1);
}
