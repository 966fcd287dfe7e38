//! Who lives in the sandbox.

/// A person or machine of the sandbox, known to the development issuer and to the simulated Entra.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// The name used on the command line and in the login page.
    pub name: &'static str,
    /// What people call her.
    pub display: &'static str,
    /// The subject at the development issuer.
    pub subject: &'static str,
    /// The object id in the simulated Entra.
    pub object_id: &'static str,
    /// Groups at the development issuer, by name.
    pub groups: &'static [&'static str],
    /// The same groups' object ids in the simulated Entra.
    pub group_ids: &'static [&'static str],
    /// Whether this is a machine: client credentials, no login page.
    pub kind: PersonKind,
}

/// A human or a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonKind {
    /// Logs in with a browser or a device code.
    Human,
    /// Uses client credentials: its name is the client id, `NAME-secret` the secret.
    Machine,
}

impl Person {
    /// The one called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        PEOPLE.iter().find(|p| p.name == name)
    }

    /// The e-mail address; never an identity.
    #[must_use]
    pub fn email(&self) -> String {
        format!("{}@sandbox.example", self.name)
    }

    /// The secret of a machine's client. It is public, as is everything in the sandbox.
    #[must_use]
    pub fn client_secret(&self) -> String {
        format!("{}-secret", self.name)
    }
}

/// Everybody.
pub const PEOPLE: &[Person] = &[
    Person {
        name: "sam",
        display: "Sam, a data scientist",
        subject: "user-sam",
        object_id: "5a000000-0000-4000-8000-000000000001",
        groups: &["data-science"],
        group_ids: &["6f9619ff-8b86-4011-b42d-00cf4fc964f1"],
        kind: PersonKind::Human,
    },
    Person {
        name: "rita",
        display: "Rita, a model reviewer",
        subject: "user-rita",
        object_id: "5a000000-0000-4000-8000-000000000002",
        groups: &["model-review"],
        group_ids: &["6f9619ff-8b86-4011-b42d-00cf4fc964f2"],
        kind: PersonKind::Human,
    },
    Person {
        name: "pat",
        display: "Pat, a platform administrator",
        subject: "user-pat",
        object_id: "5a000000-0000-4000-8000-000000000003",
        groups: &["platform"],
        group_ids: &["6f9619ff-8b86-4011-b42d-00cf4fc964f3"],
        kind: PersonKind::Human,
    },
    Person {
        name: "alex",
        display: "Alex, an auditor",
        subject: "user-alex",
        object_id: "5a000000-0000-4000-8000-000000000004",
        groups: &["audit"],
        group_ids: &["6f9619ff-8b86-4011-b42d-00cf4fc964f4"],
        kind: PersonKind::Human,
    },
    Person {
        name: "ci",
        display: "the CI job of repository contoso/vision",
        subject: "repo:contoso/vision:ref:refs/heads/main",
        object_id: "5a000000-0000-4000-8000-000000000005",
        groups: &[],
        group_ids: &[],
        kind: PersonKind::Machine,
    },
];
