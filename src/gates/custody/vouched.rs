//! Whether a model has a statement that holds: asked where an entry wants one of what is deployed. Who made
//! statements, and by which keys they are checked, is not for the gates to know.

use std::{fmt, pin::Pin, sync::Arc};

use super::{Broken, CommitOf, Custody};
use crate::azureml::ResourceId;

/// Whether a version of a model has a statement that names the commit and the job which the walk found.
///
/// # Errors
/// [`Broken::Chain`] if it has none, [`Broken::Unread`] if that cannot be looked up now.
pub type Vouching = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send>>;

/// Looks for statements and checks them.
pub struct Voucher(Box<dyn Fn(ResourceId, CommitOf) -> Vouching + Send + Sync>);

impl Voucher {
    /// One that looks by a function.
    pub fn new(look: impl Fn(ResourceId, CommitOf) -> Vouching + Send + Sync + 'static) -> Self {
        Self(Box::new(look))
    }
}

impl fmt::Debug for Voucher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Voucher")
    }
}

impl Custody {
    /// By whom statements are looked for from here on.
    pub fn vouched_by(&self, voucher: Option<Voucher>) {
        self.voucher.store(voucher.map(Arc::new));
    }

    /// That what begins to serve has a statement that holds.
    ///
    /// # Errors
    /// [`Broken`] if it has none, or nobody could say so.
    pub(in crate::gates) async fn vouched(&self, commit: &CommitOf) -> Result<(), Broken> {
        let is_version = |id: &&ResourceId| id.after("models").is_some() && id.after("versions").is_some();
        let model = commit.through.iter().find(is_version).ok_or_else(|| {
            Broken::Chain("it serves what a job wrote, and no version of a model that was stated".to_owned())
        })?;
        let voucher = self.voucher.load_full().ok_or_else(|| {
            Broken::Chain("this gate checks no statements: its configuration has no `evidence`".to_owned())
        })?;
        (voucher.0)(model.clone(), commit.clone()).await
    }
}
