//! The sandbox as a folder: keys, certificates, configuration and policies that outlive a run, and
//! the running issuer and Azure beside them.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    KeyRing, Person, SandboxCa, SandboxError, SigningKey,
    azure::{self, AzureSettings, FederatedCredential, SimulatedAzure, UserToken, names},
    issuer::{DevelopmentIssuer, IssuerSettings, Mint},
    jwt,
    mesh::{MeshCa, Wanted},
    texts,
};
use crate::time::{Clock as _, SharedClock};

/// How long the people's tokens live: a working day, for commands to copy and paste.
const LIFETIME: Duration = Duration::from_secs(8 * 3_600);

/// What a sandbox is started with.
#[derive(Debug)]
pub struct SandboxSettings {
    /// Where its files are.
    pub dir: PathBuf,
    /// A loopback address.
    pub bind: IpAddr,
    /// Time.
    pub clock: SharedClock,
}

impl SandboxSettings {
    /// In `dir`, on 127.0.0.1.
    #[must_use]
    pub fn new(dir: PathBuf, clock: SharedClock) -> Self {
        Self { dir, bind: IpAddr::V4(Ipv4Addr::LOCALHOST), clock }
    }
}

/// Where everything of a sandbox is: `sandbox.json` in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Of the file's format: 1.
    pub version: u32,
    /// The issuer's identifier.
    pub issuer: String,
    /// The issuer's address.
    pub issuer_address: SocketAddr,
    /// The address of all of Azure's names.
    pub azure_address: SocketAddr,
    /// The address of the managed identity endpoint.
    pub identity_address: SocketAddr,
    /// Where the gate's reverse listener is to be.
    pub reverse_address: SocketAddr,
    /// Where the gate's forward listener is to be.
    pub forward_address: SocketAddr,
    /// Where the gate's admin listener is to be.
    pub admin_address: SocketAddr,
    /// Where the gate's health listener is to be.
    pub health_address: SocketAddr,
    /// How callers reach the gate.
    pub gate: String,
}

/// A running sandbox; stops when dropped. The gate is not part of it: it is started from
/// [`configuration`](Self::configuration) like any gate.
#[derive(Debug)]
pub struct Sandbox {
    /// Who vouches for the people.
    pub issuer: DevelopmentIssuer,
    /// What the gate stands in front of.
    pub azure: SimulatedAzure,
    /// Where everything is.
    pub layout: Layout,
    dir: PathBuf,
}

impl Sandbox {
    /// Starts the issuer and Azure on the ports that they had before, if those are free, and writes
    /// the gate's files: the configuration anew each time, policies only where there are none.
    ///
    /// # Errors
    /// [`SandboxError`] if the address is not loopback, a port is lost, or a file cannot be written.
    pub async fn start(settings: SandboxSettings) -> Result<Self, SandboxError> {
        let SandboxSettings { dir, bind, clock } = settings;
        if !bind.is_loopback() {
            return Err(SandboxError::NotLoopback(bind));
        }
        let folder = Folder { dir: &dir };
        folder.make("certs")?;
        folder.make("policies")?;
        let before = Layout::read(&dir).ok();
        let ca = Arc::new(folder.authority()?);
        let issuer_port = port(bind, before.as_ref().map(|l| l.issuer_address))?;
        let azure_port = port(bind, before.as_ref().map(|l| l.azure_address))?;
        let identity_port = port(bind, before.as_ref().map(|l| l.identity_address))?;
        let issuer = DevelopmentIssuer::start(IssuerSettings {
            bind,
            port: issuer_port,
            key: Some(folder.signing_key("issuer.key")?),
            lifetime: LIFETIME,
            ..IssuerSettings::new(Arc::clone(&clock), Arc::clone(&ca))
        })
        .await?;
        let azure = SimulatedAzure::start(AzureSettings {
            bind,
            port: azure_port,
            identity_port,
            key: Some(folder.signing_key("entra.key")?),
            ..AzureSettings::new(clock, Arc::clone(&ca))
        })
        .await?;
        // The gate's application can prove itself in every way that applications can.
        if let Some(mut app) = azure.app(names::GATE_CLIENT) {
            app.certificates.push(folder.client_certificate()?);
            app.federated.push(FederatedCredential {
                issuer: issuer.url(),
                subject: Person::named("ci").map_or("", |ci| ci.subject).to_owned(),
            });
            azure.register(app);
            azure.trust(&issuer.url(), issuer.keys());
        }
        let free = |old: Option<SocketAddr>| port(bind, old).map(|port| SocketAddr::new(bind, port));
        let reverse_address = free(before.as_ref().map(|l| l.reverse_address))?;
        let layout = Layout {
            version: 1,
            issuer: issuer.url(),
            issuer_address: issuer.address(),
            azure_address: azure.address(),
            identity_address: azure.identity_address(),
            reverse_address,
            forward_address: free(before.as_ref().map(|l| l.forward_address))?,
            admin_address: free(before.as_ref().map(|l| l.admin_address))?,
            health_address: free(before.as_ref().map(|l| l.health_address))?,
            gate: format!("https://localhost:{}", reverse_address.port()),
        };
        folder.machines()?;
        folder.gate(&ca, &layout)?;
        Ok(Self { issuer, azure, layout, dir })
    }

    /// The gate's configuration file.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.dir.join("amlgate.yaml")
    }

    /// The certificate that clients must trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.join("certs/ca.pem")
    }

    /// The authority of the machines' certificates.
    ///
    /// # Errors
    /// [`SandboxError::File`] if its files are gone.
    pub fn mesh(&self) -> Result<MeshCa, SandboxError> {
        Folder { dir: &self.dir }.mesh()
    }

    /// Commands to copy and paste, for a program called `program`.
    #[must_use]
    pub fn commands(&self, program: &str) -> String {
        // The commands are pasted elsewhere, where a relative path would be another one.
        let dir = fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        texts::commands(program, &dir, &self.layout)
    }
}

impl Layout {
    /// Reads `sandbox.json` in `dir`.
    ///
    /// # Errors
    /// [`SandboxError::File`] if it is not there or not that.
    pub fn read(dir: &Path) -> Result<Self, SandboxError> {
        let path = dir.join("sandbox.json");
        let failed = |source| SandboxError::File { verb: "read", path: path.clone(), source };
        let text = fs::read(&path).map_err(failed)?;
        serde_json::from_slice(&text).map_err(|e| failed(e.into()))
    }
}

/// The mint of the sandbox in `dir`, without the running process: for `sandbox token NAME`.
///
/// # Errors
/// [`SandboxError::File`] if no sandbox was ever started there.
pub fn mint(dir: &Path, clock: SharedClock) -> Result<Mint, SandboxError> {
    let layout = Layout::read(dir)?;
    let keys = KeyRing::new(SigningKey::from_pem(&Folder { dir }.read("issuer.key")?)?);
    let mint = Mint::new(Arc::new(keys), "amlgate".to_owned(), LIFETIME, clock);
    mint.settle(&layout.issuer);
    Ok(mint)
}

/// A person's Entra token for the gate of the sandbox in `dir`, without the running process.
///
/// # Errors
/// [`SandboxError::File`] if no sandbox was ever started there.
pub fn entra_token(dir: &Path, person: &Person, clock: &SharedClock) -> Result<String, SandboxError> {
    let folder = Folder { dir };
    let key = SigningKey::from_pem(&folder.read("entra.key")?)?;
    let wanted = UserToken { lifetime: LIFETIME, ..UserToken::default() };
    let claims = azure::inbound_claims(clock.now(), person, &wanted);
    jwt::sign(&key, &serde_json::Value::Object(claims))
}

/// The port of last time if it is free, else any free one.
fn port(bind: IpAddr, before: Option<SocketAddr>) -> Result<u16, SandboxError> {
    let wanted = before.map_or(0, |b| b.port());
    let probe = |port: u16| TcpListener::bind((bind, port)).and_then(|l| l.local_addr());
    let address = SocketAddr::new(bind, wanted);
    let found =
        probe(wanted).or_else(|_| probe(0)).map_err(|source| SandboxError::Listen { address, source })?;
    Ok(found.port())
}

/// Who may read a new file.
#[derive(Clone, Copy)]
enum Readers {
    Owner,
    All,
}

/// The files.
struct Folder<'a> {
    dir: &'a Path,
}

impl Folder<'_> {
    fn failed(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SandboxError {
        let path = path.to_owned();
        move |source| SandboxError::File { verb, path, source }
    }

    fn make(&self, name: &str) -> Result<(), SandboxError> {
        let path = self.dir.join(name);
        fs::create_dir_all(&path).map_err(Self::failed("create", &path))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(self.dir, fs::Permissions::from_mode(0o700))
                .map_err(Self::failed("protect", self.dir))?;
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<String, SandboxError> {
        let path = self.dir.join(name);
        fs::read_to_string(&path).map_err(Self::failed("read", &path))
    }

    fn write(&self, name: &str, text: &str, readers: Readers) -> Result<(), SandboxError> {
        let path = self.dir.join(name);
        let beside = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(match readers {
                Readers::Owner => 0o600,
                Readers::All => 0o644,
            });
        }
        #[cfg(not(unix))]
        let _ = readers;
        let mut file = options.open(&beside).map_err(Self::failed("write", &beside))?;
        file.write_all(text.as_bytes()).map_err(Self::failed("write", &beside))?;
        fs::rename(&beside, &path).map_err(Self::failed("write", &path))
    }

    fn missing(&self, name: &str) -> bool {
        !self.dir.join(name).exists()
    }

    fn authority(&self) -> Result<SandboxCa, SandboxError> {
        if self.missing("certs/ca.pem") || self.missing("certs/ca.key") {
            let ca = SandboxCa::generate()?;
            self.write("certs/ca.key", ca.key_pem(), Readers::Owner)?;
            self.write("certs/ca.pem", ca.certificate_pem(), Readers::All)?;
        }
        SandboxCa::from_pem(&self.read("certs/ca.pem")?, &self.read("certs/ca.key")?)
    }

    /// The authority of the machines.
    fn mesh(&self) -> Result<MeshCa, SandboxError> {
        MeshCa::from_pem(&self.read("certs/mesh-ca.pem")?, &self.read("certs/mesh-ca.key")?)
    }

    /// The machines' authority, a list that revokes nothing, and the CI job's certificate, anew at each
    /// start: it is short-lived.
    fn machines(&self) -> Result<(), SandboxError> {
        if self.missing("certs/mesh-ca.pem") || self.missing("certs/mesh-ca.key") {
            let made = MeshCa::generate()?;
            self.write("certs/mesh-ca.key", made.key_pem(), Readers::Owner)?;
            self.write("certs/mesh-ca.pem", made.certificate_pem(), Readers::All)?;
        }
        let mesh = self.mesh()?;
        let ci = mesh.machine(&Wanted { until: time::Duration::days(30), ..Wanted::workload("ci") })?;
        self.write("certs/ci.key", &ci.key, Readers::Owner)?;
        self.write("certs/ci.pem", &ci.certificate, Readers::All)?;
        self.write("certs/mesh.crl", &mesh.revoked(&[], time::Duration::days(30))?, Readers::All)
    }

    fn signing_key(&self, name: &str) -> Result<SigningKey, SandboxError> {
        if self.missing(name) {
            self.write(name, SigningKey::generate()?.pem(), Readers::Owner)?;
        }
        SigningKey::from_pem(&self.read(name)?)
    }

    /// The certificate by which the gate's application may prove itself, DER.
    fn client_certificate(&self) -> Result<Vec<u8>, SandboxError> {
        if self.missing("certs/gate-client.pem") || self.missing("certs/gate-client.key") {
            let (certificate, key) = super::tls::client_certificate()?;
            self.write("certs/gate-client.key", &key, Readers::Owner)?;
            self.write("certs/gate-client.pem", &certificate, Readers::All)?;
        }
        super::tls::der(&self.read("certs/gate-client.pem")?)
    }

    /// What the gate reads.
    fn gate(&self, ca: &SandboxCa, layout: &Layout) -> Result<(), SandboxError> {
        use base64::Engine as _;
        let (certificate, key) = ca.server_pem(&["localhost", "*.localhost", "127.0.0.1", "::1"])?;
        self.write("certs/server.key", &key, Readers::Owner)?;
        self.write("certs/server.pem", &certificate, Readers::All)?;
        let domains = names::intercepted();
        // An earlier version's may vouch for fewer.
        let vouches = self
            .read("certs/interception-ca.pem")
            .ok()
            .and_then(|text| crate::listen::domains(&text))
            .is_some_and(|own| {
                domains.iter().all(|domain| own.iter().any(|o| o.trim_start_matches('.') == domain))
            });
        if !vouches || self.missing("certs/interception-ca.key") {
            let made = crate::listen::new_authority(&domains, crate::time::SystemClock.now());
            let (certificate, key) = made.map_err(|e| {
                Self::failed("make", Path::new("interception-ca.pem"))(std::io::Error::other(e))
            })?;
            self.write("certs/interception-ca.key", &key, Readers::Owner)?;
            self.write("certs/interception-ca.pem", &certificate, Readers::All)?;
        }
        if self.missing("certs/audit.key") {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
            self.write("certs/audit.key", &key.serialize_pem(), Readers::Owner)?;
        }
        if self.missing("certs/evidence.key") {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
            self.write("certs/evidence.key", &key.serialize_pem(), Readers::Owner)?;
            self.write("certs/evidence.pub", &key.public_key_pem(), Readers::All)?;
        }
        if self.missing("certs/seal.key") {
            let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
            let digest = aws_lc_rs::digest::digest(
                &aws_lc_rs::digest::SHA256,
                &[a.as_bytes().as_slice(), b.as_bytes()].concat(),
            );
            let seal = base64::engine::general_purpose::STANDARD.encode(digest);
            self.write("certs/seal.key", &format!("{seal}\n"), Readers::Owner)?;
        }
        self.write("certs/gate-client.secret", names::GATE_SECRET, Readers::Owner)?;
        if self.missing("policies/sandbox.yaml") {
            self.write("policies/sandbox.yaml", &texts::policies(), Readers::All)?;
            self.write("policies/sandbox.test.yaml", &texts::policy_tests(), Readers::All)?;
        }
        self.write("amlgate.yaml", &texts::configuration(layout), Readers::All)?;
        let json = serde_json::to_string_pretty(layout).unwrap_or_default();
        self.write("sandbox.json", &format!("{json}\n"), Readers::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SystemClock;

    #[tokio::test]
    async fn a_second_start_keeps_keys_ports_and_edited_policies() {
        let dir = tempfile::tempdir().unwrap();
        let clock: SharedClock = Arc::new(SystemClock);
        let start = || Sandbox::start(SandboxSettings::new(dir.path().to_owned(), Arc::clone(&clock)));
        let first = start().await.unwrap();
        let (layout, ca) = (first.layout.clone(), fs::read(first.ca()).unwrap());
        drop(first);
        fs::write(dir.path().join("policies/sandbox.yaml"), "version: 1\n").unwrap();
        let second = start().await.unwrap();
        assert_eq!(fs::read(second.ca()).unwrap(), ca);
        assert_eq!(fs::read(dir.path().join("policies/sandbox.yaml")).unwrap(), b"version: 1\n");
        // A port may still be held by a dying connection; the issuer's keys may not change.
        assert_eq!(second.layout.version, layout.version);
        let token =
            mint(dir.path(), Arc::clone(&clock)).unwrap().token(Person::named("sam").unwrap()).unwrap();
        let claims = jwt::verify(&second.issuer.keys(), &token, clock.now()).unwrap();
        assert_eq!(claims["iss"].as_str(), Some(second.issuer.url().as_str()));
    }

    #[tokio::test]
    async fn the_gate_takes_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let settings = SandboxSettings::new(dir.path().to_owned(), Arc::new(SystemClock));
        let sandbox = Sandbox::start(settings).await.unwrap();
        let read =
            crate::config::load(&sandbox.configuration()).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!((read.routes.len(), read.issuers.len(), read.warnings.len()), (4, 3, 0));
        let (set, warnings) = crate::policy::PolicySet::load(&read.policies, &read.surroundings())
            .unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!((set.entries().count(), warnings.len()), (16, 0), "{warnings:#?}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn secrets_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let settings = SandboxSettings::new(dir.path().to_owned(), Arc::new(SystemClock));
        let _sandbox = Sandbox::start(settings).await.unwrap();
        for name in [
            "issuer.key",
            "entra.key",
            "certs/ca.key",
            "certs/server.key",
            "certs/mesh-ca.key",
            "certs/ci.key",
            "certs/audit.key",
            "certs/seal.key",
        ] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
    }
}
