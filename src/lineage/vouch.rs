//! Whether what is kept of a model holds where it decides: of the commit and the job that are there now.

use super::{Keys, Statements, model::ModelId, statements::MOST};
use crate::store::{StatementRow, StoreError};

impl Statements {
    /// Whether a model has a statement, signed by a key that is believed now, that it comes from a commit
    /// by a job; else why not.
    ///
    /// # Errors
    /// [`StoreError`] if nobody can say so now.
    pub async fn vouches(
        &self,
        model: &ModelId,
        commit: &str,
        job: &str,
    ) -> Result<Result<(), String>, StoreError> {
        let kept = self.store().statements_of(model.folded(), MOST).await?;
        let keys = self.keys();
        let mut last = format!("no statement of `{model}` is kept here");
        for row in kept {
            match holds(&row, &keys, commit, job) {
                Ok(()) => return Ok(Ok(())),
                Err(why) => last = format!("the statement {} of `{model}` does not hold: {why}", row.id),
            }
        }
        Ok(Err(last))
    }
}

/// Whether a kept statement says that its model comes from the commit.
fn holds(row: &StatementRow, keys: &Keys, commit: &str, job: &str) -> Result<(), String> {
    let chain = keys.check(row).map_err(|why| why.to_string())?.chain;
    if chain.commit.id == commit && chain.job.eq_ignore_ascii_case(job) {
        return Ok(());
    }
    Err(format!("it names commit {} and job `{}`", chain.commit.id, chain.job))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::note::hex,
        lineage::{
            provenance, seal,
            statements::sha256,
            summary,
            tests::{GATE, custody, ed25519, p256},
        },
        time::Timestamp,
    };

    fn row() -> StatementRow {
        let custody = custody();
        let first = seal(&provenance(&custody, GATE).unwrap(), &ed25519()).unwrap();
        let second = summary(&custody, GATE, &sha256(&first)).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        StatementRow {
            id: hex(&sha256(&first)),
            model: custody.model.id.folded().to_owned(),
            tail: custody.model.id.tail().to_owned(),
            named: custody.model.id.to_string(),
            digest: custody.model.digest(),
            decision: custody.decided.decision.clone(),
            made: custody.decided.at.plus(std::time::Duration::from_secs(1)),
            provenance: text(first),
            summary: text(seal(&second, &ed25519()).unwrap()),
        }
    }

    #[test]
    fn a_statement_holds_for_its_commit_and_job_under_the_keys_in_force() {
        let keys = Keys::new(ed25519(), Vec::new(), GATE);
        let (commit, job) = (custody().source.commit, custody().job.id);
        assert_eq!(holds(&row(), &keys, &commit, &job), Ok(()));
        assert_eq!(holds(&row(), &keys, &commit, &job.to_uppercase()), Ok(()), "as Azure compares ids");
        assert!(holds(&row(), &keys, &"0".repeat(40), &job).unwrap_err().contains("it names commit"));
        assert!(holds(&row(), &keys, &commit, "another").unwrap_err().contains("it names commit"));
        // Another key signs now, and the one before is believed, or not.
        let stranger = Keys::new(p256(), Vec::new(), GATE);
        assert!(holds(&row(), &stranger, &commit, &job).unwrap_err().contains("no signature is of a key"));
        let after = Keys::new(p256(), vec![ed25519().public().clone()], GATE);
        assert_eq!(holds(&row(), &after, &commit, &job), Ok(()));
    }

    #[test]
    fn whoever_changes_what_is_kept_gets_nothing_deployed() {
        let keys = Keys::new(ed25519(), Vec::new(), GATE);
        let (commit, job) = (custody().source.commit, custody().job.id);
        let good = row();
        for bad in [
            StatementRow { summary: good.provenance.clone(), ..good.clone() },
            StatementRow { provenance: good.summary.clone(), ..good.clone() },
            StatementRow { provenance: String::new(), ..good.clone() },
            StatementRow { model: "azureml://registries/r/models/m/versions/1".to_owned(), ..good.clone() },
            StatementRow { made: Timestamp::from_secs(1), ..good.clone() },
        ] {
            assert!(holds(&bad, &keys, &commit, &job).is_err(), "{bad:?}");
        }
    }
}
