//! Why the last look found nothing that can be used: said once, and again when it is another reason.

use super::{StartError, checkup::causes};

/// What was said last, if anything is wrong.
#[derive(Debug, Default)]
pub(super) struct Complaint(Option<String>);

impl Complaint {
    /// What a look found to be used from here on. If it is in vain, that is said, with what stays as it
    /// was.
    pub fn heard<T>(&mut self, found: Result<Option<T>, StartError>, stays: &'static str) -> Option<T> {
        match found {
            Ok(news) => {
                self.0 = None;
                news
            }
            Err(error) => {
                let problem = causes(&error);
                if self.0.as_ref() != Some(&problem) {
                    tracing::error!(problem, "{stays}");
                    self.0 = Some(problem);
                }
                None
            }
        }
    }
}
