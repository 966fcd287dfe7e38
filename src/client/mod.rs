//! The caller's own side: signing in to a gate, keeping the tokens, and a relay on the user's own
//! loopback that adds them, so that notebooks and tools need to hold none.
//!
//! Nothing here decides anything: what this side says of a person the gate verifies like everything
//! else. It imports no room that judges.

mod api;
mod environment;
mod gate;
mod keyring;
mod possession;
mod relay;
mod sessions;
mod sign_in;
mod tools;

pub use api::{AskError, Call, ask, ask_bytes};
pub use environment::{Environment, Files, Shell};
pub use gate::{ForwardDoor, GateDescription, GateError, Issuer, describe};
pub use keyring::{Keyring, KeyringError};
pub use possession::{ALGORITHM, Key, KeyError, Shown};
pub use relay::{Relay, RelayError, Source};
pub use sessions::{Kept, Session, SessionError, Sessions, Tokens, Unopened, write_private};
pub use sign_in::{At, SignIn, SignInError};
pub use tools::Tool;
