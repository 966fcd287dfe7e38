//! Credentials against a token endpoint that obeys the test, and against the simulated Azure, which
//! judges what it is sent.

mod azure;
mod cache;
mod person;
mod requests;
