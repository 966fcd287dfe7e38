//! `GET /api/v1/audit/DECISION/proof`: proofs that stand alone, of every record of a decision.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{
    super::{
        call::Named,
        openapi::{Answer, Operation, Parameter, Shape},
    },
    ACTION, Api, LogRead, NOT_WHOLE, Peer, Refused, Said,
};
use crate::{
    audit::{
        prover::{Prover, ProverError},
        query::{Filter, Found},
        read::Record,
    },
    azureml::Kind,
};

/// The most records of one decision: an intent, an outcome, and what a stream adds.
const RECORDS: usize = 64;

pub(in crate::admin::api) const DESCRIBED: Operation = Operation {
    about: "A proof is a C2SP tlog-proof: the record, its path to a signed head, and that head. `audit prove` \
            prints the same. 503 says that no signed head counts the record yet.",
    parameters: &[Parameter::path("decision", "As in `x-amlgate-decision`.", Shape::Id)],
    problems: &[(StatusCode::NOT_FOUND, "The log holds no record of this decision."), NOT_WHOLE],
    ..Operation::judged(
        "proveRecord",
        "Proofs that stand alone, of every record of a decision",
        &[ACTION],
        &[Answer::of(StatusCode::OK, "The proofs, one behind the other.", "text/plain")],
    )
};

pub(in crate::admin::api) async fn proof(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Named(decision): Named,
    request: Request,
) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let (allowed, principal) = api.entered(&head, peer, ACTION, Kind::Read).await?;
    let Ok(decision) = Uuid::parse_str(&decision) else {
        return Ok(allowed.refuse(Refused::malformed("a decision's id stands in `x-amlgate-decision`")));
    };
    let proofs = match api.log.proofs(decision).await {
        Ok(proofs) => proofs,
        Err(refused) => return Ok(allowed.refuse(refused)),
    };
    let query = format!("proof decision={decision}");
    if let Err(refused) = api.told_read(&allowed, &principal, peer, query, proofs.len()).await {
        return Ok(allowed.refuse(refused));
    }
    let name = format!("attachment; filename=\"{decision}.tlog-proof\"");
    let head = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CONTENT_DISPOSITION, &name),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok(allowed.shown((StatusCode::OK, head, proofs.concat()).into_response()))
}

impl LogRead {
    /// The records of a decision, in the log's order.
    pub(in crate::admin) async fn of_decision(&self, decision: Uuid) -> Result<Vec<Found>, Refused> {
        let filter = Filter { decision: Some(decision), ..Filter::default() };
        let (mut found, mut from) = (Vec::new(), 0);
        loop {
            let page = self.search(&filter, from, RECORDS).await?;
            found.extend(page.found);
            match page.next {
                Some(next) if found.len() < RECORDS => from = next,
                Some(_) | None => return Ok(found),
            }
        }
    }

    /// A proof of each record of a decision.
    async fn proofs(&self, decision: Uuid) -> Result<Vec<String>, Refused> {
        let found = self.of_decision(decision).await?;
        if found.is_empty() {
            let why = "the log holds no record of this decision";
            return Err(Refused::new(StatusCode::NOT_FOUND, Said::NotFound, why));
        }
        let place = self.place().await?;
        let directory = self.directory.clone();
        let proven = spawn_blocking(move || -> Result<Vec<String>, ProverError> {
            let _place = place;
            let prover = Prover::of(&directory)?;
            let records = found.into_iter().map(|one| Record { position: one.position, line: one.line });
            records.map(|record| Ok(prover.inclusion(record)?.to_string())).collect()
        });
        proven.await.map_err(|_| Refused::unavailable("the proof failed"))?.map_err(|error| match error {
            ProverError::NotYet(_) | ProverError::NoHead => {
                let why = "no signed head counts it yet: ask again in some seconds";
                Refused { retry_after: Some(10), ..Refused::unavailable(why) }
            }
            ProverError::File { .. } | ProverError::Log(_) => Refused::unavailable(error.to_string()),
            ProverError::Note(_)
            | ProverError::Beheaded
            | ProverError::Beyond { .. }
            | ProverError::Broken(_) => {
                Refused::new(StatusCode::INTERNAL_SERVER_ERROR, Said::NotWhole, error.to_string())
            }
        })
    }
}
