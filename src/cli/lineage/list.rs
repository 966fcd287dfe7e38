//! `lineage list`: what was stated of models; before an instant, what can be rolled back to.

use std::process::ExitCode;

use http::Method;
use serde::Deserialize;

use super::{
    super::{Output, exit, print_data, put, request::At},
    flat,
    source::Line,
};

/// The most pages that are read.
const MOST_PAGES: usize = 50;

/// `lineage list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only of this model: its id (`azureml://...`) with or without a version, or `M` or `M:V` with
    /// --workspace or --registry.
    model: Option<String>,
    /// Only of models in the workspace of this name.
    #[arg(long, value_name = "NAME", conflicts_with = "registry")]
    workspace: Option<String>,
    /// Only of models in the registry of this name.
    #[arg(long, value_name = "NAME")]
    registry: Option<String>,
    /// Only statements that hold under the keys of the gate.
    #[arg(long)]
    verified: bool,
    /// Only what was stated before: `2026-11-30T09:00:00Z`.
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Deserialize)]
struct Page {
    statements: Vec<Line>,
    next: Option<String>,
}

/// Runs the verb.
pub fn run(args: &Args) -> ExitCode {
    let lines = match all(args) {
        Ok(lines) => lines,
        Err(code) => return code,
    };
    if args.at.output != Output::Table {
        print_data(&lines, args.at.output);
        return exit::DONE;
    }
    if lines.is_empty() {
        eprintln!("amlgate: nothing of the kind was stated");
    }
    for line in &lines {
        put(format_args!("{}", row(line)));
    }
    exit::DONE
}

fn query(args: &Args, cursor: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in [
        ("model", args.model.as_deref()),
        ("workspace", args.workspace.as_deref()),
        ("registry", args.registry.as_deref()),
        ("before", args.before.as_deref()),
        ("verified", args.verified.then_some("true")),
        ("cursor", cursor),
    ] {
        if let Some(value) = value {
            query.append_pair(key, value);
        }
    }
    query.finish()
}

fn all(args: &Args) -> Result<Vec<Line>, ExitCode> {
    let gate = args.at.gate()?;
    let (mut lines, mut cursor): (_, Option<String>) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let path = format!("/api/v1/lineage?{}", query(args, cursor.as_deref()));
        let page: Page = gate.call(&Method::GET, &path, None)?;
        lines.extend(page.statements);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(lines);
        }
    }
    eprintln!("amlgate: there are more: a model or --before leaves some out");
    Ok(lines)
}

/// When, which model, and by which commit and change, or why it does not count.
fn row(line: &Line) -> String {
    let short = |text: &str| text.chars().take(12).collect::<String>();
    let what = match (&line.commit, line.verified) {
        (Some(commit), true) => {
            format!("verified  {}  {}", short(commit), line.change.as_deref().unwrap_or("-"))
        }
        (None, true) => "verified".to_owned(),
        (_, false) => format!("refused   {}", line.problem.as_deref().unwrap_or("-")),
    };
    flat(&format!("{}  {:<24} {what}  {}", line.made, line.name, line.model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn everything_that_is_asked_stands_in_the_query() {
        let Command { args } = clap::Parser::try_parse_from([
            "list",
            "churn",
            "--workspace",
            "w",
            "--verified",
            "--before",
            "2026-11-30T09:00:00+01:00",
        ])
        .unwrap();
        assert_eq!(
            query(&args, Some("5.ab")),
            "model=churn&workspace=w&before=2026-11-30T09%3A00%3A00%2B01%3A00&verified=true&cursor=5.ab"
        );
    }
}
