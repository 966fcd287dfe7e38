//! The way to the writer's thread: what somebody waits for wakes it, what nobody waits for gathers.
//!
//! A plain read's record needs no sync of its own. If each woke the writer, a busy gate would spend
//! more on wake-ups and syncs than on requests; so they lie here for at most [`GATHER`], or until a
//! record comes that somebody waits for. That one never waits for a timer.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::writer::Message;

/// How long a record that nobody waits for may lie before it is written.
const GATHER: Duration = Duration::from_millis(10);

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    /// Whether one of them is waited for.
    urgent: bool,
    /// Whether nobody is left who could send anything.
    closed: bool,
    /// Whether the writer has ended.
    gone: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where messages are put. There is one; the inbox closes when it goes.
pub(super) struct Outbox(Arc<Shared>);

/// Where the writer takes them from.
pub(super) struct Inbox(Arc<Shared>);

/// The writer has ended; the message is lost.
#[derive(Debug)]
pub(super) struct Gone;

/// Both ends.
pub(super) fn pair() -> (Outbox, Inbox) {
    let shared = Arc::new(Shared::default());
    (Outbox(Arc::clone(&shared)), Inbox(shared))
}

impl Outbox {
    /// Puts a message; never blocks but for the moment that another takes.
    pub fn send(&self, message: Message) -> Result<(), Gone> {
        let mut state = self.0.lock();
        if state.gone {
            return Err(Gone);
        }
        let urgent = message.is_waited_for();
        let wakes = state.messages.is_empty() || (urgent && !state.urgent);
        state.urgent |= urgent;
        state.messages.push_back(message);
        drop(state);
        if wakes {
            self.0.changed.notify_one();
        }
        Ok(())
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}

impl Inbox {
    /// All that has come, in its order, once one of it is waited for or has lain long enough; `None`
    /// when nothing can come any more.
    pub fn next(&self) -> Option<VecDeque<Message>> {
        let mut state = self.0.lock();
        let mut since: Option<Instant> = None;
        loop {
            let lain = since.map(|since| since.elapsed());
            if state.urgent || state.closed || lain.is_some_and(|lain| lain >= GATHER) {
                if state.messages.is_empty() && state.closed {
                    return None;
                }
                state.urgent = false;
                return Some(std::mem::take(&mut state.messages));
            }
            let changed = &self.0.changed;
            state = if state.messages.is_empty() {
                changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                since.get_or_insert_with(Instant::now);
                let left = GATHER.saturating_sub(lain.unwrap_or_default());
                changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.gone = true;
        // Who waits for one of them learns that it is not written.
        let lost = std::mem::take(&mut state.messages);
        drop(state);
        drop(lost);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::audit::writer::Entry;

    fn quiet(n: u8) -> Message {
        Message::Append(Entry { line: vec![n], blobs: Vec::new(), slot: None, durable: None, weight: None })
    }

    fn lines(batch: VecDeque<Message>) -> Vec<u8> {
        batch
            .into_iter()
            .filter_map(|m| match m {
                Message::Append(entry) => entry.line.first().copied(),
                Message::Head | Message::Stop(_) => None,
            })
            .collect()
    }

    #[test]
    fn what_nobody_waits_for_is_taken_all_the_same_and_in_its_order() {
        let (outbox, inbox) = pair();
        let taking = thread::spawn(move || {
            let mut all = Vec::new();
            while let Some(batch) = inbox.next() {
                all.extend(lines(batch));
            }
            all
        });
        for n in 0..100 {
            outbox.send(quiet(n)).unwrap();
        }
        drop(outbox);
        assert_eq!(taking.join().unwrap(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_waited_for_takes_everything_before_it_along_at_once() {
        let (outbox, inbox) = pair();
        outbox.send(quiet(1)).unwrap();
        let (durable, _waiting) = tokio::sync::oneshot::channel();
        outbox
            .send(Message::Append(Entry {
                line: vec![2],
                blobs: Vec::new(),
                slot: None,
                durable: Some(durable),
                weight: None,
            }))
            .unwrap();
        assert_eq!(lines(inbox.next().unwrap()), [1, 2]);
        outbox.send(Message::Head).unwrap();
        assert_eq!(inbox.next().unwrap().len(), 1);
    }

    #[test]
    fn nothing_can_be_sent_to_a_writer_that_has_ended_and_who_waits_is_told() {
        let (outbox, inbox) = pair();
        let (durable, mut waiting) = tokio::sync::oneshot::channel();
        outbox
            .send(Message::Append(Entry {
                line: vec![1],
                blobs: Vec::new(),
                slot: None,
                durable: Some(durable),
                weight: None,
            }))
            .unwrap();
        drop(inbox);
        assert!(waiting.try_recv().is_err());
        assert!(outbox.send(quiet(2)).is_err());
    }
}
