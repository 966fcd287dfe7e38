//! `amlgate certs`: the gate's own certificates and keys.
//!
//! `init` makes what is missing and never overwrites; `rotate` renews the server certificate from
//! the same authority, puts a new sealing key before the old one, or exchanges the interception
//! authority under its clients. The server's authority signs
//! nothing else: an interception authority is another one, so that trusting the gate's address
//! does not mean trusting what it mints.

mod interception;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use chrono::Datelike;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

pub use self::interception::{Step, rotate as rotate_interception};
use super::{exit, report};
use crate::{
    cloud::Cloud,
    config,
    lineage::{KeyError, SigningKey},
    listen::{self, InterceptError},
    time::{Clock as _, SystemClock},
};

/// Makes or renews certificates and keys.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Makes what is missing: server authority and certificate, interception authority, audit key, key of
    /// statements, sealing key.
    Init {
        /// Where to write.
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
        /// The configuration whose routes the interception authority is for; without the file, those
        /// of Azure Machine Learning in the public cloud.
        #[arg(long, default_value = "amlgate.yaml")]
        config: PathBuf,
        /// Names and addresses that the server certificate is valid for; repeatable.
        #[arg(long = "host", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])]
        hosts: Vec<String>,
    },
    /// Renews one of them; the old one is kept beside it.
    Rotate {
        /// Which.
        #[arg(value_enum)]
        what: Rotated,
        /// Where they are.
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
        /// For `interception`: the second step, once clients believe the next authority.
        #[arg(long)]
        switch: bool,
        /// For `interception`: the configuration whose routes it is for.
        #[arg(long, default_value = "amlgate.yaml")]
        config: PathBuf,
        /// For `server`: names and addresses; repeatable.
        #[arg(long = "host", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])]
        hosts: Vec<String>,
    },
}

/// Where Azure Machine Learning is in a cloud.
pub fn azure(cloud: &Cloud) -> Vec<String> {
    vec![
        cloud.resource_manager_host().to_owned(),
        cloud.data_plane.to_string(),
        cloud.inference.to_string(),
        format!("blob.{}", cloud.storage),
        cloud.key_vault.to_string(),
    ]
}

/// What `rotate` renews.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Rotated {
    /// The server certificate and its key; a running gate picks them up.
    Server,
    /// The sealing key; name both files in `keys.seal`, the new one first.
    Seal,
    /// The key of statements; name the file of those before it in `evidence.previous`.
    Evidence,
    /// The authority of what is shown inside tunnels: first made and handed to clients, then, with
    /// `--switch`, put in the place of the one in use.
    Interception,
}

/// Why certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file could not be read or written.
    #[error("cannot {verb} `{path}`")]
    File {
        /// `read`, `write`, `create` or `remove`.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name cannot stand in a certificate, or the authority's file is not one.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The interception authority.
    #[error(transparent)]
    Interception(#[from] InterceptError),
    /// The key of statements is none.
    #[error(transparent)]
    Evidence(#[from] KeyError),
    /// The first step was taken already.
    #[error("the next authority is `{0}` already: `--switch` puts it in the place of the one in use")]
    Announced(PathBuf),
    /// The first step was not taken.
    #[error(
        "there is no next interception authority in `{0}`: run this without `--switch` first, and give clients time to take it"
    )]
    NotAnnounced(PathBuf),
    /// A file of authorities holds something else.
    #[error("the files of the interception authorities cannot be read: they are certificates in PEM form")]
    NoCertificate,
    /// The generator of randomness failed.
    #[error("the system gave no randomness")]
    Randomness,
}

/// Runs the verb.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    let done = match args {
        Args::Init { dir, config, hosts } => init(&dir, &hosts, &intercepted(&config)).map(|made| {
            for (path, what) in &made {
                eprintln!("made {}: {what}", path.display());
            }
            if made.is_empty() {
                eprintln!("nothing to do: {} is complete", dir.display());
            }
        }),
        Args::Rotate { what, dir, switch, config, hosts } => match what {
            Rotated::Server => rotate_server(&dir, &hosts),
            Rotated::Seal => rotate_seal(&dir),
            Rotated::Evidence => rotate_evidence(&dir),
            Rotated::Interception => {
                let step = if switch { Step::Switch } else { Step::Announce };
                rotate_interception(&dir, &intercepted(&config), step)
                    .map(|said| said.iter().for_each(|line| eprintln!("{line}")))
            }
        },
    };
    match done {
        Ok(()) => exit::DONE,
        Err(error) => report(&error, exit::FINDING),
    }
}

/// Makes what is missing in `dir`; says what was made and what it is.
///
/// # Errors
/// [`CertsError`]; files already made stay, so that a second run completes the set.
pub fn init(
    dir: &Path,
    hosts: &[String],
    domains: &[String],
) -> Result<Vec<(PathBuf, &'static str)>, CertsError> {
    fs::create_dir_all(dir).map_err(|source| CertsError::File {
        verb: "create",
        path: dir.to_owned(),
        source,
    })?;
    let mut made = Vec::new();
    let (authority, authority_key) = (dir.join("server-ca.pem"), dir.join("server-ca.key"));
    if !authority.exists() {
        let key = KeyPair::generate()?;
        let certificate = authority_params()?.self_signed(&key)?;
        write(&authority_key, key.serialize_pem().as_bytes(), Readers::Owner)?;
        write(&authority, certificate.pem().as_bytes(), Readers::All)?;
        made.push((authority.clone(), "give this file to clients: it vouches for the gate's address"));
    }
    if !dir.join("server.pem").exists() {
        server(dir, hosts)?;
        made.push((dir.join("server.pem"), "the listener's certificate, valid for a year"));
    }
    let (interception, interception_key) = (dir.join("interception-ca.pem"), dir.join("interception-ca.key"));
    if !interception.exists() {
        let (certificate, key) = listen::new_authority(domains, SystemClock.now())?;
        write(&interception_key, key.as_bytes(), Readers::Owner)?;
        write(&interception, certificate.as_bytes(), Readers::All)?;
        made.push((
            interception,
            "for `listen.forward`: give this file to clients behind HTTPS_PROXY; it can vouch for the routes' hosts alone",
        ));
    }
    let audit = dir.join("audit.key");
    if !audit.exists() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        write(&audit, key.serialize_pem().as_bytes(), Readers::Owner)?;
        made.push((audit, "signs the record; keep a copy of its public half where the gate cannot write"));
    }
    let evidence = dir.join("evidence.key");
    if !evidence.exists() {
        new_evidence(dir)?;
        made.push((
            evidence,
            "signs statements of where models came from; give `evidence.pub` to whoever checks them",
        ));
    }
    let seal = dir.join("seal.key");
    if !seal.exists() {
        write(&seal, new_seal()?.as_bytes(), Readers::Owner)?;
        made.push((seal, "seals handles and polling capabilities; the same on every replica"));
    }
    Ok(made)
}

/// The domains of a configuration's routes; without one those of Azure Machine Learning.
fn intercepted(config: &Path) -> Vec<String> {
    let routed = config::upstream_hosts(config);
    if routed.is_empty() {
        azure(&Cloud::public())
    } else {
        routed.into_iter().map(|host| host.trim_start_matches("*.").to_owned()).collect()
    }
}

fn rotate_server(dir: &Path, hosts: &[String]) -> Result<(), CertsError> {
    server(dir, hosts)?;
    eprintln!("renewed {}", dir.join("server.pem").display());
    Ok(())
}

fn rotate_seal(dir: &Path) -> Result<(), CertsError> {
    let (new, old) = (dir.join("seal.key"), dir.join("seal.previous.key"));
    let bytes =
        fs::read(&new).map_err(|source| CertsError::File { verb: "read", path: new.clone(), source })?;
    write(&old, &bytes, Readers::Owner)?;
    write(&new, new_seal()?.as_bytes(), Readers::Owner)?;
    eprintln!("renewed {}", new.display());
    eprintln!(
        "keep both for 24 hours: keys: {{seal: [{{file: {}}}, {{file: {}}}]}}",
        new.display(),
        old.display()
    );
    Ok(())
}

/// Makes a key of statements, and its public half beside it.
fn new_evidence(dir: &Path) -> Result<(), CertsError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    // The public half first: a key that signs has one that can be given away.
    write(&dir.join("evidence.pub"), key.public_key_pem().as_bytes(), Readers::All)?;
    write(&dir.join("evidence.key"), key.serialize_pem().as_bytes(), Readers::Owner)
}

/// Makes another, and puts the public half of the one before to those that are still believed.
fn rotate_evidence(dir: &Path) -> Result<(), CertsError> {
    let (key, before) = (dir.join("evidence.key"), dir.join("evidence.previous.pub"));
    let read = |path: &Path| {
        fs::read(path).map_err(|source| CertsError::File { verb: "read", path: path.to_owned(), source })
    };
    let old = SigningKey::from_pem(&read(&key)?)?;
    let mut all = if before.exists() { read(&before)? } else { Vec::new() };
    all.extend_from_slice(old.public().to_pem().as_bytes());
    write(&before, &all, Readers::All)?;
    new_evidence(dir)?;
    eprintln!("renewed {}", key.display());
    eprintln!(
        "what was signed before is believed as long as this names it: evidence: {{signing_key: {{file: {}}}, previous: [{}]}}",
        key.display(),
        before.display()
    );
    Ok(())
}

/// Mints the server's certificate from the authority beside it.
fn server(dir: &Path, hosts: &[String]) -> Result<(), CertsError> {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(|source| CertsError::File { verb: "read", path, source })
    };
    let authority =
        Issuer::from_ca_cert_pem(&read("server-ca.pem")?, KeyPair::from_pem(&read("server-ca.key")?)?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, hosts.first().map_or("amlgate", String::as_str));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = validity(1);
    let certificate = params.signed_by(&key, &authority)?;
    write(&dir.join("server.key"), key.serialize_pem().as_bytes(), Readers::Owner)?;
    write(&dir.join("server.pem"), certificate.pem().as_bytes(), Readers::All)
}

fn authority_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, "amlgate server authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(10);
    Ok(params)
}

/// From yesterday (clocks differ) for so many years.
fn validity(years: u32) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let day = |d: chrono::NaiveDate| {
        let narrow = |n: u32| u8::try_from(n).unwrap_or(1);
        // The 29th of February has no anniversary.
        rcgen::date_time_ymd(d.year(), narrow(d.month()), narrow(d.day().min(28)))
    };
    let now = chrono::Utc::now().date_naive();
    let start = now.pred_opt().unwrap_or(now);
    let end = now.checked_add_months(chrono::Months::new(12 * years)).unwrap_or(now);
    (day(start), day(end))
}

fn new_seal() -> Result<String, CertsError> {
    use base64::Engine as _;
    let mut bytes = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CertsError::Randomness)?;
    Ok(format!("{}\n", base64::engine::general_purpose::STANDARD.encode(bytes)))
}

/// Who may read a new file.
#[derive(Clone, Copy)]
enum Readers {
    Owner,
    All,
}

/// Writes beside and renames, so that a reader sees the old file or the new one.
fn write(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), CertsError> {
    let failed = |source| CertsError::File { verb: "write", path: path.to_owned(), source };
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
    let mut file = options.open(&beside).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::PublicKey;

    #[test]
    fn what_the_key_of_evidence_signed_is_believed_after_it_was_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let public = |name: &str| {
            PublicKey::all_from_pem(&fs::read_to_string(dir.join(name)).unwrap())
                .unwrap()
                .iter()
                .map(|key| key.id().to_string())
                .collect::<Vec<_>>()
        };
        let signs = || {
            let key = SigningKey::from_pem(&fs::read(dir.join("evidence.key")).unwrap()).unwrap();
            vec![key.public().id().to_string()]
        };
        assert!(rotate_evidence(dir).is_err(), "there is none to be exchanged");
        let mut before = Vec::new();
        new_evidence(dir).unwrap();
        for _ in 0..2 {
            assert_eq!(public("evidence.pub"), signs());
            before.extend(signs());
            rotate_evidence(dir).unwrap();
            assert_eq!(public("evidence.previous.pub"), before);
            assert!(!before.contains(&signs()[0]));
        }
    }
}
