//! `audit query`: the records that fit, read from the log and checked against its signed heads.

use std::{fs, io, path::PathBuf, process::ExitCode};

use super::{
    super::{Output, exit, report},
    Line,
};
use crate::{
    audit::{
        PUBLIC_KEY, archive,
        note::VerifierKeys,
        query::{Bounds, Filter, Look, QueryError, search},
        read::Record,
        storage::Directory,
    },
    time::Timestamp,
};

/// `audit query`: what is given must all fit.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of a log.
    directory: PathBuf,
    /// The caller, as `issuer:subject`, or a part of it.
    #[arg(long, alias = "person")]
    caller: Option<String>,
    /// A decision's id: `x-amlgate-decision`.
    #[arg(long)]
    decision: Option<String>,
    /// An Azure action or an event of the gate, or a part of it; case does not count.
    #[arg(long)]
    action: Option<String>,
    /// A resource's id, or a part of it; case does not count.
    #[arg(long)]
    resource: Option<String>,
    /// `intent`, `outcome` or `denial`.
    #[arg(long)]
    phase: Option<String>,
    /// A denial's code, such as `AuthorizationFailed`.
    #[arg(long)]
    code: Option<String>,
    /// Anything that stands in the record; case does not count.
    #[arg(long)]
    text: Option<String>,
    /// Not before: RFC 3339.
    #[arg(long)]
    since: Option<chrono::DateTime<chrono::Utc>>,
    /// Before: RFC 3339.
    #[arg(long)]
    until: Option<chrono::DateTime<chrono::Utc>>,
    /// From this position on.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// At most so many.
    #[arg(long, short = 'n')]
    limit: Option<usize>,
    /// Read every record instead of believing the index about where to look.
    #[arg(long)]
    scan: bool,
    /// Verifier keys, kept where the gate cannot write; `audit.pub` beside the log by default.
    #[arg(long = "key", value_name = "FILE")]
    key: Option<PathBuf>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// So many records are found before they are printed.
const PAGE: usize = 1_000;

impl Args {
    fn filter(&self) -> Result<Filter, uuid::Error> {
        let time = |at: &chrono::DateTime<chrono::Utc>| {
            Timestamp::from_millis(u64::try_from(at.timestamp_millis()).unwrap_or_default())
        };
        Ok(Filter {
            caller: self.caller.clone(),
            decision: self.decision.as_deref().map(uuid::Uuid::parse_str).transpose()?,
            action: self.action.clone(),
            resource: self.resource.clone(),
            phase: self.phase.clone(),
            code: self.code.clone(),
            text: self.text.clone(),
            since: self.since.as_ref().map(time),
            until: self.until.as_ref().map(time),
        })
    }

    fn keys(&self) -> io::Result<VerifierKeys> {
        let path = self.key.clone().unwrap_or_else(|| self.directory.join(PUBLIC_KEY));
        match fs::read_to_string(&path) {
            Ok(text) => VerifierKeys::parse(&text).map_err(io::Error::other),
            Err(error) if self.key.is_none() && error.kind() == io::ErrorKind::NotFound => {
                eprintln!("amlgate: there is no `{}`: nothing vouches for what is found", path.display());
                Ok(VerifierKeys::default())
            }
            Err(error) => {
                Err(io::Error::new(error.kind(), format!("cannot read `{}`: {error}", path.display())))
            }
        }
    }
}

/// Runs the verb.
pub fn run(args: &Args) -> ExitCode {
    let filter = match args.filter() {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("amlgate: `--decision` is no decision's id: {error}");
            return exit::usage();
        }
    };
    let keys = match args.keys() {
        Ok(keys) => keys,
        Err(error) => return report(&error, exit::unreachable()),
    };
    match print(args, &filter, &keys) {
        Ok(()) => exit::DONE,
        Err(QueryError::Io(error)) => super::finished(Err(error), &args.directory),
        Err(broken @ QueryError::Broken { .. }) => report(&broken, exit::FINDING),
    }
}

fn print(args: &Args, filter: &Filter, keys: &VerifierKeys) -> Result<(), QueryError> {
    let look = if args.scan { Look::Everywhere } else { Look::Indexed };
    let (mut left, mut from) = (args.limit.unwrap_or(usize::MAX), Some(args.from));
    let (mut any, mut unvouched) = (false, 0_usize);
    while let (Some(position), true) = (from, left > 0) {
        let page = search(&args.directory, keys, filter, look, position, Bounds::records(left.min(PAGE)))?;
        for found in page.found {
            any = true;
            left -= 1;
            unvouched += usize::from(!found.vouched);
            let record = Record { position: found.position, line: found.line };
            Line { record, value: found.value }.print(args.output)?;
        }
        from = page.next;
    }
    let storage = Directory::at(args.directory.clone());
    if let Some(archived) = archive::missing(&storage, filter.since)?.last() {
        eprintln!(
            "amlgate: records before position {} are archived and were not searched: `{}` beside the log says where they are",
            archived.until,
            archive::ARCHIVED
        );
    }
    match (any, unvouched) {
        (false, _) => eprintln!("amlgate: no record fits"),
        (true, 0) => {}
        (true, count) => eprintln!("amlgate: no signed head vouches for {count} of these yet"),
    }
    Ok(())
}
