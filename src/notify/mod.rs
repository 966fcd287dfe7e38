//! Messages where people are: who asks for what, on which resource, why, and what became of it.
//!
//! A channel is one more follower of the record, with an exporter's cursor: nothing is told that is
//! not recorded, a restart loses nothing, and no request waits for it. What a message says beyond the
//! record is looked up when it is sent, so that one that comes late says what has become of the
//! matter since. Messages are pure functions of a [`Notice`], each with its golden file. They hold a
//! link to the console and no token: nobody approves anything by following a link.

mod channel;
mod data;
mod events;
mod notice;
mod plain;
mod slack;
mod teams;
#[cfg(test)]
mod tests;

pub use channel::{Channel, Messenger};
pub use events::{About, EVENTS, Filter, Heard, Told};
pub use notice::{Found, Link, Notice, Row};
pub use slack::slack;
pub use teams::teams;
