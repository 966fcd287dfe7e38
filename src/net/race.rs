//! Connecting to the first of several addresses that answers.

use std::{future::poll_fn, io, net::SocketAddr, pin::Pin, task::Poll, time::Duration};

use tokio::time::{Instant, sleep_until};

/// How long an address is alone before the next one is tried beside it (RFC 8305, section 5).
pub(super) const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the addresses in their order, each a head start behind the one before it or at once
/// after a failure; the first connection wins and the others are given up.
///
/// # Errors
/// The last failure, if none answers.
pub(super) async fn race<T, F: Future<Output = io::Result<T>>>(
    candidates: Vec<SocketAddr>,
    head_start: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut candidates = candidates.into_iter();
    let mut attempts: Vec<Pin<Box<F>>> = Vec::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        attempts.extend(candidates.next().map(|address| Box::pin(connect(address))));
        if attempts.is_empty() {
            return Err(last);
        }
        let deadline = Instant::now() + head_start;
        tokio::select! {
            biased;
            done = first_of(&mut attempts) => match done {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            },
            () = sleep_until(deadline), if candidates.len() > 0 => {}
        }
    }
}

/// The first attempt that ends; it is taken out.
async fn first_of<T, F: Future<Output = T>>(attempts: &mut Vec<Pin<Box<F>>>) -> T {
    poll_fn(|context| {
        let ended =
            attempts.iter_mut().enumerate().find_map(|(at, attempt)| match attempt.as_mut().poll(context) {
                Poll::Ready(done) => Some((at, done)),
                Poll::Pending => None,
            });
        match ended {
            Some((at, done)) => {
                drop(attempts.swap_remove(at));
                Poll::Ready(done)
            }
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (0..count).map(|n| SocketAddr::from(([20, 0, 0, n], 443))).collect()
    }

    #[tokio::test]
    async fn an_address_that_never_answers_costs_its_head_start_only() {
        let connect = |to: SocketAddr| async move {
            if to == addresses(1)[0] { pending::<io::Result<SocketAddr>>().await } else { Ok(to) }
        };
        let won = race(addresses(2), Duration::from_millis(1), connect).await.unwrap();
        assert_eq!(won, addresses(2)[1]);
    }

    #[tokio::test]
    async fn after_a_refusal_the_next_address_is_tried_at_once() {
        let connect = |to: SocketAddr| {
            ready(if to == addresses(3)[2] { Ok(to) } else { Err(io::ErrorKind::ConnectionRefused.into()) })
        };
        // Two head starts of a day: the test would not end if a refusal waited for them.
        let won = race(addresses(3), Duration::from_secs(86_400), connect).await.unwrap();
        assert_eq!(won, addresses(3)[2]);
    }

    #[tokio::test]
    async fn when_none_answers_the_last_failure_is_told() {
        let connect = |_| ready(Err::<(), _>(io::ErrorKind::ConnectionRefused.into()));
        let error = race(addresses(2), HEAD_START, connect).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = race(Vec::new(), HEAD_START, connect).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
