//! What a caller sends is not written down: a canary in every field, looked for in everything that the
//! gate leaves behind. And nothing that a caller sends makes a record say what did not happen.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Mutex, OnceLock, PoisonError},
};

use http::{HeaderValue, Method, header};
use serde_json::{Value, json};

use crate::{
    bodies,
    world::{Answer, Changes, Log, VERSION, World, job, whole, workspace},
};

/// Everything that this process logs from here on, with the gate's own most talkative level.
pub fn logged() -> String {
    static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    static ONCE: OnceLock<()> = OnceLock::new();
    struct Sink;
    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            LOGGED.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    ONCE.get_or_init(|| {
        let filter = tracing_subscriber::EnvFilter::new("amlgate=trace,info");
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Sink).json().init();
    });
    String::from_utf8_lossy(&LOGGED.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// What the gate says; an answer of Azure's is the caller's own.
fn refusal(answer: Answer) -> String {
    let text = answer.text();
    if answer.status.is_success() || !text.contains("amlgate") { String::new() } else { text }
}

/// All files below a directory, those of tiles too.
pub fn files(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            found.push((path.display().to_string(), text));
        }
    }
}

#[tokio::test]
async fn a_canary_in_any_field_is_found_nowhere() {
    let sinks = ["ocsf", "ecs", "cef", "cloudevents"]
        .map(|format| format!("{{name: {format}, file: {{path: var/exported/{format}, format: {format}}}}}"));
    let audit = format!("reads: required, sinks: [{}]}}", sinks.join(", "));
    let configuration = [("reads: required}", audit.as_str())];
    let world = World::changed(Changes { configuration: &configuration, ..Changes::default() }).await;
    let log = planted(world).await;
    for format in ["ocsf", "ecs", "cef", "cloudevents"] {
        let exported = std::fs::read_to_string(log.dir.path().join("var/exported").join(format)).unwrap();
        assert_eq!(exported.lines().count(), log.records.len(), "{format}");
    }
}

#[tokio::test]
async fn a_canary_in_any_field_is_found_in_no_recorded_body() {
    let world = World::new().await;
    // Where a body may hold what a caller calls harmless, the policies say so.
    let places = [
        "/properties/description",
        "/properties/environmentVariables",
        "/properties/jobType",
        "/tainted",
        "/error/message",
        "/nextLink",
    ]
    .join(", ");
    bodies::recording(&world, &format!("record: {{bodies: [request, response], redact: [{places}]}}")).await;
    let log = planted(world).await;
    let mut blobs = Vec::new();
    files(&log.dir.path().join("var/audit/bodies"), &mut blobs);
    assert!(blobs.len() > 10, "{}", blobs.len());
    let mut named = 0;
    for (path, _) in blobs {
        let digest = path.rsplit('/').next().unwrap().into();
        let (status, body) = bodies::opened(log.dir.path(), &digest);
        assert_eq!(status, Some(0));
        let text = String::from_utf8(body).unwrap();
        assert!(!text.contains("tainted") && !text.contains("eyJ"), "{text}");
        named += usize::from(text.contains("/jobs"));
    }
    assert!(named > 0, "what is no secret is in them");
}

/// Plants one everywhere in a world, and looks for it in everything that is left behind.
async fn planted(world: World) -> Log {
    logged();
    let sam = world.caller("sam");
    let mut answers = Vec::new();
    let jobs = workspace(&format!("/jobs?{VERSION}"));
    for (number, name) in [
        "cookie",
        "x-functions-key",
        "x-api-key",
        "api-key",
        "x-ms-authorization-auxiliary",
        "x-forwarded-for",
        "x-amlgate-decision",
        "x-ms-client-principal",
        "if-match",
        "referer",
        "origin",
        "x-azureml-token",
        "x-canary-name",
        "traceparent",
        "x-ms-client-request-id",
        "x-ms-correlation-request-id",
    ]
    .into_iter()
    .enumerate()
    {
        // Not of the form of an id: those are kept, to join records.
        let value = format!("tainted {number}; value=\"tainted\"");
        for (method, target) in
            [(Method::GET, jobs.clone()), (Method::DELETE, workspace(&format!("?{VERSION}")))]
        {
            let request = sam.request(method, &target).header(name, &value);
            answers.push(refusal(sam.send(request.body(whole("")).unwrap()).await));
        }
    }
    for target in [
        format!("{jobs}&sig=tainted&se=tainted"),
        format!("{jobs}&tainted key=1"),
        format!("{jobs}&$filter=tainted"),
        workspace(&format!("?{VERSION}&code=tainted")),
        "/nowhere?access_token=tainted".to_owned(),
    ] {
        let target = target.replace(' ', "%20");
        answers.push(refusal(sam.send(sam.request(Method::GET, &target).body(whole("")).unwrap()).await));
    }
    let mut body = job();
    body["properties"]["environmentVariables"] = json!({"PASSWORD": "tainted", "tainted": "x"});
    body["properties"]["description"] = json!("tainted");
    sam.put(&workspace(&format!("/jobs/tidy?{VERSION}")), &body).await;
    let refused = json!({"tainted": "tainted", "properties": {"jobType": "tainted"}});
    answers.push(refusal(sam.put(&workspace(&format!("/jobs/tidy?{VERSION}")), &refused).await));
    answers.push(
        sam.post(&workspace(&format!("/jobs/tidy/tainted?{VERSION}")), &refused).await.status.to_string(),
    );
    for bearer in ["tainted", "tainted.tainted.tainted", "eyJhbGciOiJub25lIn0.dGFpbnRlZA.tainted"] {
        answers.push(refusal(world.bearing(bearer).get(&jobs).await));
    }
    // Of the caller's own token nothing but who it names is kept.
    let token = sam.request(Method::GET, "/").body(()).unwrap().headers()[header::AUTHORIZATION].clone();
    let token = token.to_str().unwrap().trim_start_matches("Bearer ").to_owned();

    // Whoever looks for a secret in the record leaves it nowhere.
    for query in
        ["text=tainted", "caller=tainted%3Dx", "action=tainted;", "everything=tainted", "cursor=tainted"]
    {
        let path = format!("/api/v1/audit?{query}");
        let asked = crate::api::request(&world, Method::GET, &path)
            .header(header::AUTHORIZATION, format!("Bearer {}", crate::api::token(&world, "alex")));
        crate::api::ask(&world, asked.body(whole("")).unwrap()).await;
    }

    let metrics = crate::operations::ask(&world, "/metrics").await.text();
    let log = world.stop().await;
    let mut written = Vec::new();
    for folder in ["var/audit", "var/exported"].map(|folder| log.dir.path().join(folder)) {
        if folder.exists() {
            files(&folder, &mut written);
        }
    }
    written.push(("metrics".to_owned(), metrics));
    written.push(("log".to_owned(), logged()));
    for (number, answer) in answers.into_iter().enumerate() {
        written.push((format!("answer {number}"), answer));
    }
    let path_of_the_tainted_verb = "/jobs/tidy/tainted";
    for (place, text) in written {
        // The path is what was asked for, so the record has it, and what is exported of it.
        let recorded = place.contains("/audit/") || place.contains("/exported/");
        let text = if recorded { text.replace(path_of_the_tainted_verb, "") } else { text };
        for canary in ["tainted", token.rsplit('.').next().unwrap(), token.split('.').nth(1).unwrap()] {
            let around = text.find(canary).map(|at| {
                text.chars()
                    .skip(text[..at].chars().count().saturating_sub(120))
                    .take(200)
                    .collect::<String>()
            });
            assert!(around.is_none(), "{place}: {canary}: {around:?}");
        }
    }
    assert!(log.requests().len() > 40);
    log
}

#[tokio::test]
async fn no_caller_makes_a_record_say_what_did_not_happen() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let jobs = workspace(&format!("/jobs?{VERSION}"));
    let forged = "x\",\"class_uid\":6002},{\"forged\":\"yes\"}\\n{\"forged\":\"";
    let deceptive = HeaderValue::from_bytes("agent\u{202e}\u{2028}\u{85}tnega".as_bytes()).unwrap();
    for agent in [HeaderValue::from_static(forged), deceptive] {
        let request = sam.request(Method::GET, &jobs).header(header::USER_AGENT, agent);
        sam.send(request.body(whole("")).unwrap()).await;
    }
    for path in
        ["/a%0a%7b%22forged%22:1%7d", "/a%22%7d%0d%0a", "/a\"},{\"forged\":1}", "/%e2%80%ae/%e2%80%a8"]
    {
        if let Ok(uri) = path.parse::<http::Uri>() {
            sam.send(sam.request(Method::GET, &uri.to_string()).body(whole("")).unwrap()).await;
        }
    }
    let log = world.stop().await;
    let allowed: BTreeSet<u64> = [3_004, 6_002, 6_003].into();
    for record in &log.records {
        assert!(
            record.get("forged").is_none() && record["metadata"]["product"]["name"] == "amlgate",
            "{record}"
        );
        assert!(allowed.contains(&record["class_uid"].as_u64().unwrap()));
        // What a terminal would obey instead of show is not in any string.
        let text = serde_json::to_string(record).unwrap();
        assert!(!text.chars().any(|c| c.is_control() || "\u{202e}\u{2028}\u{85}".contains(c)), "{text}");
    }
    let lifecycle: Vec<&Value> = log.records.iter().filter(|r| r["class_uid"] == 6_002).collect();
    assert_eq!(lifecycle.len(), 2, "started and stopped, and nothing that a caller made up: {lifecycle:#?}");
}
