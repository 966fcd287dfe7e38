//! Facts as in-toto statements: canonical JSON (RFC 8785), so that the same facts are the same bytes.

use super::custody::{Asset, Basis, Custody, CustodyError, Dependency};
use crate::audit::canonical::Line;

/// The type of what a DSSE envelope holds.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// `_type` of a statement.
pub(super) const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// How the model was made: a job of Azure ML's that ran code of one commit. `externalParameters` are
/// the job and the source that it ran; `internalParameters` are what the gate judged and decided by.
pub(super) const BUILD_TYPE: &str = "urn:amlgate:azureml-job:v1";
/// What was verified. SLSA leaves every name that does not begin with `SLSA_` to verifiers; a level of
/// SLSA's own is not claimed, because Azure ML as a builder was not judged.
pub(super) const LEVEL: &str = "AMLGATE_REVIEWED_SOURCE";
/// The policies of the gate; their digest says which.
pub(super) const POLICIES: &str = "urn:amlgate:policies";

/// Texts are as long as they are: [`Custody::check`] bounds them, and nothing signed is cut.
const WHOLE: usize = usize::MAX >> 2;

/// The statement with SLSA provenance, version 1: how the model was made. `gate` is the URI of whoever
/// states it.
///
/// # Errors
/// [`CustodyError`] if the facts cannot be stated as they are.
pub fn provenance(custody: &Custody, gate: &str) -> Result<Vec<u8>, CustodyError> {
    custody.check()?;
    let Custody { model, job, source, change, decided } = custody;
    Ok(Line::new(WHOLE).object(|l| {
        l.word("_type", STATEMENT);
        l.nested("predicate", |l| {
            l.nested("buildDefinition", |l| {
                l.word("buildType", BUILD_TYPE);
                l.nested("externalParameters", |l| {
                    l.text("branch", source.branch.as_str());
                    l.text("job", job.id.as_str());
                    l.text("project", source.project.as_str());
                    l.text("repository", source.repository.as_str());
                });
                l.nested("internalParameters", |l| {
                    l.list("approvers", &change.approvers, |l, approver| {
                        l.text("account", approver.account.as_str());
                        l.text("label", approver.label.as_deref());
                        l.text("person", approver.person.as_deref());
                        l.text("value", approver.value.map(|value| format!("{value:+}")).as_deref());
                    });
                    l.text("caller", decided.caller.as_str());
                    l.nested("change", |l| {
                        l.text("merged", change.merged.map(|at| at.to_rfc3339()).as_deref());
                        l.text("metaRevision", change.meta_revision.as_deref());
                        l.text("number", change.number.as_str());
                        l.text("owner", change.owner.as_deref());
                        l.text("url", change.url.as_str());
                    });
                    l.text("decided", decided.at.to_rfc3339().as_str());
                    l.text("decision", decided.decision.as_str());
                    l.text("entry", decided.entry.as_str());
                    l.hex("policies", &decided.policy);
                });
                let repository = format!("git+{}@refs/heads/{}", source.repository, source.branch);
                let commit = Resolved {
                    name: "commit",
                    uri: &repository,
                    digest: Some(Resolution::Commit(&source.commit)),
                    basis: source.basis,
                    label: None,
                };
                let job = |name: &'static str, one: &Option<Dependency>| {
                    one.as_ref().map(|one| (name, one.clone()))
                };
                let read: Vec<(&'static str, Dependency)> = job("code", &custody.job.code)
                    .into_iter()
                    .chain(job("environment", &custody.job.environment))
                    .chain(custody.job.data.iter().map(|one| ("data", one.clone())))
                    .collect();
                let all = std::iter::once(commit).chain(read.iter().map(|(name, one)| Resolved {
                    name,
                    uri: &one.id,
                    digest: one.content.as_ref().map(Resolution::Content),
                    basis: one.basis,
                    label: (*name == "data").then_some(&*one.name),
                }));
                l.list("resolvedDependencies", all, |l, one| one.write(l));
            });
            l.nested("runDetails", |l| {
                l.nested("builder", |l| {
                    l.text("id", gate);
                    l.nested("version", |l| l.word("amlgate", env!("CARGO_PKG_VERSION")));
                });
                let measured = (!job.metrics.is_empty()).then_some(&job.metrics);
                l.list("byproducts", measured, |l, metrics| {
                    l.nested("annotations", |l| {
                        // The job's own code logged them.
                        l.word("basis", Basis::Claimed.word());
                        l.list("metrics", metrics, |l, metric| {
                            l.text("name", metric.name.as_str());
                            l.text("value", metric.value.as_str());
                        });
                    });
                    l.word("name", "metrics");
                    l.text("uri", job.id.as_str());
                });
                l.nested("metadata", |l| {
                    l.text("finishedOn", job.finished.map(|at| at.to_rfc3339()).as_deref());
                    l.text("invocationId", job.id.as_str());
                    l.text("startedOn", job.started.map(|at| at.to_rfc3339()).as_deref());
                });
            });
        });
        l.word("predicateType", super::PROVENANCE);
        subject(l, model);
    }))
}

/// The statement with a verification summary: that the gate judged the model by its policies, by the
/// provenance in the envelope whose SHA-256 is `provenance`.
///
/// # Errors
/// [`CustodyError`], as [`provenance`].
pub fn summary(custody: &Custody, gate: &str, provenance: &[u8; 32]) -> Result<Vec<u8>, CustodyError> {
    custody.check()?;
    let Custody { model, decided, .. } = custody;
    Ok(Line::new(WHOLE).object(|l| {
        l.word("_type", STATEMENT);
        l.nested("predicate", |l| {
            l.list("inputAttestations", [provenance], |l, envelope| {
                l.nested("digest", |l| l.hex("sha256", envelope));
            });
            l.nested("policy", |l| {
                l.nested("digest", |l| l.hex("sha256", &decided.policy));
                l.word("uri", POLICIES);
            });
            l.text("resourceUri", model.id.as_str());
            l.word("slsaVersion", "1.0");
            l.text("timeVerified", decided.at.to_rfc3339().as_str());
            l.word("verificationResult", "PASSED");
            l.texts("verifiedLevels", [LEVEL]);
            l.nested("verifier", |l| l.text("id", gate));
        });
        l.word("predicateType", super::SUMMARY);
        subject(l, model);
    }))
}

/// The model, by a digest of its content or, said so, of its id.
fn subject(l: &mut Line, model: &Asset) {
    l.list("subject", [model], |l, model| {
        l.nested("annotations", |l| {
            l.word("digestOf", if model.content.is_some() { "content" } else { "id" });
        });
        l.nested("digest", |l| match &model.content {
            Some(content) => l.hex("sha256", content),
            None => l.hex("azuremlAssetId", &model.id_digest()),
        });
        l.text("name", model.id.as_str());
    });
}

/// One of `resolvedDependencies`.
struct Resolved<'c> {
    name: &'static str,
    uri: &'c str,
    digest: Option<Resolution<'c>>,
    basis: Basis,
    /// What the job calls it.
    label: Option<&'c str>,
}

enum Resolution<'c> {
    Commit(&'c str),
    Content(&'c [u8; 32]),
}

impl Resolved<'_> {
    fn write(&self, l: &mut Line) {
        l.nested("annotations", |l| {
            l.word("basis", self.basis.word());
            l.text("input", self.label);
        });
        if let Some(digest) = &self.digest {
            l.nested("digest", |l| match digest {
                Resolution::Commit(commit) => l.text("gitCommit", *commit),
                Resolution::Content(content) => l.hex("sha256", *content),
            });
        }
        l.word("name", self.name);
        l.text("uri", self.uri);
    }
}
