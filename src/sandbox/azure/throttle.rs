//! Resource Manager's token buckets: each principal may so much at once, and so much a second.

use std::collections::HashMap;

use http::{HeaderValue, Method, StatusCode};

use super::call::Refusal;
use crate::time::Timestamp;

/// The size of a bucket, and how fast it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Requests at once.
    pub burst: u32,
    /// Requests a second.
    pub per_second: u32,
}

impl Bucket {
    /// What Azure gives a principal for reads in one subscription.
    pub const READS: Self = Self { burst: 250, per_second: 25 };
    /// What it gives for writes, and for deletes.
    pub const WRITES: Self = Self { burst: 200, per_second: 10 };
}

/// Which bucket a request draws on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// `GET` and `HEAD`.
    Reads,
    /// `DELETE`.
    Deletes,
    /// Everything else.
    Writes,
}

impl Class {
    /// Of a method.
    pub fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::Reads,
            Method::DELETE => Self::Deletes,
            _ => Self::Writes,
        }
    }

    const fn header(self) -> &'static str {
        match self {
            Self::Reads => "x-ms-ratelimit-remaining-subscription-reads",
            Self::Deletes => "x-ms-ratelimit-remaining-subscription-deletes",
            Self::Writes => "x-ms-ratelimit-remaining-subscription-writes",
        }
    }
}

/// The level of every bucket, in thousandths of a request.
#[derive(Debug, Default)]
pub struct Levels(HashMap<(String, Class), (u64, Timestamp)>);

impl Levels {
    /// Draws one request; gives the header that says what remains.
    ///
    /// # Errors
    /// 429 with the seconds after which there is one again.
    pub fn draw(
        &mut self,
        bucket: Bucket,
        principal: &str,
        class: Class,
        now: Timestamp,
    ) -> Result<(&'static str, HeaderValue), Refusal> {
        let full = u64::from(bucket.burst) * 1_000;
        let (level, at) = self.0.entry((principal.to_owned(), class)).or_insert((full, now));
        let elapsed = u64::try_from(now.since(*at).as_millis()).unwrap_or(u64::MAX);
        *level = level.saturating_add(elapsed.saturating_mul(bucket.per_second.into())).min(full);
        *at = now;
        match level.checked_sub(1_000) {
            Some(rest) => {
                *level = rest;
                Ok((class.header(), HeaderValue::from(rest / 1_000)))
            }
            None => {
                let missing = 1_000 - *level;
                let seconds = missing.div_ceil(u64::from(bucket.per_second.max(1)) * 1_000).max(1);
                Err(Refusal {
                    retry_after: Some(seconds),
                    ..Refusal::new(
                        StatusCode::TOO_MANY_REQUESTS,
                        "SubscriptionRequestsThrottled",
                        "Number of requests for the subscription exceeded the limit. Please try again after the time in Retry-After.",
                    )
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_runs_dry_and_fills_with_time_for_each_principal_and_kind() {
        let (bucket, start) = (Bucket { burst: 2, per_second: 1 }, Timestamp::from_secs(100));
        let mut levels = Levels::default();
        let mut draw = |who: &str, class, now| levels.draw(bucket, who, class, now).map(|(_, left)| left);
        assert_eq!(draw("a", Class::Reads, start).unwrap(), "1");
        assert_eq!(draw("a", Class::Reads, start).unwrap(), "0");
        assert_eq!(draw("a", Class::Reads, start).unwrap_err().retry_after, Some(1));
        assert!(draw("a", Class::Writes, start).is_ok());
        assert!(draw("b", Class::Reads, start).is_ok());
        assert!(draw("a", Class::Reads, start.plus(Duration::from_secs(1))).is_ok());
    }
}
