//! Triggers: what is written, what is refused, and whose right it is that they use.

use super::*;
use crate::policy::{ActsAs, Trigger, trigger::Change};

const TRIGGER: &str = "
triggers:
  - name: train
    on: {gerrit: main, project: ml/vision, branch: main}
    as: submitter
    put: \"${scope}/jobs/vision-${change}-${commit12}\"
    scope: ws-a
    body: {properties: {jobType: Command, command: \"python train.py ${commit}\", computeId: x, environmentId: y}}
    report: {label: Verified, url: false}
";

fn text(trigger: &str, lists: &str) -> String {
    format!(
        "version: 1\nscopes: {{ws-a: {WS_A}, two: [/subscriptions/a, /subscriptions/b]}}\n{trigger}{lists}"
    )
}

fn problems(text: &str) -> String {
    let files = FileSet::from_texts([("p.yaml", text)]);
    let problems = PolicySet::compile(&files, &Surroundings::default()).unwrap_err();
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn one(text: &str) -> Arc<Trigger> {
    Arc::clone(&set(text).triggers()[0])
}

#[test]
fn a_trigger_is_what_is_written() {
    let trigger = one(&text(TRIGGER, ""));
    assert_eq!((&*trigger.entry.name, trigger.entry.line), ("train", 5));
    assert_eq!((&*trigger.server, &*trigger.project, &*trigger.branch), ("main", "ml/vision", "main"));
    assert_eq!(trigger.acts_as, ActsAs::Submitter);
    assert_eq!((trigger.report.label.as_deref(), trigger.report.url), (Some("Verified"), false));
    let commit = "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
    let put = trigger.put(Change { number: 42, commit }, &[]).unwrap();
    assert_eq!(put.resource(), format!("{WS_A}/jobs/vision-42-b2b5f7c8fb8f"));
    assert!(put.body.contains(&format!("python train.py {commit}")));
    let plain = TRIGGER.replace("    report: {label: Verified, url: false}\n", "");
    let plain = one(&text(&plain, ""));
    assert_eq!((plain.report.label.as_deref(), plain.report.url), (None, true));
}

#[test]
fn versions_of_assets_are_registered_too() {
    for (path, body) in [
        ("data/d/versions/${change}", "{properties: {dataType: uri_folder, dataUri: 'https://x.example/y'}}"),
        ("environments/e/versions/${commit12}", "{properties: {image: 'x.example/y:${commit}'}}"),
    ] {
        let other = TRIGGER.replace("jobs/vision-${change}-${commit12}", path);
        let start = other.find("body: ").unwrap();
        let end = other[start..].find('\n').unwrap() + start;
        let other = format!("{}body: {body}{}", &other[..start], &other[end..]);
        assert!(one(&text(&other, "")).put.contains(path), "{path}");
    }
}

#[test]
fn each_mistake_is_told_with_its_place_and_mend() {
    for (old, new, expected) in [
        ("name: train", "name: \"train\\u00e9\"", "is no name of a trigger"),
        ("gerrit: main, ", "", "`on` needs `gerrit`"),
        ("gerrit: main", "github: main", "`github` is not in this version"),
        ("project: ml/vision", "project: ../x", "is no project"),
        ("branch: main", "branch: refs/heads/main", "is no branch"),
        ("as: submitter", "as: me", "`as` does not know `me`"),
        ("    as: submitter\n", "", "one of `triggers` needs `as`"),
        ("scope: ws-a", "scope: ws-b", "scope `ws-b` is not defined"),
        ("scope: ws-a", "scope: two", "`scope` is several"),
        ("    scope: ws-a\n", "", "nothing stands for `${scope}`"),
        ("${change}-", "${project}-", "nothing stands for `${project}`"),
        ("${change}-${commit12}", "x", "would be the same for every change"),
        ("/jobs/vision-", "/nothing/vision-", "Azure ML has no such thing to put"),
        ("/jobs/vision-", "/computes/c-", "starts a job or a schedule, or registers a version"),
        ("train.py ${commit}", "train.py ${author}", "nothing stands for `${author}`"),
        ("train.py ${commit}", "train.py ${commit", "is not closed"),
        ("train.py ${commit}", "UNSET", "write what `UNSET` stands for"),
        ("jobType: Command", "tags: {amlgate.commit: x}", "is written by the gate alone"),
        ("jobType: Command", "tags: [x]", "must be objects"),
        ("body: {properties", "body: [properties", ""),
        ("label: Verified", "label: 'Ver ified'", "is no label"),
        ("url: false", "url: 'no'", "`url` is `true` or `false`"),
        ("report: {", "reprot: {", "did you mean `report`?"),
    ] {
        assert!(TRIGGER.contains(old), "{old}");
        let said = problems(&text(&TRIGGER.replacen(old, new, 1), ""));
        assert!(said.starts_with("p.yaml:") && said.contains(expected), "{old} -> {new}: {said}");
    }
    let twice = format!("{TRIGGER}{}", TRIGGER.replace("\ntriggers:\n", ""));
    assert!(problems(&text(&twice, "")).contains("trigger `train` is defined twice"));
    let around = Surroundings { gerrits: Some(["other".to_owned()].into()), ..Surroundings::default() };
    let text = text(TRIGGER, "");
    let said = PolicySet::compile(&FileSet::from_texts([("p.yaml", &*text)]), &around).unwrap_err();
    assert!(said[0].to_string().contains("no `gerrit` named `main`"), "{said:?}");
}

const LISTS: &str = "
subjects:
  team: [{issuer: corp, group: g-team}]
  leads: [{issuer: corp, claims: {level: lead}}]
  pipelines: [{agent: {trigger: train}}]
allow:
  - {name: the team works, who: [team], actions: [Microsoft.MachineLearningServices/workspaces/jobs/*]}
  - {name: triggers do what whoever merged may, who: [pipelines], as: human}
deny:
  - {name: not the leads, who: [leads], scope: /subscriptions/other}
";

fn acting(groups: Groups) -> Caller {
    let claims = json!({"sha": "x", "level": "none"}).as_object().cloned().unwrap();
    Caller {
        kind: PrincipalKind::Agent,
        client: Some("trigger:train".into()),
        groups,
        claims: Arc::new(claims),
        ..caller(&[])
    }
}

fn code(set: &PolicySet, caller: &Caller, resource: &str) -> String {
    let write = operation(Kind::Write, vec![act("jobs/write", resource)]);
    let judged = judge_at(set, caller, &write, &request(Method::PUT, "/x"), noon());
    judged.denial.map_or("allow".to_owned(), |denial| denial.code.name().to_owned())
}

#[test]
fn a_trigger_may_do_what_an_entry_lends_it_and_its_human_may() {
    let set = set(&text(TRIGGER, LISTS));
    let member = Groups::Known(["g-team".into()].into());
    assert_eq!(code(&set, &acting(member.clone()), WS_A), "allow");
    assert_eq!(code(&set, &acting(Groups::Known([].into())), WS_A), "AuthorizationFailed");
    assert_eq!(code(&set, &acting(Groups::Overage), WS_A), "AuthorizationFailed", "nobody said");
    // Another's, and whoever calls themselves so, are none of them.
    let other = Caller { client: Some("trigger:other".into()), ..acting(member.clone()) };
    assert_eq!(code(&set, &other, WS_A), "AuthorizationFailed");
    let person = Caller { kind: PrincipalKind::Person, ..acting(Groups::Known([].into())) };
    assert_eq!(code(&set, &person, WS_A), "AuthorizationFailed");
    let alone = Caller { kind: PrincipalKind::AutonomousAgent, ..acting(member.clone()) };
    assert_eq!(code(&set, &alone, WS_A), "AuthorizationFailed");
    // What a token of the human would say is not known, and so is held against it.
    assert_eq!(code(&set, &acting(member), "/subscriptions/other/w"), "RequestDisallowedByPolicy");
}

#[test]
fn without_an_entry_that_lends_a_trigger_may_nothing() {
    let set = set(&text(TRIGGER, &LISTS.replace(", as: human", ", kinds: [read]")));
    assert_eq!(code(&set, &acting(Groups::Known(["g-team".into()].into())), WS_A), "AuthorizationFailed");
}

#[test]
fn a_subject_names_a_trigger_that_there_is() {
    let lists = |one: &str| format!("subjects: {{p: [{one}]}}\n");
    let said = problems(&text(TRIGGER, &lists("{agent: {trigger: tran}}")));
    assert!(
        said.contains("trigger `tran` is not defined") && said.contains("did you mean `train`?"),
        "{said}"
    );
    for (one, expected) in [
        ("{agent: {client_id: 'trigger:train'}}", "needs `issuer`"),
        ("{issuer: corp, agent: {client_id: 'trigger:train'}}", "write `agent: {trigger: train}`"),
        ("{agent: {trigger: train, client_id: x}}", "names both"),
        ("{agent: {}}", "needs `client_id` or `trigger`"),
        ("{agent: {trigger: train}, kind: person}", "contradict"),
        ("{kind: agent}", "needs `issuer`"),
    ] {
        let said = problems(&text(TRIGGER, &lists(one)));
        assert!(said.contains(expected), "{one}: {said}");
    }
    set(&text(TRIGGER, &lists("{issuer: corp, subject: t/ann, agent: {trigger: train}}")));
}

#[test]
fn a_case_asks_as_a_trigger() {
    let set = set(&text(TRIGGER, LISTS));
    let url = format!("https://management.azure.com{WS_A}/jobs/j?api-version=1");
    for (groups, decision) in [("g-team", "allow"), ("g-other", "deny")] {
        let case = format!(
            "version: 1\ncases:\n  - {{name: a, as: {{issuer: corp, subject: t/ann, groups: [{groups}], trigger: train}}, \
             request: {{method: GET, url: '{url}'}}, expect: {{decision: {decision}}}}}\n"
        );
        let door = &crate::policy::described::Door::of_azure;
        let outcomes = crate::policy::cases::run(&set, &"p.test.yaml".into(), &case, door).unwrap();
        assert!(outcomes[0].failure.is_none(), "{:?}", outcomes[0].failure);
    }
}
