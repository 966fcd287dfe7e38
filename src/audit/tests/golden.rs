//! One line of each kind of record, as it is written: `golden/*.json`. The interop suite `record`
//! holds them against the published OCSF schema.
//!
//! `AMLGATE_GOLDEN=write cargo test golden` writes them anew, to be looked at before they are kept.

use std::{net::IpAddr, path::Path};

use serde_json::Value;

use super::{
    records::told,
    requests::{caller, judged, operation, request},
    *,
};
use crate::{
    audit::event::{GrantChange, RunBecame, Signed, Tunnel, Verdict},
    azureml::Kind,
    gates::break_glass::Became,
    policy::DecisionId,
};

fn tunnel() -> Tunnel {
    Tunnel {
        id: uuid::Uuid::nil(),
        caller: "corp:ann".into(),
        peer: peer(),
        host: "login.microsoftonline.com".into(),
        port: 443,
    }
}

fn peer() -> IpAddr {
    IpAddr::from([192, 0, 2, 1])
}

fn grant(change: GrantChange, by: Option<&str>) -> Event {
    Event::Grant {
        id: "g-1".into(),
        entry: "big clusters need a second person".into(),
        subject: "corp:ann".into(),
        by: by.map(str::to_owned),
        change,
        until: 1_800_014_400_000,
    }
}

fn stated(stated: Result<Signed, String>) -> Event {
    Event::Stated {
        model: "azureml://subscriptions/s/resourceGroups/g/workspaces/w/models/churn/versions/3".into(),
        decision: uuid::Uuid::nil().to_string(),
        caller: "github:repo:ml/vision".into(),
        stated,
    }
}

fn triggered(became: RunBecame, decision: bool, why: Option<&str>) -> Event {
    Event::Trigger {
        run: "0197b6b0-0000-7000-8000-000000000001".into(),
        trigger: "train".into(),
        server: "main".into(),
        project: "ml/vision".into(),
        change: 42,
        commit: "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651".into(),
        person: (became != RunBecame::Refused).then(|| "corp:t/ann".into()),
        became,
        resource: decision.then(|| "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/jobs/j".into()),
        decision: decision.then(|| uuid::Uuid::nil().to_string()),
        why: why.map(str::to_owned),
    }
}

fn signed() -> Signed {
    Signed {
        provenance: [6; 32],
        summary: [7; 32],
        digest: format!("azuremlAssetId:{}", "08".repeat(32)),
        key: "09".repeat(32),
    }
}

fn approval(verdict: Verdict, by: Option<&str>) -> Event {
    Event::Approval {
        id: "r-1".into(),
        entry: "big clusters need a second person".into(),
        requester: "corp:ann".into(),
        claimed: None,
        by: by.map(str::to_owned),
        verdict,
        reason: Some("CHG0000001: \"retrain\"\nforged: line".into()),
    }
}

fn glass(became: Became, by: Option<&str>) -> Event {
    Event::BreakGlass {
        id: "b-1".into(),
        opener: "corp:ann".into(),
        by: by.map(str::to_owned),
        became,
        reason: Some("the region is down\nforged: line".into()),
        until: 1_800_003_600_000,
    }
}

fn code(holder: Option<&str>, glass: Option<&str>, why: Option<&'static str>) -> Event {
    let text = |text: Option<&str>| text.map(str::to_owned);
    Event::BreakGlassCode { holder: text(holder), peer: peer(), glass: text(glass), why }
}

/// Every kind of event by the name that its record has. A kind that is missing does not compile: see
/// [`is_listed`].
fn events() -> Vec<(&'static str, Event)> {
    let files: event::Files = Arc::from([(Arc::from("policies/team-a.yaml"), [5; 32])]);
    vec![
        ("started", Event::Started { configuration: [1; 32], policies: [2; 32], files: Arc::clone(&files) }),
        ("stopped", Event::Stopped),
        ("log_ended", Event::LogEnded),
        ("policies_changed", Event::PoliciesChanged { policies: [2; 32], generation: 7, files }),
        (
            "reload_refused",
            Event::ReloadRefused { what: "policies", problem: "a.yaml:1:2: no".into(), count: 3 },
        ),
        ("reloaded", Event::Reloaded { what: "certificates", digest: [3; 32] }),
        (
            "credential_changed",
            Event::CredentialChanged { name: "gate".into(), place: "`s` in `v`, version 1".into() },
        ),
        (
            "exporter_changed",
            Event::ExporterChanged { sink: "siem".into(), places: vec!["`certs/siem.token`".into()] },
        ),
        ("signing_key_changed", Event::SigningKeyChanged { before: "a+1+x".into(), after: "a+2+y".into() }),
        ("records_retired", Event::RecordsRetired { before: 9_000 }),
        (
            "records_archived",
            Event::RecordsArchived {
                before: 9_000,
                first: 4_000,
                url: "https://kept.blob.core.windows.net/record/amlgate-0/00000000000000004000.log.gz".into(),
                digest: [4; 32],
            },
        ),
        ("recovered", Event::Recovered { torn_bytes: 9, unresolved: vec!["d".into()] }),
        (
            "record_resumed",
            Event::RecordResumed {
                since: 1_799_999_990_000,
                why: "no storage space".into(),
                refused: 12,
                unrecorded: 3,
            },
        ),
        ("tunnel_opened", Event::TunnelOpened(tunnel())),
        (
            "tunnel_ended",
            Event::TunnelEnded {
                tunnel: tunnel(),
                sent: 1,
                received: 2,
                ending: "cut",
                because: Some("it was revoked".into()),
            },
        ),
        (
            "signed_in",
            Event::SignedIn {
                caller: Some("corp:ann".into()),
                issuer: "corp".into(),
                peer: peer(),
                refused: None,
            },
        ),
        (
            "sign_in_refused",
            Event::SignedIn { caller: None, issuer: "corp".into(), peer: peer(), refused: Some("expired") },
        ),
        ("signed_out", Event::SignedOut { caller: "corp:ann".into(), issuer: "corp".into() }),
        ("approval_asked", approval(Verdict::Asked, None)),
        ("approval_voted", approval(Verdict::Voted, Some("corp:bob"))),
        ("approval_withdrawn", approval(Verdict::Withdrawn, Some("corp:ann"))),
        ("approved", approval(Verdict::Approved, Some("corp:bob"))),
        ("approval_denied", approval(Verdict::Denied, Some("corp:bob"))),
        ("approval_expired", approval(Verdict::Expired, None)),
        ("grant_given", grant(GrantChange::Given, Some("corp:bob"))),
        ("grant_used", grant(GrantChange::Used, None)),
        ("grant_revoked", grant(GrantChange::Revoked, Some("corp:bob"))),
        ("grant_expired", grant(GrantChange::Expired, None)),
        ("break_glass_asked", glass(Became::Asked, Some("corp:ann"))),
        ("break_glass_confirmed", glass(Became::Confirmed, Some("corp:bob"))),
        ("break_glass_opened", glass(Became::Opened, Some("corp:bob"))),
        ("break_glass_closed", glass(Became::Closed, Some("corp:ann"))),
        ("break_glass_expired", glass(Became::Expired, None)),
        ("break_glass_dropped", glass(Became::Dropped, None)),
        ("break_glass_reviewed", glass(Became::Reviewed, Some("corp:bob"))),
        ("break_glass_review_overdue", glass(Became::Overdue, None)),
        (
            "break_glass_refused",
            Event::BreakGlassRefused { caller: "corp:eve".into(), peer: peer(), why: "not_named" },
        ),
        (
            "break_glass_codes_made",
            Event::BreakGlassCodes {
                holder: "corp:ann".into(),
                peer: peer(),
                count: 5,
                until: 1_807_776_000_000,
            },
        ),
        ("break_glass_code_used", code(Some("corp:ann"), Some("b-1"), None)),
        ("break_glass_code_refused", code(None, None, Some("not_accepted"))),
        (
            "exporter_failing",
            Event::Exporter { sink: "siem".into(), problem: Some("timed out".into()), behind: 120 },
        ),
        ("exporter_recovered", Event::Exporter { sink: "siem".into(), problem: None, behind: 0 }),
        (
            "record_read",
            Event::RecordRead {
                caller: "corp:ann".into(),
                peer: peer(),
                decision: DecisionId::fresh(),
                query: "caller=corp:bob".into(),
                records: 17,
            },
        ),
        (
            "body_read",
            Event::BodyRead {
                caller: "corp:ann".into(),
                peer: peer(),
                decision: DecisionId::fresh(),
                blob: "ab".repeat(32),
                of: uuid::Uuid::nil().to_string(),
                side: "request",
            },
        ),
        ("model_stated", stated(Ok(signed()))),
        ("model_not_stated", stated(Err("the store did not answer within 2 s".into()))),
        (
            "unstated_model",
            Event::UnstatedModel {
                model: "azureml://subscriptions/s/resourceGroups/g/workspaces/w/models/churn/versions/3"
                    .into(),
                hook: "vision".into(),
                registered: 1_799_999_000_000,
                seen: true,
            },
        ),
        ("trigger_waits", triggered(RunBecame::Waits, true, Some("request r waits for an answer"))),
        ("trigger_started", triggered(RunBecame::Started, true, None)),
        ("trigger_refused", triggered(RunBecame::Refused, false, Some("nobody is known\nas a person"))),
        ("trigger_ended", triggered(RunBecame::Ended, true, Some("Completed"))),
        ("refused", Event::Refused { peer: "::1".parse().unwrap(), reason: "no token", count: 4 }),
    ]
}

/// A new kind of event breaks this match: give it a line in [`events`].
fn is_listed(event: &Event) -> bool {
    match event {
        Event::Started { .. }
        | Event::Stopped
        | Event::LogEnded
        | Event::PoliciesChanged { .. }
        | Event::ReloadRefused { .. }
        | Event::Reloaded { .. }
        | Event::CredentialChanged { .. }
        | Event::ExporterChanged { .. }
        | Event::SigningKeyChanged { .. }
        | Event::RecordsRetired { .. }
        | Event::RecordsArchived { .. }
        | Event::Recovered { .. }
        | Event::RecordResumed { .. }
        | Event::TunnelOpened(_)
        | Event::TunnelEnded { .. }
        | Event::SignedIn { .. }
        | Event::SignedOut { .. }
        | Event::Approval { .. }
        | Event::Grant { .. }
        | Event::BreakGlass { .. }
        | Event::BreakGlassRefused { .. }
        | Event::BreakGlassCodes { .. }
        | Event::BreakGlassCode { .. }
        | Event::Exporter { .. }
        | Event::RecordRead { .. }
        | Event::BodyRead { .. }
        | Event::Stated { .. }
        | Event::UnstatedModel { .. }
        | Event::Trigger { .. }
        | Event::Refused { .. } => true,
    }
}

/// Holds a line against its file; what is another each time stands as zeroes in it.
pub(super) fn is_golden(name: &str, line: &[u8]) {
    let mut value: Value = serde_json::from_slice(line).unwrap();
    assert_eq!(serde_json::to_vec(&value).unwrap(), line, "{name}: the line is canonical");
    for at in ["/metadata/uid", "/unmapped/amlgate/decision"] {
        if let Some(id) = value.pointer_mut(at) {
            *id = uuid::Uuid::nil().to_string().into();
        }
    }
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/audit/tests/golden").join(format!("{name}.json"));
    let text = serde_json::to_string(&value).unwrap() + "\n";
    if std::env::var("AMLGATE_GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{}", path.display());
}

#[test]
fn in_whose_name_was_asked_stands_beside_who_asked() {
    let mut event = approval(Verdict::Asked, None);
    if let Event::Approval { claimed, .. } = &mut event {
        *claimed = Some("eve@example.com\nforged: line".into());
    }
    is_golden("approval_claimed", &event.render(Timestamp::from_secs(1_800_000_000)));
}

#[test]
fn every_kind_of_event_has_its_line() {
    for (name, event) in events() {
        assert!(is_listed(&event));
        let line = event.render(Timestamp::from_secs(1_800_000_000));
        is_golden(name, &line);
        let value: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["unmapped"]["amlgate"]["event"], name);
        assert!(!line.contains(&b'\n'), "{name} is one line");
    }
}

#[tokio::test]
async fn the_records_of_a_request_have_their_lines() {
    let target = "/jobs/j1?api-version=2024-04-01";
    let told = told(target, |r| {
        r.headers.insert("x-ms-client-request-id", http::HeaderValue::from_static("client-1"));
        r.headers.insert(http::header::USER_AGENT, http::HeaderValue::from_static("azure-ai-ml/1.0"));
    })
    .await;
    for (name, record) in ["intent", "outcome"].iter().zip(&told) {
        is_golden(name, &serde_json::to_vec(record).unwrap());
    }
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    let asked = request(http::Method::DELETE, target);
    let denied = judged(operation(Kind::Delete, "workspaces/delete"), asked, caller()).unwrap_err();
    journal.denied(&denied).await.unwrap();
    journal.close().await;
    is_golden("denial", &serde_json::to_vec(&records(&disk)[0]).unwrap());
}
