//! A server that speaks as much of Gerrit's REST API as the gate asks for, by its documentation.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use amlgate::time::{Clock as _, ManualClock, Timestamp};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

pub const TOKEN: &str = "gerrit-token-canary";
pub const SHA: &str = "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
pub const ANA: u64 = 1_000_001;
pub const BO: u64 = 1_000_002;

/// How it behaves.
#[derive(Debug, Clone, Copy)]
pub enum Mood {
    Well,
    Status(u16),
    Body(&'static str),
    /// Sends its login page's address.
    Redirect,
    /// More than anybody reads.
    Huge,
    /// Hangs up.
    Breaks,
    Silent,
    /// Fails at paths that have this in them.
    FailsAt(&'static str),
}

/// What it holds.
pub struct State {
    pub change: Value,
    /// The commits that the branch holds.
    pub held: Vec<String>,
    pub accounts: BTreeMap<u64, Value>,
    pub externals: BTreeMap<u64, Value>,
    pub groups: BTreeMap<String, Vec<u64>>,
    pub capabilities: Value,
    /// What was merged, each with when it was last updated.
    pub merged: Vec<(Timestamp, Value)>,
    /// By which ages are told.
    pub clock: Option<ManualClock>,
}

/// A change that was merged, as lists tell of it.
pub fn merged(number: u64, at: Timestamp) -> Value {
    let sha = format!("{number:040x}");
    let time = at.to_utc().format("%Y-%m-%d %H:%M:%S%.9f").to_string();
    json!({
        "id": format!("ml%2Fvision~{number}"), "project": "ml/vision", "branch": "main", "status": "MERGED",
        "change_id": format!("I{number:040x}"), "subject": format!("Train v{number}"), "_number": number,
        "created": time, "updated": time, "submitted": time, "current_revision": sha, "current_revision_number": 1,
        "owner": {"_account_id": ANA, "name": "ana"}, "submitter": {"_account_id": BO, "name": "bo"},
        "revisions": {sha.as_str(): {"kind": "REWORK", "_number": 1, "uploader": {"_account_id": ANA, "name": "ana"}}},
    })
}

impl State {
    pub fn vote(&mut self) -> &mut Value {
        &mut self.change["labels"]["Code-Review"]["all"][0]
    }

    /// A change is merged, or something is done to one that was.
    pub fn merges(&mut self, number: u64, merged_at: Timestamp, updated: Timestamp) {
        self.merged.retain(|(_, change)| change["_number"] != number);
        self.merged.push((updated, merged(number, merged_at)));
        self.merged.sort_by_key(|(updated, _)| std::cmp::Reverse(*updated));
    }

    /// What a search for merged changes finds.
    fn searched(&self, query: &BTreeMap<String, String>) -> Value {
        let terms = &query["q"];
        let Some(now) = self.clock.as_ref().map(|clock| clock.now()) else { return json!([]) };
        let age = |term: &str| {
            let seconds = terms.split(' ').find_map(|each| each.strip_prefix(term)?.strip_suffix('s'));
            seconds.map(|seconds| std::time::Duration::from_secs(seconds.parse().unwrap()))
        };
        let (oldest, youngest) = (age("-age:").unwrap(), age("age:").unwrap_or_default());
        let of_it = |(updated, change): &&(Timestamp, Value)| {
            let quoted = |key: &str| format!("{key}:\"{}\"", change[key].as_str().unwrap());
            let asked = |key| terms.split(' ').any(|term| term == quoted(key));
            let age = now.since(*updated);
            asked("project") && asked("branch") && age < oldest && age >= youngest
        };
        let found: Vec<_> = self.merged.iter().filter(of_it).map(|(_, change)| change.clone()).collect();
        let (most, skipped): (usize, usize) = (query["n"].parse().unwrap(), query["S"].parse().unwrap());
        let mut page: Vec<_> = found.iter().skip(skipped).take(most).cloned().collect();
        if let Some(last) = page.last_mut().filter(|_| found.len() > skipped + most) {
            last["_more_changes"] = true.into();
        }
        page.into()
    }

    pub fn account(&mut self, id: u64) -> &mut Value {
        self.accounts.get_mut(&id).unwrap()
    }
}

/// The Entra object id of whoever an account is.
pub fn oid(account: u64) -> String {
    format!("00000000-0000-4000-8000-{account:012}")
}

fn state() -> State {
    let people = [(ANA, "ana"), (BO, "bo")];
    let account = |(id, name): (u64, &str)| {
        (
            id,
            json!({"_account_id": id, "name": name, "email": format!("{name}@x.example"), "registered_on": "2026-01-01 00:00:00.000000000"}),
        )
    };
    let external = |(id, name): (u64, &str)| {
        let identity = format!("azure-oauth:{}", oid(id));
        (
            id,
            json!([{"identity": format!("username:{name}"), "trusted": true}, {"identity": identity, "trusted": true, "can_delete": true}]),
        )
    };
    let signature =
        json!({"name": "Ana", "email": "ana@x.example", "date": "2026-11-01 10:00:00.000000000", "tz": 60});
    State {
        change: json!({
            "id": "ml%2Fvision~42", "project": "ml/vision", "branch": "main", "subject": "Train v3",
            "change_id": "I8473b95934b5732ac55d26311a706c9c2bde9940", "status": "MERGED", "_number": 42,
            "submitted": "2026-11-01 12:00:00.000000000", "submission_id": "42-1762",
            "meta_rev_id": "9f00000000000000000000000000000000000000",
            "owner": {"_account_id": ANA, "name": "Ana", "email": "ana@x.example"},
            "current_revision": SHA, "current_revision_number": 2,
            "revisions": {SHA: {"kind": "REWORK", "_number": 2, "uploader": {"_account_id": ANA}, "ref": "refs/changes/42/42/2",
                "commit": {"parents": [{"commit": "6cf2"}], "author": signature, "committer": signature, "subject": "Train v3"}}},
            "labels": {"Code-Review": {"all": [{"_account_id": BO, "email": "bo@x.example", "value": 2}],
                "values": {"-2": "", "-1": "", " 0": "", "+1": "", "+2": ""}, "default_value": 0}},
            "submit_requirements": [{"name": "Code-Review", "status": "SATISFIED", "is_legacy": false}],
        }),
        held: vec![SHA.to_owned()],
        accounts: people.map(account).into(),
        externals: people.map(external).into(),
        groups: [("risk reviewers".to_owned(), vec![BO])].into(),
        capabilities: json!({"modifyAccount": true}),
        merged: Vec::new(),
        clock: None,
    }
}

/// It, wherever it listens.
#[derive(Clone)]
pub struct Gerrit {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<(String, String)>>>,
    news: Arc<Notify>,
    said: Arc<Mutex<Vec<Value>>>,
    heard: Arc<Notify>,
}

impl Gerrit {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gerrit = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(state())),
            mood: Arc::new(Mutex::new(Mood::Well)),
            asked: Arc::default(),
            news: Arc::default(),
            said: Arc::default(),
            heard: Arc::default(),
        };
        let serving = gerrit.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let gerrit = serving.clone();
                if matches!(*gerrit.mood.lock().unwrap(), Mood::Breaks) {
                    continue;
                }
                let service = service_fn(move |request| {
                    let gerrit = gerrit.clone();
                    async move { Ok::<_, Infallible>(gerrit.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        gerrit
    }

    pub fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// As it was at the start, but for this.
    pub fn reset(&self, edit: impl FnOnce(&mut State)) {
        let mut fresh = state();
        edit(&mut fresh);
        *self.state.lock().unwrap() = fresh;
    }

    /// Something happens there.
    pub fn now(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state.lock().unwrap());
    }

    /// What it was asked since the last time: with which authorization, and for what.
    pub fn asked(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// Waits until it was asked something since [`Self::asked`].
    pub async fn is_asked(&self) {
        while self.asked.lock().unwrap().is_empty() {
            self.news.notified().await;
        }
    }

    /// What was said on the change, from the first; waits until there is so much.
    pub async fn said(&self, least: usize) -> Vec<Value> {
        loop {
            let heard = self.heard.notified();
            let said = self.said.lock().unwrap().clone();
            if said.len() >= least {
                return said;
            }
            heard.await;
        }
    }

    /// Takes a message, and a vote on nothing but `Verified`.
    fn posted(&self, path: &str, body: &Value) -> (u16, String) {
        let review = format!("/r/a/changes/ml%2Fvision~42/revisions/{SHA}/review");
        if path != review || body["labels"].as_object().is_some_and(|all| all.keys().any(|l| l != "Verified"))
        {
            return (400, "label \"X\" is not a configured label".into());
        }
        self.said.lock().unwrap().push(body.clone());
        self.heard.notify_waiters();
        (200, ")]}'\n{}\n".into())
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path_and_query().unwrap().as_str().to_owned();
        let authorization =
            request.headers().get("authorization").and_then(|v| v.to_str().ok()).unwrap_or("");
        self.asked.lock().unwrap().push((authorization.to_owned(), path.clone()));
        self.news.notify_one();
        let mood = *self.mood.lock().unwrap();
        if request.method() == http::Method::POST && matches!(mood, Mood::Well) {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let (status, body) = self.posted(&path, &serde_json::from_slice(&body).unwrap());
            return Response::builder().status(status).body(Full::new(body.into())).unwrap();
        }
        let (status, body) = match mood {
            Mood::Well | Mood::Breaks => self.knows(&path),
            Mood::FailsAt(part) if !path.contains(part) => self.knows(&path),
            Mood::FailsAt(_) => (503, "busy".into()),
            Mood::Status(status) => (status, "no".into()),
            Mood::Body(body) => (200, body.into()),
            Mood::Redirect => (302, String::new()),
            Mood::Huge => (200, format!(")]}}'\n[{}]", "1,".repeat(2 << 20))),
            Mood::Silent => std::future::pending().await,
        };
        Response::builder().status(status).header("location", "/login/").body(Full::new(body.into())).unwrap()
    }

    fn knows(&self, path: &str) -> (u16, String) {
        if path == "/r/a/changes/ml%2Fvision~42/messages" {
            let said = self.said.lock().unwrap();
            let all =
                said.iter().map(|said| json!({"id": "x", "message": said["message"], "tag": said["tag"]}));
            return (200, format!(")]}}'\n{}\n", all.collect::<Value>()));
        }
        let state = self.state.lock().unwrap();
        let found = path.strip_prefix("/r/a/").and_then(|path| state.find(path));
        found.map_or((404, "Not found".into()), |found| (200, format!(")]}}'\n{found}\n")))
    }
}

impl State {
    fn group(&self, named: &str) -> Option<(&String, &Vec<u64>)> {
        self.groups.iter().find(|(name, _)| **name == named || uuid(name) == named)
    }

    fn find(&self, path: &str) -> Option<Value> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query: BTreeMap<String, String> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key.to_owned(), decoded(value)))
            .collect();
        let parts: Vec<_> = path.split('/').map(decoded).collect();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        match parts[..] {
            ["changes", ""] if query["q"].starts_with("status:merged ") => Some(self.searched(&query)),
            ["changes", ""] => {
                let sha = query["q"].strip_prefix("commit:")?;
                let has = self.change["revisions"].get(sha).is_some();
                Some(if has { json!([self.change]) } else { json!([]) })
            }
            ["projects", "ml/vision", "commits:in"] => {
                let held = self.held.contains(&query["commit"]);
                Some(if held { json!({&query["commit"]: [query["ref"]]}) } else { json!({}) })
            }
            ["accounts", "self"] => Some(json!({"_account_id": 1_000_009, "username": "amlgate"})),
            ["accounts", "self", "capabilities"] => Some(self.capabilities.clone()),
            ["accounts", ""] => {
                let mail = query["q"].strip_prefix("email:\"")?.split_once('"')?.0;
                let having = self.accounts.iter().filter(|(_, account)| account["email"] == mail);
                Some(having.map(|(id, _)| json!({"_account_id": id})).collect())
            }
            ["accounts", id, "detail"] => self.accounts.get(&id.parse().ok()?).cloned(),
            ["accounts", id, "external.ids"] => self.externals.get(&id.parse().ok()?).cloned(),
            // As Gerrit does, by a UUID, by an old number, or by a name.
            ["groups", "7"] => Some(json!({"id": "uuid%3A7", "name": "those of old"})),
            ["groups", group] => {
                let (name, _) = self.group(group)?;
                Some(json!({"id": uuid(name), "name": name, "group_id": 7}))
            }
            ["groups", group, "members", ""] => {
                assert!(query.contains_key("recursive"));
                let (_, members) = self.group(group)?;
                Some(members.iter().map(|id| json!({"_account_id": id})).collect())
            }
            ["config", "server", "version"] => Some("3.13.2".into()),
            _ => None,
        }
    }
}

/// The UUID of a group.
pub fn uuid(group: &str) -> String {
    let sum = group.bytes().fold(17_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("{sum:016x}{sum:016x}01234567")
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}
