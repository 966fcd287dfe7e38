//! Every proof against the simulated Azure: its token endpoint checks the proof, its services check
//! the token. It shares no code with what is tested.

use std::{path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    azureml::Audience,
    cloud::Cloud,
    credentials::{
        ActsFor, Challenge, CredentialError, CredentialSettings, Credentials, EndpointKeys, KeySlot, Proof,
        ServicePurpose,
    },
    net::{Connector, ConnectorSettings, Destination, Trust},
    sandbox::{
        Fault, KeyRing, Person, SandboxCa,
        azure::{AzureSettings, FederatedCredential, SimulatedAzure, names},
        issuer::{DevelopmentIssuer, IssuerSettings},
    },
    time::{ManualClock, Timestamp},
};

/// How long a token lives of whoever can answer claims challenges, as the gate can.
const LIFE: Duration = Duration::from_secs(24 * 3_600);

/// A simulated Azure and the way to it.
pub(super) struct World {
    pub azure: SimulatedAzure,
    pub clock: ManualClock,
    ca: Arc<SandboxCa>,
}

impl World {
    pub async fn new() -> Self {
        let clock = ManualClock::starting_at(Timestamp::from_secs(1_800_000_000));
        let ca = Arc::new(SandboxCa::generate().unwrap());
        let settings = AzureSettings::new(Arc::new(clock.clone()), Arc::clone(&ca));
        Self { azure: SimulatedAzure::start(settings).await.unwrap(), clock, ca }
    }

    pub fn host(&self, name: &str) -> Destination {
        let trust = Trust::new(Some(self.ca.certificate_pem().as_bytes())).unwrap();
        Destination::https(name, 443).at(Some(self.azure.address())).trusting(Some(trust))
    }

    pub fn arm(&self) -> Destination {
        self.host("management.azure.com")
    }

    pub fn credentials(&self, proof: Proof) -> Credentials {
        self.acting(proof, ActsFor::Itself)
    }

    pub fn acting(&self, proof: Proof, acts_for: ActsFor) -> Credentials {
        let settings = CredentialSettings {
            name: "gate".into(),
            tenant: Some(names::TENANT.into()),
            client_id: Some(names::GATE_CLIENT.into()),
            proof,
            acts_for,
            authority: self.host("login.microsoftonline.com"),
            digest: [0; 32],
        };
        let connector = Connector::new(ConnectorSettings::default()).unwrap();
        Credentials::new(
            vec![settings],
            connector,
            Cloud::public(),
            Arc::new(self.clock.clone()),
            tokio::runtime::Handle::current(),
        )
    }

    pub fn with_secret(&self) -> Credentials {
        self.credentials(Proof::Secret(names::GATE_SECRET.into()))
    }

    /// Reads the workspace: works with a token that ARM believes and whose identity may do it.
    async fn workspace(&self, credentials: &Credentials) -> Result<Response<Bytes>, CredentialError> {
        let token = credentials.service(ServicePurpose::Probe, "gate").await?;
        let path = format!("{}?api-version=2024-10-01", names::workspace_id(names::WORKSPACE));
        credentials.call(&token, &self.arm(), Request::get(path).body(Bytes::new()).unwrap()).await
    }

    async fn status(&self, credentials: &Credentials) -> u16 {
        self.workspace(credentials).await.unwrap().status().as_u16()
    }

    fn vault(&self) -> Destination {
        self.host(&format!("{}.vault.azure.net", names::VAULT))
    }

    fn tokens_asked(&self) -> usize {
        self.azure.observer().seen_at("/oauth2/v2.0/token").len()
    }
}

pub(super) fn endpoint() -> String {
    format!("{}/onlineEndpoints/{}", names::workspace_id(names::WORKSPACE), names::ENDPOINT)
        .to_ascii_lowercase()
}

#[tokio::test]
async fn a_client_secret_opens_azure() {
    let world = World::new().await;
    assert_eq!(world.status(&world.with_secret()).await, 200);
}

#[tokio::test]
async fn a_wrong_secret_is_told_with_its_mend_and_without_itself() {
    let world = World::new().await;
    let credentials = world.credentials(Proof::Secret("canary-secret".into()));
    let error = world.workspace(&credentials).await.unwrap_err();
    let said = format!("{error} {error:?} {credentials:?} {:?}", credentials.status());
    assert!(said.contains("AADSTS7000215") && said.contains("not its id"), "{said}");
    assert!(!said.contains("canary") && !said.contains("Trace"), "{said}");
}

/// An application's key in both forms that PEM files have: PKCS #8 and PKCS #1.
fn application_key() -> (String, Vec<u8>, [String; 2]) {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["gate".to_owned()]).unwrap().self_signed(&key).unwrap();
    let der = key.serialize_der();
    // PKCS #8 wraps PKCS #1 in an octet string: it starts at the second SEQUENCE of four-byte length.
    let inner = der.windows(2).enumerate().filter(|(_, w)| *w == [0x30, 0x82]).nth(1).unwrap().0;
    let lines: Vec<String> = STANDARD
        .encode(&der[inner..])
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    let pkcs1 =
        format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n", lines.join("\n"));
    (certificate.pem(), certificate.der().to_vec(), [key.serialize_pem(), pkcs1])
}

#[tokio::test]
async fn a_certificate_opens_azure_with_either_form_of_its_key() {
    let world = World::new().await;
    let (certificate, der, keys) = application_key();
    let proof = |key: &str, send_chain| Proof::Certificate {
        certificate: certificate.clone().into_bytes().into(),
        private_key: SecretString::from(key),
        send_chain,
    };
    let unknown = world.credentials(proof(&keys[0], false));
    let error = world.workspace(&unknown).await.unwrap_err().to_string();
    assert!(error.contains("AADSTS700027") && error.contains("upload its public half"), "{error}");

    let mut app = world.azure.app(names::GATE_CLIENT).unwrap();
    app.certificates.push(der);
    world.azure.register(app);
    for key in &keys {
        for send_chain in [false, true] {
            let credentials = world.credentials(proof(key, send_chain));
            assert_eq!(world.status(&credentials).await, 200, "{}", key.lines().next().unwrap());
        }
    }
    let error = world.workspace(&world.credentials(proof("canary", false))).await.unwrap_err().to_string();
    assert!(error.contains("cannot be read") && !error.contains("canary"), "{error}");
}

/// An issuer whose tokens stand for the gate's secret.
async fn federation(world: &World) -> DevelopmentIssuer {
    let settings = IssuerSettings::new(Arc::new(world.clock.clone()), Arc::clone(&world.ca));
    let issuer = DevelopmentIssuer::start(settings).await.unwrap();
    let ci = Person::named("ci").unwrap();
    let mut app = world.azure.app(names::GATE_CLIENT).unwrap();
    app.federated.push(FederatedCredential { issuer: issuer.url(), subject: ci.subject.to_owned() });
    world.azure.register(app);
    let keys: Arc<KeyRing> = issuer.keys();
    world.azure.trust(&issuer.url(), keys);
    issuer
}

fn write_assertion(issuer: &DevelopmentIssuer, file: &Path) {
    let ci = Person::named("ci").unwrap();
    let audience = serde_json::json!("api://AzureADTokenExchange");
    let token = issuer.mint().token_with(ci, |c| drop(c.insert("aud".to_owned(), audience))).unwrap();
    std::fs::write(file, token).unwrap();
}

#[tokio::test]
async fn a_federated_token_is_read_anew_for_each_fetch() {
    let world = World::new().await;
    let issuer = federation(&world).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("azure-identity-token");
    write_assertion(&issuer, &file);
    let credentials = world.credentials(Proof::WorkloadIdentity { token_file: Some(file.clone()) });
    assert_eq!(world.status(&credentials).await, 200);
    // By now the first assertion has expired, and the kubelet has put another in its place.
    world.clock.advance(LIFE);
    write_assertion(&issuer, &file);
    assert_eq!(world.status(&credentials).await, 200);
    assert_eq!(world.tokens_asked(), 2);

    world.clock.advance(LIFE);
    std::fs::remove_file(&file).unwrap();
    let error = world.workspace(&credentials).await.unwrap_err().to_string();
    assert!(error.contains("azure-identity-token") && error.contains("mounted"), "{error}");
}

fn machine(world: &World) -> Credentials {
    let endpoint = format!("http://{}", world.azure.identity_address()).parse().unwrap();
    world.credentials(Proof::ManagedIdentity {
        client_id: None,
        object_id: None,
        resource_id: None,
        endpoint: Some(endpoint),
    })
}

#[tokio::test]
async fn a_machines_identity_opens_azure() {
    let world = World::new().await;
    assert_eq!(world.status(&machine(&world)).await, 200);
    assert_eq!(world.tokens_asked(), 0, "the login host is not asked");
}

#[tokio::test]
async fn a_machine_whose_metadata_service_is_not_ready_is_asked_again_in_its_own_rhythm() {
    let fault = |status| Fault::Answer { status, headers: Vec::new(), body: String::new() };
    for (status, pauses) in [
        (StatusCode::NOT_FOUND, [1_600, 3_200, 6_400]),
        (StatusCode::TOO_MANY_REQUESTS, [1_600, 3_200, 6_400]),
        (StatusCode::GONE, [5_000, 10_000, 20_000]),
    ] {
        let world = World::new().await;
        for _ in pauses {
            world.azure.identity_observer().trap("/metadata/", None, fault(status));
        }
        let credentials = machine(&world);
        let waiting = tokio::spawn({
            let credentials = credentials.clone();
            async move { credentials.probe("gate", Audience::Arm).await }
        });
        for (tries, pause) in pauses.into_iter().enumerate() {
            world.azure.identity_observer().wait_for(|seen| seen.len() == tries + 1).await;
            assert_eq!(world.azure.identity_observer().count(), tries + 1, "{status}");
            // The timer starts when the answer has been read: until it rings, time has to pass.
            let mut passed = 0;
            while world.azure.identity_observer().count() == tries + 1 {
                world.clock.advance(Duration::from_millis(100));
                passed += 100;
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
            }
            assert!(passed >= pause, "{status}: asked again after {passed} ms");
        }
        waiting.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_machine_without_an_identity_is_told_so_at_once() {
    let world = World::new().await;
    let body = r#"{"error":"invalid_request","error_description":"Identity not found"}"#.to_owned();
    let fault = Fault::Answer { status: StatusCode::BAD_REQUEST, headers: Vec::new(), body };
    world.azure.identity_observer().trap("/metadata/", None, fault);
    let error = machine(&world).probe("gate", Audience::Arm).await.unwrap_err();
    assert!(!error.is_passing() && error.to_string().contains("assign a managed identity"), "{error}");
    assert_eq!(world.azure.identity_observer().count(), 1);
}

#[tokio::test]
async fn azures_claims_challenge_is_answered_and_nobody_meets_it_again() {
    let world = World::new().await;
    let credentials = world.with_secret();
    assert_eq!(world.status(&credentials).await, 200);
    let refused = credentials.bearer("gate", Audience::Arm, None).await.unwrap().unwrap();
    world.clock.advance(Duration::from_secs(60));
    world.azure.challenge(names::GATE_PRINCIPAL);
    let answer = world.workspace(&credentials).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let challenge = Challenge::of(answer.headers()).unwrap();
    credentials.bearer("gate", Audience::Arm, Some((&challenge, &refused))).await.unwrap();
    assert_eq!(world.status(&credentials).await, 200);
}

#[tokio::test]
async fn while_the_token_endpoint_is_down_the_token_serves_until_its_end_and_no_longer() {
    let world = World::new().await;
    let credentials = world.with_secret();
    assert_eq!(world.status(&credentials).await, 200);
    let down = || Fault::status(StatusCode::SERVICE_UNAVAILABLE, "down");
    world.clock.advance(LIFE - Duration::from_secs(200));
    for _ in 0..3 {
        world.azure.observer().trap("/oauth2/", None, down());
    }
    // The renewal in the background meets the outage; who asks meanwhile gets the old token.
    assert_eq!(world.status(&credentials).await, 200);
    let renewed = async {
        while world.tokens_asked() < 4 {
            world.clock.advance(Duration::from_millis(50));
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), renewed).await.expect("it is tried three times");
    assert_eq!(world.status(&credentials).await, 200);
    assert!(credentials.status()[0].failure.as_ref().is_some_and(|f| f.is_passing()));
    world.clock.advance(Duration::from_secs(300));
    assert_eq!(world.status(&credentials).await, 200, "the outage is over");
    assert!(credentials.status()[0].failure.is_none());
}

#[tokio::test]
async fn a_vaults_secret_is_read_and_what_is_missing_is_named() {
    let world = World::new().await;
    let credentials = world.with_secret();
    let secret = credentials.vault_secret("gate", &world.vault(), "gate-client-secret").await.unwrap();
    assert_eq!(secret.value.expose_secret(), names::GATE_SECRET);
    let refused = async |vault: Destination, name: &str| {
        let error = credentials.vault_secret("gate", &vault, name).await.unwrap_err();
        assert!(!error.is_passing(), "{error}");
        error.to_string()
    };
    assert!(refused(world.vault(), "other").await.contains("put the secret into the vault"));
    for name in ["", "../keys", "a?b", "a/b"] {
        assert!(refused(world.vault(), name).await.contains("is no secret's name"), "{name}");
    }
    let before = world.azure.observer().count();
    let elsewhere = refused(world.host("vision-kv.vault.azure.net.evil.example"), "other").await;
    assert!(elsewhere.contains("is not sent to"), "{elsewhere}");
    assert_eq!(world.azure.observer().count(), before, "no token left for another host");
    world.azure.unassign(names::GATE_PRINCIPAL);
    assert!(refused(world.vault(), "gate-client-secret").await.contains("Key Vault Secrets User"));
}

#[tokio::test]
async fn an_endpoints_key_is_fetched_once_for_all_and_anew_when_it_is_refused() {
    let world = World::new().await;
    let credentials = world.with_secret();
    let keys = EndpointKeys::new(credentials.clone(), world.arm());
    let asked = || world.azure.observer().seen_at("listKeys").len();
    let all: Vec<_> = (0..100)
        .map(|_| {
            let keys = keys.clone();
            tokio::spawn(async move { keys.bearer(&endpoint(), KeySlot::Primary, "gate").await.unwrap() })
        })
        .collect();
    let mut first = None;
    for one in all {
        let key = one.await.unwrap();
        assert!(key.is_sensitive());
        assert_eq!(first.get_or_insert(key.clone()), &key);
    }
    assert_eq!(asked(), 1);
    let key = first.unwrap();
    let secondary = keys.bearer(&endpoint(), KeySlot::Secondary, "gate").await.unwrap();
    assert_ne!(secondary, key);
    assert_eq!(asked(), 2);

    assert!(!keys.refused("gate", &endpoint(), KeySlot::Primary, &key).await, "it was fetched just now");
    world.clock.advance(Duration::from_secs(11));
    assert!(keys.refused("gate", &endpoint(), KeySlot::Primary, &key).await);
    keys.bearer(&endpoint(), KeySlot::Primary, "gate").await.unwrap();
    assert_eq!(asked(), 3);
    assert!(!format!("{keys:?}").contains(key.to_str().unwrap().trim_start_matches("Bearer ")));
}

#[tokio::test]
async fn a_refusal_to_give_a_key_is_not_asked_for_with_every_request() {
    let world = World::new().await;
    let credentials = world.with_secret();
    world.azure.unassign(names::GATE_PRINCIPAL);
    let keys = EndpointKeys::new(credentials, world.arm());
    for _ in 0..5 {
        let error = keys.bearer(&endpoint(), KeySlot::Primary, "gate").await.unwrap_err();
        assert!(error.to_string().contains("onlineEndpoints/listKeys/action"), "{error}");
    }
    assert_eq!(world.azure.observer().seen_at("listKeys").len(), 1);
    world.azure.assign(names::GATE_PRINCIPAL, "Contributor", &names::group_id()).unwrap();
    world.clock.advance(Duration::from_secs(61));
    assert!(keys.bearer(&endpoint(), KeySlot::Primary, "gate").await.is_ok());
}
