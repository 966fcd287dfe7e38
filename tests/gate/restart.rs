//! Started anew, the gate refuses nobody and keeps one record (DECISIONS 31).

use std::{net::TcpListener, os::fd::OwnedFd, path::Path, process::Stdio, sync::Arc};

use amlgate::{
    sandbox::{
        Person,
        home::{Sandbox, SandboxSettings},
    },
    time::SystemClock,
};
use http::{Request, StatusCode};
use tokio::process::{Child, Command};

use crate::world::{Answer, VERSION, connected, whole, workspace};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amlgate");

/// Starts the program as systemd does, with a socket that is listened on already.
fn start(listener: &TcpListener, configuration: &Path) -> Child {
    let socket = OwnedFd::from(listener.try_clone().unwrap());
    let script =
        "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" serve --config \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, PROGRAM]).arg(configuration).stdin(Stdio::from(socket));
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
}

async fn ask(sandbox: &Sandbox) -> Answer {
    let token = sandbox.issuer.mint().token(Person::named("sam").unwrap()).unwrap();
    let mut sender = connected(&std::fs::read(sandbox.ca()).unwrap(), sandbox.layout.reverse_address).await;
    let request = Request::get(workspace(&format!("/jobs?{VERSION}")))
        .header("host", format!("localhost:{}", sandbox.layout.reverse_address.port()))
        .header("authorization", format!("Bearer {token}"))
        .body(whole(""))
        .unwrap();
    Answer::of(sender.send_request(request).await.unwrap()).await
}

async fn stop(mut gate: Child) {
    let id = gate.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    assert!(gate.wait().await.unwrap().success(), "it drained and recorded everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_started_anew_on_its_socket_refuses_nobody_and_keeps_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let settings = SandboxSettings::new(dir.path().to_owned(), Arc::new(SystemClock));
    let sandbox = Sandbox::start(settings).await.unwrap();
    let listener = TcpListener::bind(sandbox.layout.reverse_address).unwrap();
    let first = start(&listener, &sandbox.configuration());
    let answer = ask(&sandbox).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    stop(first).await;
    // Nobody serves now, and whoever comes waits.
    let (answer, second) = tokio::join!(ask(&sandbox), async { start(&listener, &sandbox.configuration()) });
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    stop(second).await;
    let audit = dir.path().join("var/audit");
    let verified = Command::new(PROGRAM).args(["audit", "verify"]).arg(&audit).output().await.unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let mut reader = amlgate::audit::read::Reader::new(amlgate::audit::storage::Directory::at(audit));
    let mut read = 0;
    while let Some(record) = reader.record().unwrap() {
        let record: serde_json::Value = serde_json::from_slice(&record.line).unwrap();
        read += usize::from(
            record["class_uid"] == 6003 && record["unmapped"]["amlgate"]["ending"] == "completed",
        );
    }
    assert_eq!(read, 2, "both are in it");
}
