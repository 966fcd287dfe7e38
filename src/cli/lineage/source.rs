//! Where statements come from: files, which are checked here under the keys that are trusted, or the
//! gate, which checks them itself unless keys are named to check them with here.

use std::{
    cell::OnceCell,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use http::Method;
use serde::{Deserialize, Serialize};

use super::{
    super::{Output, can_i::Gate, exit, report, request::At},
    flat,
};
use crate::lineage::{
    Chain, EnvelopeError, Home, KeyError, MAX_BUNDLE, ModelId, NameError, Opened, PROVENANCE, PublicKey,
    Subject, Version, bundle,
};

/// Whom to trust, whom to ask, and how to print.
#[derive(Debug, clap::Args)]
pub struct Trusted {
    /// The workspace of models that are named as `M:V`.
    #[arg(long, value_name = "NAME", conflicts_with = "registry")]
    pub workspace: Option<String>,
    /// The registry of models that are named as `M:V`.
    #[arg(long, value_name = "NAME")]
    pub registry: Option<String>,
    /// Public keys that are trusted, in PEM; a good signature of one of them is enough. Repeatable. Files
    /// are checked with them alone; of models the gate's word is taken if none is named.
    #[arg(long = "key", value_name = "PEM")]
    pub keys: Vec<PathBuf>,
    #[command(flatten)]
    pub at: At,
}

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub enum Unchecked {
    #[error("cannot read `{path}`{hint}")]
    Read { path: PathBuf, hint: &'static str, source: io::Error },
    #[error("`{path}` cannot be trusted")]
    Key { path: PathBuf, source: KeyError },
    #[error("`{0}` is a file, which is checked with public keys: name them with --key")]
    NoKey(PathBuf),
    #[error("`{name}`: {why}")]
    Name { name: String, why: NameError },
}

impl Unchecked {
    fn code(&self) -> ExitCode {
        match self {
            Self::Read { .. } | Self::Key { .. } => exit::unreachable(),
            Self::NoKey(_) | Self::Name { .. } => exit::usage(),
        }
    }

    /// Says it.
    fn said(self) -> ExitCode {
        report(&self, self.code())
    }
}

/// Where a statement was found.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Place {
    /// In a file.
    File {
        /// Its name.
        file: String,
        /// The line in it, or 1.
        line: usize,
    },
    /// At the gate.
    Gate {
        /// The model that it was asked of.
        model: String,
        /// The statement's id.
        statement: String,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Gate { model, statement } => {
                write!(
                    f,
                    "{} statement {}",
                    flat(model),
                    flat(&statement.chars().take(12).collect::<String>())
                )
            }
        }
    }
}

/// One statement, and what came of it.
#[derive(Debug)]
pub struct Found {
    pub place: Place,
    /// What a key vouches for, or why none does, on one line.
    pub told: Result<Told, String>,
}

/// What a key vouches for.
#[derive(Debug)]
pub struct Told {
    pub predicate_type: String,
    pub subjects: Vec<Subject>,
    /// The keys whose signatures are good.
    pub signers: Vec<String>,
    /// What it tells, if it is of a gate.
    pub chain: Option<Chain>,
}

/// Chains, each with who signed it.
pub type Chains = Vec<(Chain, Vec<String>)>;

/// What a gate says of a model.
#[derive(Debug, Deserialize)]
struct Lineage {
    model: String,
    statement: Option<String>,
    chain: Option<Chain>,
    statements: Vec<Line>,
}

/// A statement, as a gate lists it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    pub id: String,
    pub model: String,
    pub name: String,
    pub made: String,
    pub decision: String,
    pub verified: bool,
    pub problem: Option<String>,
    pub signers: Vec<String>,
    pub digest: Option<String>,
    pub commit: Option<String>,
    pub repository: Option<String>,
    pub branch: Option<String>,
    pub change: Option<String>,
    pub approvers: Vec<String>,
}

/// Something that is named on the command line.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    File(PathBuf),
    Model(Version),
}

impl Trusted {
    /// Where models are that are named without an id.
    pub fn home(&self) -> Option<Home<'_>> {
        match (&self.workspace, &self.registry) {
            (Some(name), _) => Some(Home::Workspace(name)),
            (None, Some(name)) => Some(Home::Registry(name)),
            (None, None) => None,
        }
    }

    /// How to print.
    pub fn output(&self) -> Output {
        self.at.output
    }

    /// What a word on the command line names.
    fn named(&self, text: &str) -> Result<Named, Unchecked> {
        let scheme = text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("azureml:"));
        if self.home().is_none() && !scheme && ModelId::parse(text).is_none() {
            return Ok(Named::File(text.into()));
        }
        let version = Version::parse(text, self.home());
        version.map(Named::Model).map_err(|why| Unchecked::Name { name: text.to_owned(), why })
    }

    /// The keys that are named.
    fn trusted(&self) -> Result<Vec<PublicKey>, Unchecked> {
        let mut trusted = Vec::new();
        for path in &self.keys {
            let pem = String::from_utf8_lossy(&read(path, "")?).into_owned();
            let keys = PublicKey::all_from_pem(&pem);
            trusted.extend(keys.map_err(|source| Unchecked::Key { path: path.clone(), source })?);
        }
        Ok(trusted)
    }
}

/// Files and a gate, which is asked for once.
pub struct Source<'t> {
    trusted: &'t Trusted,
    gate: OnceCell<Gate>,
}

impl<'t> Source<'t> {
    pub fn new(trusted: &'t Trusted) -> Self {
        Self { trusted, gate: OnceCell::new() }
    }

    fn gate(&self) -> Result<&Gate, ExitCode> {
        if self.gate.get().is_none() {
            // Nobody else sets it: it is of this thread.
            drop(self.gate.set(self.trusted.at.gate()?));
        }
        self.gate.get().ok_or_else(exit::unreachable)
    }

    /// The statements of a model or in a file, each checked.
    pub fn found(&self, what: &str) -> Result<Vec<Found>, ExitCode> {
        let named = self.trusted.named(what).map_err(Unchecked::said)?;
        let keys = self.trusted.trusted().map_err(Unchecked::said)?;
        match named {
            Named::File(path) if keys.is_empty() => Err(Unchecked::NoKey(path).said()),
            Named::File(path) => in_file(&path, &keys).map_err(Unchecked::said),
            Named::Model(version) => self.of_model(what, &version, &keys),
        }
    }

    fn of_model(&self, what: &str, version: &Version, keys: &[PublicKey]) -> Result<Vec<Found>, ExitCode> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("model", what);
        match self.trusted.home() {
            Some(Home::Workspace(name)) => drop(query.append_pair("workspace", name)),
            Some(Home::Registry(name)) => drop(query.append_pair("registry", name)),
            None => {}
        }
        let path = format!("/api/v1/lineage/of?{}", query.finish());
        let said: Lineage = self.gate()?.call(&Method::GET, &path, None)?;
        let Lineage { model, statement, mut chain, statements } = said;
        let mut found = Vec::new();
        for line in statements {
            let place = Place::Gate { model: model.clone(), statement: line.id.clone() };
            if keys.is_empty() {
                let chain = if statement.as_ref() == Some(&line.id) { chain.take() } else { None };
                found.push(Found { place, told: by_the_gate(line, chain, version) });
                continue;
            }
            let id: String = form_urlencoded::byte_serialize(line.id.as_bytes()).collect();
            let bytes = self.gate()?.bytes(&format!("/api/v1/lineage/statements/{id}"))?;
            match bundle(&bytes) {
                Ok(envelopes) => found.extend(envelopes.iter().map(|(_, envelope)| {
                    let told = envelope.open(keys).map_err(why).map(Told::of);
                    Found { place: place.clone(), told: told.and_then(|told| told.about(version)) }
                })),
                Err((_, error)) => found.push(Found { place, told: Err(why(error)) }),
            }
        }
        Ok(found)
    }

    /// The chains that a file tells, or the newest of a model, each with who signed it; what is refused
    /// was said, and so was it if there is none.
    pub fn chains(&self, what: &str) -> Result<(Chains, ExitCode), ExitCode> {
        let (mut chains, mut code) = (Vec::new(), exit::DONE);
        for Found { place, told } in self.found(what)? {
            let of_model = matches!(place, Place::Gate { .. });
            match told {
                // A summary beside it, or a statement of somebody else's, tells none; of a model's the
                // newest counts.
                Ok(Told { chain: Some(chain), signers, .. }) if !of_model || chains.is_empty() => {
                    chains.push((chain, signers));
                }
                Ok(_) => {}
                Err(why) => {
                    report(&Refused { place: place.to_string(), why }, exit::FINDING);
                    code = exit::FINDING;
                }
            }
        }
        if chains.is_empty() {
            return Err(report(&Nothing(what.to_owned()), exit::FINDING));
        }
        Ok((chains, code))
    }
}

/// What a gate's own check made of a statement.
fn by_the_gate(line: Line, chain: Option<Chain>, version: &Version) -> Result<Told, String> {
    if !line.verified {
        return Err(flat(line.problem.as_deref().unwrap_or("the gate does not say why")));
    }
    let subject = match &chain {
        Some(chain) => chain.subject.clone(),
        None => {
            let digest = line.digest.as_deref().and_then(|digest| digest.split_once(':'));
            let digest = digest.map(|(kind, value)| (kind.to_owned(), value.to_owned()));
            Subject { name: Some(line.model), digest: digest.into_iter().collect(), digest_of: None }
        }
    };
    let told =
        Told { predicate_type: PROVENANCE.to_owned(), subjects: vec![subject], signers: line.signers, chain };
    told.about(version)
}

impl Told {
    fn of(Opened { statement, signers }: Opened) -> Self {
        Self {
            predicate_type: statement.predicate_type().to_owned(),
            subjects: statement.subjects().to_vec(),
            signers: signers.iter().map(ToString::to_string).collect(),
            chain: Chain::of(&statement),
        }
    }

    /// The same, if it is about this model.
    pub fn about(self, wanted: &Version) -> Result<Self, String> {
        let names = || self.subjects.iter().filter_map(|subject| subject.name.as_deref());
        let is_it = |id: &ModelId| match wanted {
            // A registry is one, with or without the subscription that it is in.
            Version::Id(wanted) if wanted.tail().starts_with("registries/") => {
                id == wanted || (id.tail() == wanted.tail() && (id.arm().is_none() || wanted.arm().is_none()))
            }
            Version::Id(wanted) => id == wanted,
            Version::Tail(tail) => id.tail() == tail,
        };
        if names().filter_map(ModelId::parse).any(|id| is_it(&id)) {
            return Ok(self);
        }
        let found: Vec<&str> = names().take(4).collect();
        let wanted = match wanted {
            Version::Id(id) => id.as_str(),
            Version::Tail(tail) => tail,
        };
        Err(flat(&format!(
            "the signature is good, but the statement is about {}, not {wanted}",
            found.join(", ")
        )))
    }
}

fn in_file(path: &Path, keys: &[PublicKey]) -> Result<Vec<Found>, Unchecked> {
    let file = path.display().to_string();
    let looks_like_a_model = file.contains(':') && !file.contains(['/', '.']);
    let hint =
        if looks_like_a_model { "; if it is a model, say where with --workspace or --registry" } else { "" };
    let place = |line| Place::File { file: file.clone(), line };
    Ok(match bundle(&read(path, hint)?) {
        Ok(envelopes) => envelopes
            .iter()
            .map(|(line, one)| Found { place: place(*line), told: one.open(keys).map_err(why).map(Told::of) })
            .collect(),
        Err((line, error)) => vec![Found { place: place(line), told: Err(why(error)) }],
    })
}

fn why(error: EnvelopeError) -> String {
    flat(&error.to_string())
}

#[derive(Debug, thiserror::Error)]
#[error("{place}: refused: {why}")]
struct Refused {
    place: String,
    why: String,
}

#[derive(Debug, thiserror::Error)]
#[error("nothing of `{0}` that is signed tells where a model came from")]
struct Nothing(String);

/// A file as far as one may be long, and one byte more, so that a longer one is seen to be.
fn read(path: &Path, hint: &'static str) -> Result<Vec<u8>, Unchecked> {
    let failed = |source| Unchecked::Read { path: path.to_owned(), hint, source };
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BUNDLE).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "azureml://subscriptions/s/resourceGroups/g/workspaces/w/models/churn/versions/3";

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        trusted: Trusted,
    }

    fn named(arguments: &[&str], text: &str) -> Result<Named, Unchecked> {
        let arguments = std::iter::once(&"lineage").chain(arguments);
        let Line { trusted } = clap::Parser::try_parse_from(arguments).unwrap();
        trusted.named(text)
    }

    #[test]
    fn a_word_is_a_model_where_it_can_be_none_else_and_a_file_otherwise() {
        let id = Named::Model(Version::Id(ModelId::parse(URI).unwrap()));
        assert_eq!(named(&[], URI).unwrap(), id);
        let tail = Named::Model(Version::Tail("workspaces/w/models/churn/versions/3".to_owned()));
        assert_eq!(named(&["--workspace", "W"], "churn:3").unwrap(), tail);
        assert_eq!(named(&[], "churn-3.intoto.jsonl").unwrap(), Named::File("churn-3.intoto.jsonl".into()));
        assert_eq!(named(&[], "churn:3").unwrap(), Named::File("churn:3".into()));
        for (arguments, text) in [
            (&[][..], "azureml:churn:3"),
            (&[], "azureml://registries/r/models/m"),
            (&["--registry", "r"], "churn"),
            (&["--workspace", "w"], URI),
        ] {
            assert!(matches!(named(arguments, text), Err(Unchecked::Name { .. })), "{text}");
        }
    }

    #[test]
    fn a_gate_that_tells_of_another_model_than_it_was_asked_for_is_not_believed() {
        let line = |model: &str| super::Line {
            id: "00".to_owned(),
            model: model.to_owned(),
            name: String::new(),
            made: String::new(),
            decision: String::new(),
            verified: true,
            problem: None,
            signers: Vec::new(),
            digest: Some("sha256:00".to_owned()),
            commit: None,
            repository: None,
            branch: None,
            change: None,
            approvers: Vec::new(),
        };
        let wanted = Version::parse("churn:3", Some(Home::Workspace("w"))).unwrap();
        assert!(by_the_gate(line(URI), None, &wanted).is_ok());
        let other = by_the_gate(line(&URI.replace("/3", "/4")), None, &wanted).unwrap_err();
        assert!(other.contains("the statement is about azureml://"), "{other}");
        let refused = super::Line { verified: false, problem: Some("no\nfine".to_owned()), ..line(URI) };
        assert_eq!(by_the_gate(refused, None, &wanted).unwrap_err(), "no\\u000afine");
        let registry = "azureml://registries/r/models/m/versions/1";
        let owned = "azureml://subscriptions/s/resourceGroups/g/registries/r/models/m/versions/1";
        let wanted = Version::parse(owned, None).unwrap();
        assert!(by_the_gate(line(registry), None, &wanted).is_ok(), "it is the same registry");
        let others = owned.replace("/s/", "/t/");
        assert!(by_the_gate(line(&others), None, &wanted).is_err());
    }
}
