//! The resource types that the sandbox keeps, and how each is written.

use crate::sandbox::azure::operations::Family;

/// How a write or delete of a type is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// At once: 200 or 201, and 200 or 204.
    Direct,
    /// By a long-running operation.
    Long(Family),
}

/// A resource type below `Microsoft.MachineLearningServices`.
#[derive(Debug)]
pub struct Kind {
    /// The type, lower case.
    pub path: &'static str,
    /// The type as Azure spells it.
    pub canonical: &'static str,
    /// How `PUT` and `PATCH` are answered.
    pub write: Flow,
    /// How `DELETE` is answered.
    pub delete: Flow,
    /// The verbs of `POST`, lower case, with the spelling of their action.
    pub verbs: &'static [(&'static str, &'static str)],
}

const MFE: Flow = Flow::Long(Family::Mfe);
const COMPUTE: Flow = Flow::Long(Family::Compute);
const WORKSPACE: Flow = Flow::Long(Family::Workspace);

const fn direct(path: &'static str, canonical: &'static str) -> Kind {
    Kind { path, canonical, write: Flow::Direct, delete: Flow::Direct, verbs: &[] }
}

/// Every type.
pub const KINDS: &[Kind] = &[
    Kind {
        path: "workspaces",
        canonical: "workspaces",
        write: WORKSPACE,
        delete: WORKSPACE,
        verbs: &[
            ("listkeys", "listKeys/action"),
            ("resynckeys", "resyncKeys/action"),
            ("listnotebookkeys", "listNotebookKeys/read"),
            ("listnotebookaccesstoken", "listNotebookAccessToken/read"),
            ("liststorageaccountkeys", "listStorageAccountKeys/action"),
            ("diagnose", "diagnose/read"),
        ],
    },
    Kind {
        path: "workspaces/jobs",
        canonical: "workspaces/jobs",
        write: Flow::Direct,
        delete: MFE,
        verbs: &[("cancel", "cancel/action")],
    },
    direct("workspaces/models", "workspaces/models"),
    Kind {
        verbs: &[("startpendingupload", "startPendingUpload/action")],
        ..direct("workspaces/models/versions", "workspaces/models/versions")
    },
    direct("workspaces/environments", "workspaces/environments"),
    direct("workspaces/environments/versions", "workspaces/environments/versions"),
    direct("workspaces/components", "workspaces/components"),
    direct("workspaces/components/versions", "workspaces/components/versions"),
    direct("workspaces/data", "workspaces/data"),
    Kind {
        verbs: &[("startpendingupload", "startPendingUpload/action")],
        ..direct("workspaces/data/versions", "workspaces/data/versions")
    },
    direct("workspaces/codes", "workspaces/codes"),
    Kind {
        verbs: &[("startpendingupload", "startPendingUpload/action")],
        ..direct("workspaces/codes/versions", "workspaces/codes/versions")
    },
    Kind {
        verbs: &[("listsecrets", "listSecrets/action")],
        ..direct("workspaces/datastores", "workspaces/datastores")
    },
    Kind {
        verbs: &[("listsecrets", "listsecrets/action")],
        ..direct("workspaces/connections", "workspaces/connections")
    },
    Kind {
        path: "workspaces/computes",
        canonical: "workspaces/computes",
        write: COMPUTE,
        delete: COMPUTE,
        verbs: &[
            ("start", "start/action"),
            ("stop", "stop/action"),
            ("restart", "restart/action"),
            ("listkeys", "listKeys/action"),
            ("listnodes", "listNodes/action"),
        ],
    },
    Kind {
        path: "workspaces/onlineendpoints",
        canonical: "workspaces/onlineEndpoints",
        write: MFE,
        delete: MFE,
        verbs: &[
            ("listkeys", "listKeys/action"),
            ("token", "token/action"),
            ("regeneratekeys", "regenerateKeys/action"),
        ],
    },
    Kind {
        path: "workspaces/onlineendpoints/deployments",
        canonical: "workspaces/onlineEndpoints/deployments",
        write: MFE,
        delete: MFE,
        verbs: &[("getlogs", "getLogs/action")],
    },
    Kind {
        path: "workspaces/batchendpoints",
        canonical: "workspaces/batchEndpoints",
        write: MFE,
        delete: MFE,
        verbs: &[("listkeys", "listKeys/action")],
    },
    Kind {
        path: "workspaces/batchendpoints/deployments",
        canonical: "workspaces/batchEndpoints/deployments",
        write: MFE,
        delete: MFE,
        verbs: &[],
    },
    Kind { write: MFE, delete: MFE, ..direct("workspaces/schedules", "workspaces/schedules") },
    direct("workspaces/outboundrules", "workspaces/outboundRules"),
    direct("workspaces/privateendpointconnections", "workspaces/privateEndpointConnections"),
];

impl Kind {
    /// The type of that lower-case path.
    pub fn find(path: &str) -> Option<&'static Self> {
        KINDS.iter().find(|k| k.path == path)
    }

    /// The spelling that a verb's action has.
    pub fn verb(&self, verb: &str) -> Option<&'static str> {
        self.verbs.iter().find(|(v, _)| v.eq_ignore_ascii_case(verb)).map(|(_, action)| *action)
    }

    /// Whether it is a version of an asset.
    pub fn is_version(&self) -> bool {
        self.path.ends_with("/versions")
    }
}
