//! `amlgate import`: what is allowed elsewhere, as policies.

use std::{fs, io::Read as _, path::PathBuf, process::ExitCode, sync::Arc};

use super::{exit, put_whole, report, serve::refused};
use crate::{
    azureml::ResourceId,
    policy::clutch::{self, Terms},
};

/// The most that one file may hold, in bytes.
const LARGEST: u64 = 4 << 20;

/// Other systems.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Clutch's roles and role bindings, of one configuration in one file or several: policies on
    /// standard output, what they leave out on standard error.
    Clutch(Clutch),
}

/// `import clutch`.
#[derive(Debug, clap::Args)]
pub struct Clutch {
    /// Clutch's configuration, or files with `roles` and `role_bindings`.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The issuer, by its name in `amlgate.yaml`, through which Clutch's users sign in.
    #[arg(long)]
    issuer: String,
    /// Where it all counts, at most: an ARM id.
    #[arg(long = "scope", value_name = "ARM_ID", required = true)]
    scopes: Vec<String>,
    /// The claim that holds what Clutch calls a user.
    #[arg(long, default_value = "email", value_name = "CLAIM")]
    user_claim: String,
}

#[derive(Debug, thiserror::Error)]
enum ImportError {
    #[error("`{}` cannot be read", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("`{}` is larger than {LARGEST} bytes", .path.display())]
    TooLarge { path: PathBuf },
    #[error(
        "`{0}` is no ARM id: write `/subscriptions/S/resourceGroups/G/...`, or a part of it from the left"
    )]
    Scope(String),
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let Args::Clutch(args) = args;
    let (files, terms) = match read(args) {
        Ok(read) => read,
        Err(error @ ImportError::Scope(_)) => return report(&error, exit::usage()),
        Err(error) => return report(&error, exit::unreachable()),
    };
    match clutch::import(&files, &terms) {
        Ok(imported) => {
            for problem in &imported.left_out {
                eprintln!("{problem}");
            }
            put_whole(format_args!("{}", imported.policies));
            exit::DONE
        }
        Err(problems) => refused(&problems),
    }
}

/// Files by their names, with what is in them.
type Files = Vec<(Arc<str>, String)>;

fn read(args: &Clutch) -> Result<(Files, Terms), ImportError> {
    let scope = |text: &String| ResourceId::parse(text).ok_or_else(|| ImportError::Scope(text.clone()));
    let scopes = args.scopes.iter().map(scope).collect::<Result<_, _>>()?;
    let mut files = Vec::new();
    for path in &args.files {
        let unreadable = |source| ImportError::Unreadable { path: path.clone(), source };
        let mut text = String::new();
        let file = fs::File::open(path).map_err(unreadable)?;
        file.take(LARGEST + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > LARGEST {
            return Err(ImportError::TooLarge { path: path.clone() });
        }
        files.push((path.to_string_lossy().into(), text));
    }
    let terms = Terms { issuer: args.issuer.clone(), user_claim: args.user_claim.clone(), scopes };
    Ok((files, terms))
}
