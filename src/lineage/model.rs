//! A version of a model, however it is spelled.

use std::fmt;

use crate::azureml::ResourceId;

/// The longest id, in bytes.
const MAX: usize = 1_024;

/// One version of a model in a workspace or registry.
///
/// Azure compares ids without case, and so do equality and [`folded`](Self::folded).
#[derive(Clone)]
pub struct ModelId {
    /// `azureml://subscriptions/S/resourceGroups/G/workspaces/W/models/M/versions/V`, or with
    /// `registries/R`, or `azureml://registries/R/models/M/versions/V`.
    text: String,
    folded: String,
    arm: Option<ResourceId>,
}

impl ModelId {
    /// From an ARM id (`/subscriptions/...`), as the SDK writes one (`azureml:/subscriptions/...`), or
    /// from an `azureml://` URI, which names no provider. `None` for what is no version of a model.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const PROVIDER: [&str; 2] = ["providers", "Microsoft.MachineLearningServices"];
        if text.len() > MAX {
            return None;
        }
        let path = match strip_scheme(text) {
            Some(rest) => rest.trim_start_matches('/'),
            None => text.strip_prefix('/')?,
        };
        // The same characters as in every id of Azure's.
        let id = ResourceId::parse(&format!("/{path}"))?;
        let segments: Vec<&str> = id.as_str().split('/').skip(1).collect();
        let named = |at: usize, kind: &str| segments.get(at).is_some_and(|s| s.eq_ignore_ascii_case(kind));
        let value = |at: usize| segments.get(at).copied();
        // What stands behind the resource group: the provider, or what it provides.
        let (owner, at) = if named(0, "subscriptions") && named(2, "resourceGroups") {
            let provided = named(4, PROVIDER[0]) && named(5, PROVIDER[1]);
            (Some((value(1)?, value(3)?)), if provided { 6 } else { 4 })
        } else {
            (None, 0)
        };
        let kind = match (named(at, "workspaces"), named(at, "registries"), owner) {
            (true, _, Some(_)) => "workspaces",
            (_, true, _) => "registries",
            _ => return None,
        };
        let whole = named(at + 2, "models") && named(at + 4, "versions") && segments.len() == at + 6;
        if !whole {
            return None;
        }
        let rest = format!("{kind}/{}/models/{}/versions/{}", value(at + 1)?, value(at + 3)?, value(at + 5)?);
        let (text, arm) = match owner {
            Some((subscription, group)) => {
                let owner = format!("subscriptions/{subscription}/resourceGroups/{group}");
                let arm = format!("/{owner}/{}/{}/{rest}", PROVIDER[0], PROVIDER[1]);
                (format!("azureml://{owner}/{rest}"), ResourceId::parse(&arm))
            }
            None => (format!("azureml://{rest}"), None),
        };
        Some(Self { folded: text.to_ascii_lowercase(), text, arm })
    }

    /// `azureml://...`, spelled as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// In lower case: the form to keep and to compare by.
    #[must_use]
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// In lower case, from `workspaces/` or `registries/` on.
    #[must_use]
    pub fn tail(&self) -> &str {
        let mut parts = self.folded.rsplitn(7, '/');
        let before = parts.nth(6).map_or(0, |before| before.len() + 1);
        self.folded.get(before..).unwrap_or_default()
    }

    /// As Resource Manager names it; `None` for a registry that is named without its subscription.
    #[must_use]
    pub fn arm(&self) -> Option<&ResourceId> {
        self.arm.as_ref()
    }

    /// `M:V`, as people call it.
    #[must_use]
    pub fn short(&self) -> String {
        let mut segments = self.text.rsplit('/');
        let version = segments.next().unwrap_or_default();
        let name = segments.nth(1).unwrap_or_default();
        format!("{name}:{version}")
    }
}

fn strip_scheme(text: &str) -> Option<&str> {
    const SCHEME: &str = "azureml:/";
    let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

impl PartialEq for ModelId {
    fn eq(&self, other: &Self) -> bool {
        self.folded == other.folded
    }
}

impl Eq for ModelId {}

impl fmt::Debug for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "azureml://subscriptions/s/resourceGroups/g/workspaces/w/models/churn/versions/3";

    #[test]
    fn all_spellings_of_a_version_are_the_same_version() {
        for spelled in [
            URI,
            "azureml://subscriptions/s/resourcegroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/models/churn/versions/3",
            "AzureML:/SUBSCRIPTIONS/s/resourceGroups/g/providers/microsoft.machinelearningservices/Workspaces/W/models/churn/versions/3",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/models/Churn/versions/3",
        ] {
            let model = ModelId::parse(spelled).unwrap();
            assert_eq!(model, ModelId::parse(URI).unwrap(), "{spelled}");
            assert_eq!(model.short().to_lowercase(), "churn:3");
            assert_eq!(model.tail(), "workspaces/w/models/churn/versions/3");
            assert_eq!(
                model.arm().unwrap().folded(),
                "/subscriptions/s/resourcegroups/g/providers/microsoft.machinelearningservices/workspaces/w/models/churn/versions/3"
            );
        }
        let shared = ModelId::parse("azureml://registries/r/models/m/versions/1").unwrap();
        assert_eq!((shared.as_str(), shared.arm()), ("azureml://registries/r/models/m/versions/1", None));
        assert_eq!(shared.tail(), "registries/r/models/m/versions/1");
    }

    #[test]
    fn what_is_no_version_of_a_model_is_not_taken_for_one() {
        for other in [
            "",
            "churn:3",
            "azureml:churn:3",
            "azureml://",
            "azureml://workspaces/w/models/m/versions/1",
            "azureml://subscriptions/s/resourceGroups/g/workspaces/w/models/churn",
            "azureml://subscriptions/s/resourceGroups/g/workspaces/w/models/churn/versions/3/x",
            "azureml://subscriptions/s/resourceGroups/g/workspaces/w/models/churn/versions/..",
            "azureml://subscriptions/s/resourceGroups/g/workspaces/w/data/churn/versions/3",
            "azureml://subscriptions/s/resourceGroups/g/workspaces/w/models/a%2fb/versions/3",
            "https://example.com/registries/r/models/m/versions/1",
        ] {
            assert_eq!(ModelId::parse(other), None, "{other}");
        }
        assert_eq!(ModelId::parse(&format!("{URI}{}", "9".repeat(2_000))), None);
    }
}
