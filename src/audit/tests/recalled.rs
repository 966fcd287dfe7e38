//! From records back to questions.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use super::{
    recall::{NotRecorded, Recalled, recall},
    requests::{WORKSPACE, caller, judged, now, operation, policies, request},
    *,
};
use crate::{
    azureml::{Act, Action, Allocation, Effect, Effects, Kind, ResourceId, SecretClass, Secrets},
    identity::{AskedGroups, GerritGroup, Groups, ReviewerGroups},
    policy::{
        SecretTreatment,
        replay::{Replayed, replay},
    },
};

/// The first record of a request that these policies decide.
async fn recorded(
    operation: crate::azureml::Operation,
    request: crate::policy::RequestFacts,
    caller: crate::identity::Caller,
) -> serde_json::Value {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    match judged(operation, request, caller) {
        Ok(cleared) => {
            let mut recorded = journal.intend(cleared, Exchange::default()).await.unwrap();
            recorded.outcome().ended(Ending::Completed);
        }
        Err(denied) => journal.denied(&denied).await.unwrap(),
    }
    assert!(journal.close().await);
    records(&disk).remove(0)
}

fn recalled(record: &serde_json::Value) -> Recalled {
    recall(record).unwrap().unwrap()
}

#[tokio::test]
async fn what_policies_judge_by_comes_back_out_of_the_record() {
    for kind in [Kind::Read, Kind::Write] {
        let mut then = operation(kind, "onlineEndpoints/listKeys/action");
        then.effects = Effects::NONE.with(Effect::AllocateCompute);
        then.unclear_effects = Effects::NONE.with(Effect::ExposeNetwork);
        then.secrets = Secrets::NONE.with(SecretClass::EndpointKey);
        then.facts.allocates = Some(Box::new(Allocation {
            nodes: Some(4),
            skus: Some(vec!["Standard_NC6".into()]),
            gpus: Some(1),
            hours: None,
        }));
        let job = Act {
            action: Action::new("Microsoft.MachineLearningServices/workspaces/jobs/write"),
            resource: ResourceId::parse(&format!("{WORKSPACE}/jobs/j")),
        };
        then.acts.push(job);
        let asked = request(Method::POST, "/subscriptions/s1/x%20y?api-version=1&secret=s");
        let record = recorded(then.clone(), asked.clone(), caller()).await;
        let back = recalled(&record);
        assert_eq!(back.denied, None);
        assert_eq!(back.secrets, [(SecretClass::EndpointKey, SecretTreatment::Reveal)]);
        assert_eq!((back.at, back.skus), (now(), true));
        assert_eq!(back.operation, crate::azureml::Operation { audience: back.operation.audience, ..then });
        assert_eq!(back.request.target.path(), asked.target.path());
        assert_eq!((&back.request.method, &back.request.route), (&asked.method, &asked.route));
        assert_eq!(back.request.source.ip(), asked.source.ip());
        assert_eq!(back.request.decision, asked.decision);
        let who = caller();
        assert_eq!((&back.caller.id, back.caller.kind), (&who.id, who.kind));
        assert_eq!((&back.caller.groups, &back.caller.roles), (&who.groups, &who.roles));
        assert_eq!((&back.caller.tenant, &back.caller.client), (&who.tenant, &who.client));
        let Replayed::Decided(judgement) = replay(&policies(), &back.question(), back.skus) else {
            panic!("nothing is open")
        };
        assert_eq!((judgement.denial, judgement.secrets), (None, back.secrets));
    }
}

#[tokio::test]
async fn a_denial_comes_back_with_its_code_and_is_denied_again() {
    let record =
        recorded(operation(Kind::Delete, "models/delete"), request(Method::DELETE, "/m"), caller()).await;
    let back = recalled(&record);
    assert_eq!(back.denied.as_deref(), Some("AuthorizationFailed"));
    let Replayed::Decided(judgement) = replay(&policies(), &back.question(), back.skus) else {
        panic!("nothing is open")
    };
    assert_eq!(judgement.denial.unwrap().code.name(), "AuthorizationFailed");
}

#[tokio::test]
async fn the_human_behind_a_caller_comes_back() {
    let mut who = caller();
    let human = crate::identity::PrincipalId { issuer: "corp".into(), subject: "tenant/a:b".into() };
    who.human = Some(human.clone());
    let record = recorded(operation(Kind::Read, "jobs/read"), request(Method::GET, "/x"), who).await;
    assert_eq!(recalled(&record).caller.human, Some(human));
}

#[tokio::test]
async fn the_groups_that_a_directory_was_asked_about_come_back() {
    let mut who = caller();
    let (about, member) = (["g1".into(), "g2".into()].into(), Arc::new(["g2".into()].into()));
    who.groups = Groups::Asked(Arc::new(AskedGroups::new(about, Ok(member))));
    let record = |who| recorded(operation(Kind::Read, "jobs/read"), request(Method::GET, "/x"), who);
    assert_eq!(recalled(&record(who.clone()).await).caller.groups, who.groups);
    who.groups = Groups::Asked(Arc::new(AskedGroups::new(["g1".into()].into(), Err("down".into()))));
    assert_eq!(recalled(&record(who).await).caller.groups, Groups::Overage);
}

#[tokio::test]
async fn what_mirrors_said_of_a_callers_groups_comes_back() {
    let mut who = caller();
    let group = |group: &str| GerritGroup { server: "main".into(), group: group.into() };
    let about = ["a/b", "banned", "risk reviewers"].map(group).into();
    let unread = vec![(group("banned"), "Gerrit is away".into())];
    who.reviewers = Some(Arc::new(ReviewerGroups::told(about, vec![group("a/b")], unread)));
    let record = |who| recorded(operation(Kind::Read, "jobs/read"), request(Method::GET, "/x"), who);
    let back = recalled(&record(who).await).caller.reviewers.unwrap();
    let held = ["a/b", "banned", "risk reviewers", "other"].map(|name| back.holds(&group(name)));
    assert_eq!(held, [Some(true), None, Some(false), None]);
    assert_eq!(recalled(&record(caller()).await).caller.reviewers, None);
    let many: Arc<[_]> = (0..65).map(|n| group(&n.to_string())).collect();
    let member = many.to_vec();
    let all = Some(Arc::new(ReviewerGroups::told(many, member, Vec::new())));
    let who = crate::identity::Caller { reviewers: all, ..caller() };
    assert_eq!(recalled(&record(who).await).caller.reviewers, None, "of a part nothing is concluded");
}

#[tokio::test]
async fn the_subjects_of_a_handle_come_back() {
    let mut who = caller();
    who.groups = Groups::Overage;
    who.subjects_at_issue = Some(["team".into()].into());
    let record = recorded(operation(Kind::Read, "jobs/read"), request(Method::GET, "/x"), who).await;
    let back = recalled(&record);
    assert_eq!(back.caller.subjects_at_issue.as_deref(), Some(&["team".into()][..]));
    assert!(
        matches!(replay(&policies(), &back.question(), true), Replayed::Decided(j) if j.denial.is_none())
    );
}

#[tokio::test]
async fn what_was_cut_or_is_missing_is_said_and_not_guessed() {
    let whole = recorded(operation(Kind::Write, "jobs/write"), request(Method::PUT, "/x"), caller()).await;
    let without = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut record = whole.clone();
        change(&mut record);
        recall(&record).unwrap().map(|_| ())
    };
    let lacks = |what: &str| Err(NotRecorded(what.to_owned()));
    assert_eq!(without(&|_| {}), Ok(()));
    let own = |r: &mut serde_json::Value, key: &str, value| r["unmapped"]["amlgate"][key] = value;
    assert_eq!(without(&|r| own(r, "groups_count", json!(500))), lacks("all of the caller's groups"));
    assert_eq!(without(&|r| own(r, "acts_count", json!(2))), lacks("all that the request did"));
    assert_eq!(without(&|r| own(r, "shortened", json!("yes"))), lacks("all of its lists: it was shortened"));
    assert_eq!(
        without(&|r| own(r, "protocol", json!(null))),
        lacks("`protocol` in words that are known here")
    );
    assert_eq!(
        without(&|r| own(r, "effects", json!(["fly"]))),
        lacks("`effects` in words that are known here")
    );
    assert_eq!(without(&|r| r["actor"]["user"]["uid"] = json!("corp:x…")), lacks("all of the caller"));
    assert_eq!(
        without(&|r| r["http_request"]["url"]["path"] = json!("/x/%2f")),
        lacks("a path that can be read")
    );
    let mut unnamed = whole.clone();
    unnamed["unmapped"]["amlgate"].as_object_mut().unwrap().remove("operation");
    assert!(recall(&unnamed).is_none());
}
