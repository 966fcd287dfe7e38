//! Only from reviewed code: what GitLab says of a merge request.

use std::sync::Arc;

use amlgate::{
    sandbox::azure::names,
    time::{Clock as _, ManualClock, SystemClock},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    code_hosts::stand_in::{Answers, CodeHost, Mood},
    reviews::built,
    world::{Answer, Changes, VERSION, World, job, workspace},
};

const TOKEN: &str = "gitlab-token-canary";
const HEAD: &str = "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const BASE: &str = "00b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const LANDED: &str = "c3b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const TIP: &str = "d4b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const ANA: u64 = 11;
const BO: u64 = 12;
const PROJECT: &str = "/api/v4/projects/corp%2Fml%2Fvision";

const POLICIES: &str = "version: 1
subjects:
  everybody: [{issuer: sandbox, group: data-science}, {issuer: sandbox, kind: machine}]
allow:
  - {name: they work, who: [everybody], actions: [Microsoft.MachineLearningServices/*]}
require:
  - name: jobs come from reviewed code
    actions: [Microsoft.MachineLearningServices/workspaces/jobs/write]
    review: {gitlab: main, project: corp/ml/vision, branch: main, commit: caller.sha, by: [{gitlab_group: risk/reviewers, count: 1}]}
";

/// A merge request that was reviewed, merged and is on the branch.
fn gitlab() -> Answers {
    let request = json!({
        "id": 900, "iid": 42, "project_id": 9, "source_project_id": 9, "source_branch": "train", "target_branch": "main",
        "state": "merged", "sha": HEAD, "merge_commit_sha": null, "squash_commit_sha": LANDED,
        "merged_at": "2026-11-01T12:00:00.000Z", "author": {"id": ANA, "username": "ana"},
        "web_url": "https://gitlab.corp/corp/ml/vision/-/merge_requests/42"
    });
    let event = json!({"id": 1, "author_id": ANA, "created_at": "2026-11-01T10:00:00.000Z", "action_name": "pushed new",
        "push_data": {"action": "created", "ref_type": "branch", "ref": "train", "commit_from": null, "commit_to": HEAD}});
    let bare = |sha: &str| json!({"id": sha, "parent_ids": [BASE], "title": "Train"});
    let whole = json!({"hasNextPage": false});
    let node = json!({"sha": HEAD, "authorEmail": "ana@x.example", "committerEmail": "Ana@x.example", "message": "Train",
        "author": {"id": format!("gid://gitlab/User/{ANA}")}});
    let wrote = json!({"data": {"project": {"mergeRequest": {"commits": {"pageInfo": whole, "nodes": [node]},
        "committers": {"pageInfo": whole, "nodes": [{"id": format!("gid://gitlab/User/{ANA}")}]}}}}});
    let of = |path: &str| format!("{PROJECT}{path}");
    let page = |path: &str| of(&format!("{path}?per_page=100&page=1"));
    [
        (of(""), json!({"id": 9, "path_with_namespace": "corp/ml/vision"})),
        (page(&format!("/repository/commits/{HEAD}/merge_requests")), json!([request])),
        (page(&format!("/repository/commits/{LANDED}/merge_requests")), json!([request])),
        (of("/repository/branches/main"), json!({"name": "main", "commit": {"id": TIP}})),
        (of(&format!("/repository/merge_base?refs%5B%5D={HEAD}&refs%5B%5D={TIP}")), bare(HEAD)),
        (of(&format!("/repository/merge_base?refs%5B%5D={LANDED}&refs%5B%5D={TIP}")), bare(LANDED)),
        (of("/merge_requests/42"), request),
        (
            of("/merge_requests/42/approvals"),
            json!({"approved": true, "approvals_left": 0, "approved_by": [{"user": {"id": BO, "username": "bo"}, "approved_at": "2026-11-01T11:00:00.000Z"}]}),
        ),
        (page("/merge_requests/42/reviewers"), json!([{"user": {"id": BO}, "state": "approved"}])),
        (page("/merge_requests/42/versions"), json!([{"id": 1, "head_commit_sha": HEAD, "created_at": "2026-11-01T10:01:00.000Z"}])),
        ("/api/graphql".to_owned(), wrote),
        ("/api/v4/projects/9/events?action=pushed&sort=desc&per_page=100&page=1".to_owned(), json!([event])),
        (page(&format!("/repository/commits/{HEAD}/statuses")), json!([{"name": "build", "status": "success", "allow_failure": false}])),
        (of(&format!("/repository/commits/{HEAD}")), bare(HEAD)),
        (of(&format!("/repository/commits/{LANDED}")), bare(LANDED)),
        (
            of(&format!("/repository/compare?from={HEAD}&to={LANDED}&straight=true")),
            json!({"commits": [], "diffs": [], "compare_timeout": false, "compare_same_ref": false}),
        ),
        (format!("/api/v4/users/{BO}"), json!({"id": BO, "username": "bo", "state": "active", "bot": false})),
        (of(&format!("/members/all/{BO}")), json!({"id": BO, "state": "active", "access_level": 30})),
        (
            format!("/api/v4/groups/risk%2Freviewers/members/all/{BO}"),
            json!({"id": BO, "state": "active", "access_level": 20}),
        ),
        ("/api/v4/user".to_owned(), json!({"id": 7, "username": "amlgate-reader", "bot": true})),
    ]
    .into()
}

async fn world(host: &CodeHost) -> World {
    let clock = ManualClock::starting_at(SystemClock.now());
    let block = format!(
        "gitlab:\n  - {{name: main, url: \"http://{}\", token: {{file: gitlab.token}}, accounts: [{{id: {BO}, person: 00000000-0000-4000-8000-000000000012}}]}}\npeople: {{canonical: entra, links: []}}\npolicies: policies/",
        host.address
    );
    let configuration = &[("policies: policies/", block.as_str())];
    let changes = Changes { policies: Some(POLICIES), configuration };
    World::having_at(&[("gitlab.token", TOKEN)], changes, Arc::new(clock)).await
}

async fn submits(world: &World, sha: &str, name: &str) -> Answer {
    world.bearing(&built(world, sha)).put(&workspace(&format!("/jobs/{name}?{VERSION}")), &job()).await
}

/// A refusal for want of a review; its cause.
fn refused(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "ReviewRequired", "{answer:?}");
    error["message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_an_approved_merge_request_goes_on_and_the_record_says_who_approved_it() {
    let host = CodeHost::start(gitlab()).await;
    let world = world(&host).await;
    let answer = submits(&world, HEAD, "reviewed").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    for (headers, path) in host.asked() {
        assert_eq!(headers["authorization"], format!("Bearer {TOKEN}"), "{path}");
    }
    assert_eq!(submits(&world, LANDED, "squashed").await.status, StatusCode::CREATED);
    let log = world.stop().await;
    assert!(!format!("{:?}", log.records).contains(TOKEN), "the record holds the token");
    let own = |record: &&Value| record["unmapped"]["amlgate"].clone();
    let written: Vec<_> = log.requests().iter().map(own).filter(|own| own["phase"] == "intent").collect();
    for own in &written {
        let review = &own["reviews"][0];
        assert_eq!((review["change"].as_u64(), review["revision"].as_str()), (Some(42), Some(HEAD)));
        let person = format!("entra:{}/00000000-0000-4000-8000-000000000012", names::TENANT);
        assert_eq!(review["approvers"], json!([{"account": BO, "person": person}]));
    }
    assert_eq!(written.len(), 2);
}

/// What is changed at the GitLab.
type Edit = fn(&mut Answers);

fn at<'a>(answers: &'a mut Answers, path: &str) -> &'a mut Value {
    answers.get_mut(path).unwrap_or_else(|| panic!("{path}"))
}

fn of<'a>(answers: &'a mut Answers, path: &str) -> &'a mut Value {
    at(answers, &format!("{PROJECT}{path}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_with_a_merge_request_is_refused_and_said() {
    let host = CodeHost::start(gitlab()).await;
    let world = world(&host).await;
    let nobody = "nobody whose vote counts";
    let cases: [(&str, Edit, &str); 16] = [
        (
            HEAD,
            |g| *of(g, &format!("/repository/commits/{HEAD}/merge_requests?per_page=100&page=1")) = json!([]),
            "pushed around review",
        ),
        (HEAD, |g| of(g, "/merge_requests/42")["state"] = "opened".into(), "merge request 42 is not merged"),
        (HEAD, |g| of(g, "")["path_with_namespace"] = "eve/vision".into(), "another project"),
        (
            HEAD,
            |g| {
                of(g, &format!("/repository/merge_base?refs%5B%5D={HEAD}&refs%5B%5D={TIP}"))["id"] =
                    BASE.into()
            },
            "branch `main` does not hold the commit",
        ),
        (
            HEAD,
            |g| of(g, "/merge_requests/42/approvals")["approved"] = false.into(),
            "that the project itself demands",
        ),
        (HEAD, |g| of(g, "/merge_requests/42/approvals")["approved_by"] = json!([]), nobody),
        (
            HEAD,
            |g| {
                of(g, "/merge_requests/42/versions?per_page=100&page=1")[0]["created_at"] =
                    "2026-11-01T11:30:00Z".into()
            },
            nobody,
        ),
        (
            HEAD,
            |g| {
                of(g, "/merge_requests/42/reviewers?per_page=100&page=1")[0]["state"] =
                    "requested_changes".into()
            },
            "somebody asked for changes",
        ),
        (HEAD, |g| at(g, &format!("/api/v4/users/{BO}"))["bot"] = true.into(), nobody),
        (HEAD, |g| at(g, &format!("/api/v4/users/{BO}"))["state"] = "blocked".into(), nobody),
        (HEAD, |g| of(g, &format!("/members/all/{BO}"))["access_level"] = 20.into(), nobody),
        (
            HEAD,
            |g| drop(g.remove(&format!("/api/v4/groups/risk%2Freviewers/members/all/{BO}"))),
            "not enough members of `risk/reviewers`",
        ),
        (
            HEAD,
            |g| {
                let request = &mut at(g, "/api/graphql")["data"]["project"]["mergeRequest"];
                request["commits"]["nodes"][0]["author"] = Value::Null;
            },
            "is no account's",
        ),
        (
            HEAD,
            |g| {
                at(g, "/api/v4/projects/9/events?action=pushed&sort=desc&per_page=100&page=1")[0]["author_id"] =
                    BO.into()
            },
            nobody,
        ),
        (
            HEAD,
            |g| {
                of(g, &format!("/repository/commits/{HEAD}/statuses?per_page=100&page=1"))[0]["status"] =
                    "failed".into()
            },
            "check `build` is FAILED",
        ),
        (
            LANDED,
            |g| {
                let path = format!("/repository/compare?from={HEAD}&to={LANDED}&straight=true");
                of(g, &path)["diffs"] = json!([{"new_path": "train.py"}]);
            },
            "GitLab does not say who made it",
        ),
    ];
    for (number, (sha, edit, expected)) in cases.into_iter().enumerate() {
        let mut changed = gitlab();
        edit(&mut changed);
        host.answers(changed);
        let message = refused(&submits(&world, sha, &format!("no-{number}")).await);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    host.answers(gitlab());
    for (mood, expected) in [
        (Mood::Status(401), "does not let the gate read"),
        (Mood::Status(503), "GitLab `main` does not answer"),
        (Mood::FailsAt("/api/graphql", 403), "does not let the gate read who wrote the commits"),
        (Mood::Body("{\"data\": null}"), "gave no answer that can be read"),
    ] {
        host.is(mood);
        let message = refused(&submits(&world, HEAD, "odd").await);
        assert!(message.contains(expected), "{mood:?}: {message}");
    }
    assert_eq!(world.sandbox.azure.observer().seen_at("/jobs/").len(), 0, "nothing was sent");
    world.stop().await;
}
