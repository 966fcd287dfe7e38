//! Whether statements can be signed.

use super::{Finding, causes};
use crate::{
    config::Settings,
    server::{secrets::Secrets, statements},
};

/// What is to be said of the key of statements; nothing if the gate makes none.
pub(super) async fn finding(settings: &Settings, secrets: &mut Secrets) -> Option<Finding> {
    let keys = match statements::keys(settings, secrets).await {
        Ok(keys) => keys?,
        Err(error) => {
            let mend = "`amlgate certs init` makes a key; `evidence.previous` names PEM files of public keys";
            return Some(Finding::broken("statements", causes(&error), mend));
        }
    };
    let [signing, before @ ..] = keys.trusted() else { return None };
    let id = signing.id();
    Some(Finding::fine(
        "statements",
        format!("signed by key {id}; those of {} keys before it are believed, too", before.len()),
    ))
}
