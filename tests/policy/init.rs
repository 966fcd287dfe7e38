//! What `amlgate init` writes, completed as its comments say, is a valid gate whose cases hold.

use std::{path::Path, process::Command};

const WORKSPACE: &str = "/subscriptions/11111111-2222-4333-8444-555555555555/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/vision";

fn amlgate(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_amlgate")).current_dir(dir).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn fill(path: &Path, with: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("UNSET"), "{}", path.display());
    // The comment that explains the word is no value.
    let (first, rest) = text.split_once('\n').unwrap();
    std::fs::write(path, format!("{first}\n{}", rest.replace("UNSET", with))).unwrap();
}

#[test]
fn what_init_writes_is_refused_until_it_is_completed_and_then_holds() {
    for issuer in [
        "https://login.microsoftonline.com/72f988bf-0000-4000-8000-000000000001/v2.0",
        "https://keycloak.example.com/realms/ml",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (code, said) = amlgate(dir, &["init", "--workspace", WORKSPACE, "--issuer", issuer]);
        assert_eq!(code, Some(0), "{said}");
        let (code, said) = amlgate(dir, &["validate"]);
        assert_eq!(code, Some(1), "{said}");
        // Both files at once.
        assert!(said.contains("amlgate.yaml:") && said.contains("starter.yaml:"), "{said}");

        fill(&dir.join("amlgate.yaml"), "westeurope");
        for name in ["starter.yaml", "starter.test.yaml"] {
            let path = dir.join("policies").join(name);
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text.replace("UNSET", "6f9619ff-8b86-4011-b42d-00cf4fc964f1")).unwrap();
        }
        let text = std::fs::read_to_string(dir.join("amlgate.yaml")).unwrap();
        std::fs::write(
            dir.join("amlgate.yaml"),
            text.replace("tenant: westeurope", "tenant: 72f988bf-0000-4000-8000-000000000001"),
        )
        .unwrap();
        let (code, said) = amlgate(dir, &["validate"]);
        assert_eq!(code, Some(0), "{said}");
        let (code, said) = amlgate(dir, &["policy", "test"]);
        assert_eq!(code, Some(0), "{said}");
        // Nobody can be asked whether code was reviewed whom the configuration does not name.
        let reviewed = dir.join("policies/reviewed.yaml");
        let demand = "version: 1\nrequire:\n  - name: reviewed\n    effects: [register_model]\n    review: {gerrit: main, project: ml/vision, branch: main}\n";
        std::fs::write(&reviewed, demand).unwrap();
        let (code, said) = amlgate(dir, &["validate"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("reviewed.yaml:5:22: no `gerrit` named `main` in amlgate.yaml"), "{said}");
        std::fs::remove_file(&reviewed).unwrap();
        // Nothing is overwritten.
        let (code, said) = amlgate(dir, &["init", "--workspace", WORKSPACE, "--issuer", issuer]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("exists already"), "{said}");
    }
}
