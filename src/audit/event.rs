//! Events that are no request for Azure: life cycle (OCSF class 6002), configuration, policies and
//! keys (3004), sign-ins (3002), grants (3005), approvals, reads of the record, and refusals before
//! anybody was known (6003).

mod render;

use std::{net::IpAddr, sync::Arc};

use crate::{gates::break_glass::Became, policy::DecisionId};

/// What every record of [`Event::RecordsRetired`] has, and no other.
pub(super) const RETIRED: &[u8] = br#""event":"records_retired""#;
/// What every record of [`Event::RecordsArchived`] has, and no other.
pub(super) const ARCHIVED: &[u8] = br#""event":"records_archived""#;
/// What every record of [`Event::SigningKeyChanged`] has, and no other.
pub(super) const ROTATED: &[u8] = br#""event":"signing_key_changed""#;

/// Something that happened to the gate itself.
#[derive(Debug, Clone)]
pub enum Event {
    /// The gate began to serve.
    Started {
        /// SHA-256 of the configuration.
        configuration: [u8; 32],
        /// SHA-256 of the policies.
        policies: [u8; 32],
        /// Each policy file.
        files: Files,
    },
    /// The gate stopped serving; nothing is under way any more.
    Stopped,
    /// Another set of policies is in force.
    PoliciesChanged {
        /// SHA-256 of the policies.
        policies: [u8; 32],
        /// The number of the set.
        generation: u64,
        /// Each policy file.
        files: Files,
    },
    /// A change was not taken over; what was in force stays.
    ReloadRefused {
        /// `policies`, `certificates` or `configuration`.
        what: &'static str,
        /// The first problem.
        problem: String,
        /// How many there are.
        count: u64,
    },
    /// Certificates, sealing keys or the configuration were read anew and are in force.
    Reloaded {
        /// `certificates`, `keys` or `configuration`.
        what: &'static str,
        /// SHA-256 of what is in force (of keys: of their public halves).
        digest: [u8; 32],
    },
    /// A credential proves itself by another secret, certificate or identity from here on.
    CredentialChanged {
        /// Its name.
        name: String,
        /// Where its secret lies, with the version if the place has versions; nothing of it.
        place: String,
    },
    /// A sink is reached with other secrets or another trust from here on.
    ExporterChanged {
        /// Its name.
        sink: String,
        /// Where they lie, with the version if a place has versions; nothing of them.
        places: Vec<String>,
    },
    /// Heads are signed with another key from here on; both as verifier keys.
    SigningKeyChanged {
        /// The key that signed before.
        before: String,
        /// The key that signs now.
        after: String,
    },
    /// Records older or more than are to be kept are removed: everything before a position.
    RecordsRetired {
        /// The position of the first record that stays.
        before: u64,
    },
    /// A segment lies in object storage, was read back from there, and is removed here: everything
    /// before a position is.
    RecordsArchived {
        /// The position of the first record that stays.
        before: u64,
        /// The position of the segment's first record.
        first: u64,
        /// Where it is.
        url: String,
        /// SHA-256 of the packed segment.
        digest: [u8; 32],
    },
    /// The log ends here: whoever lists it need not look for more.
    LogEnded,
    /// The journal was found with an unfinished end and went on behind it.
    Recovered {
        /// Bytes of an unfinished record that were left out.
        torn_bytes: u64,
        /// Intents whose outcome is not known.
        unresolved: Vec<String>,
    },
    /// The disk failed and does no longer: nothing was recorded in between but what comes next.
    RecordResumed {
        /// Since when it failed, in milliseconds since 1970.
        since: u64,
        /// What it said first.
        why: String,
        /// Requests that were refused because they could not be recorded.
        refused: u64,
        /// Reads that went on and are in no record.
        unrecorded: u64,
    },
    /// Bytes pass untouched between a caller and a host from here on.
    TunnelOpened(Tunnel),
    /// They do no longer.
    TunnelEnded {
        /// Which.
        tunnel: Tunnel,
        /// Bytes from the caller.
        sent: u64,
        /// Bytes to the caller.
        received: u64,
        /// `completed`, or `cut` when the gate ended it.
        ending: &'static str,
        /// Why the gate ended it, if it did.
        because: Option<String>,
    },
    /// Somebody signed in to the gate itself, or tried to.
    SignedIn {
        /// Issuer and subject, if they are known.
        caller: Option<String>,
        /// The issuer that was asked.
        issuer: String,
        /// From where.
        peer: IpAddr,
        /// Why not, if not.
        refused: Option<&'static str>,
    },
    /// Somebody signed out.
    SignedOut {
        /// Issuer and subject.
        caller: String,
        /// The issuer that vouched.
        issuer: String,
    },
    /// Something became of a request for approval.
    Approval {
        /// Which request.
        id: String,
        /// The policy entry that demands it.
        entry: String,
        /// Who asked: issuer and subject.
        requester: String,
        /// In whose name, by the word of who asked.
        claimed: Option<String>,
        /// Who decided, if somebody did: issuer and subject.
        by: Option<String>,
        /// What became of it.
        verdict: Verdict,
        /// The words that were given for it.
        reason: Option<String>,
    },
    /// Something became of a grant.
    Grant {
        /// Which grant.
        id: String,
        /// The policy entry that it satisfies.
        entry: String,
        /// Who has it: issuer and subject.
        subject: String,
        /// Who gave or took it, if somebody did: issuer and subject.
        by: Option<String>,
        /// What became of it.
        change: GrantChange,
        /// Until when it holds, in milliseconds since 1970.
        until: u64,
    },
    /// Something became of a break-glass.
    BreakGlass {
        /// Which.
        id: String,
        /// Who opened it, or asked to: issuer and subject.
        opener: String,
        /// Who did it, if somebody did: issuer and subject.
        by: Option<String>,
        /// What became of it.
        became: Became,
        /// The words that were given for it: the reason, or what a review found.
        reason: Option<String>,
        /// Until when it is open, or its review is due, in milliseconds since 1970.
        until: u64,
    },
    /// Somebody wanted to break the glass, and may not.
    BreakGlassRefused {
        /// Who: issuer and subject.
        caller: String,
        /// From where.
        peer: IpAddr,
        /// Why not.
        why: &'static str,
    },
    /// Somebody made codes that break the glass without the identity provider.
    BreakGlassCodes {
        /// Whose they are: issuer and subject.
        holder: String,
        /// From where.
        peer: IpAddr,
        /// How many.
        count: u64,
        /// Until when they count, in milliseconds since 1970.
        until: u64,
    },
    /// Somebody came with such a code.
    BreakGlassCode {
        /// Whose it is, if it was accepted: issuer and subject.
        holder: Option<String>,
        /// From where.
        peer: IpAddr,
        /// The break-glass that it was spent on, if it was accepted.
        glass: Option<String>,
        /// Why it did nothing, in a word, or nothing.
        why: Option<&'static str>,
    },
    /// An exporter cannot deliver, or can again.
    Exporter {
        /// Its name.
        sink: String,
        /// What is wrong; nothing if it delivers again.
        problem: Option<String>,
        /// How many records it is behind.
        behind: u64,
    },
    /// Somebody read the record through the gate.
    RecordRead {
        /// Who: issuer and subject.
        caller: String,
        /// From where.
        peer: IpAddr,
        /// The decision that let it.
        decision: DecisionId,
        /// What was asked for; nothing that may be a secret.
        query: String,
        /// How many records were given.
        records: u64,
    },
    /// Somebody read a recorded body through the gate.
    BodyRead {
        /// Who: issuer and subject.
        caller: String,
        /// From where.
        peer: IpAddr,
        /// The decision that let it.
        decision: DecisionId,
        /// The digest by which it was asked for.
        blob: String,
        /// The decision on the request whose body it is.
        of: String,
        /// `request` or `response`.
        side: &'static str,
    },
    /// A model was let in because its code was reviewed, and the gate states so, or could not.
    Stated {
        /// The model: `azureml://...`.
        model: String,
        /// The decision that let it in.
        decision: String,
        /// Who registered it: issuer and subject.
        caller: String,
        /// What was signed, or why nothing was.
        stated: Result<Signed, String>,
    },
    /// Azure tells of a model that was registered, and the gate stated nothing of it: it came in by another
    /// door.
    UnstatedModel {
        /// The model: `azureml://...`.
        model: String,
        /// Where it was told, by the name in the configuration.
        hook: String,
        /// When it was registered, by Azure's word, in milliseconds since 1970.
        registered: u64,
        /// Whether Azure shows it to the gate; else Azure does not answer.
        seen: bool,
    },
    /// Something became of what a trigger starts by a merged change.
    Trigger {
        /// Which run of it.
        run: String,
        /// The trigger's name.
        trigger: String,
        /// The code host, by its name in the configuration.
        server: String,
        /// The project.
        project: String,
        /// The change's number.
        change: u64,
        /// The commit that was merged.
        commit: String,
        /// For whom it acts: issuer and subject, if that is anybody.
        person: Option<String>,
        /// What became of it.
        became: RunBecame,
        /// What it puts at Resource Manager, as far as that is known.
        resource: Option<String>,
        /// The decision on it, if there was one.
        decision: Option<String>,
        /// Why, or how it ended.
        why: Option<String>,
    },
    /// Requests were refused before anybody was known.
    Refused {
        /// From where.
        peer: IpAddr,
        /// Why.
        reason: &'static str,
        /// How often since the last such record.
        count: u64,
    },
}

/// The files of a set of policies: each name with the SHA-256 of its content.
pub type Files = Arc<[(Arc<str>, [u8; 32])]>;

/// What was signed of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// SHA-256 of the envelope with the provenance.
    pub provenance: [u8; 32],
    /// SHA-256 of the envelope with the verification summary.
    pub summary: [u8; 32],
    /// What they know the model by: `algorithm:value`.
    pub digest: String,
    /// The id of the key.
    pub key: String,
}

/// What becomes of a request for approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Somebody waits for it.
    Asked,
    /// Somebody said yes, and others must, too.
    Voted,
    /// Enough people said yes.
    Approved,
    /// Somebody said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// Whoever asked took it back.
    Withdrawn,
}

/// What becomes of what a trigger starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunBecame {
    /// People are asked first.
    Waits,
    /// It was started, or is registered.
    Started,
    /// It is not started.
    Refused,
    /// It has ended.
    Ended,
}

impl RunBecame {
    /// The event's name in the record.
    #[must_use]
    pub const fn event(self) -> &'static str {
        match self {
            Self::Waits => "trigger_waits",
            Self::Started => "trigger_started",
            Self::Refused => "trigger_refused",
            Self::Ended => "trigger_ended",
        }
    }
}

/// What becomes of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantChange {
    /// It holds from here on.
    Given,
    /// A request used it.
    Used,
    /// Somebody took it back.
    Revoked,
    /// Its time is over.
    Expired,
}

/// A tunnel through which bytes pass untouched.
#[derive(Debug, Clone)]
pub struct Tunnel {
    /// Tells it from every other: the opening and the end have the same.
    pub id: uuid::Uuid,
    /// For whom: issuer and subject.
    pub caller: String,
    /// The caller's address.
    pub peer: IpAddr,
    /// Where to.
    pub host: String,
    /// The port there.
    pub port: u16,
}
