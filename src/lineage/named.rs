//! Models as people name them: by an id, or as `M:V` in a workspace or registry.

use super::model::ModelId;

/// Where a model is that is named without its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home<'h> {
    /// In the workspace of this name.
    Workspace(&'h str),
    /// In the registry of this name.
    Registry(&'h str),
}

/// One version of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// By its id.
    Id(ModelId),
    /// By name, in every workspace or registry of the name: the part of their ids in lower case, see
    /// [`ModelId::tail`].
    Tail(String),
}

/// Versions of models: all of a workspace or registry, all of a model, or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Versions {
    /// Below an id, in lower case.
    Id(String),
    /// Below a tail, in lower case.
    Tail(String),
}

/// Why a name names no model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Neither an id nor a name beside its home.
    #[error(
        "a model is named by its id (`azureml://subscriptions/S/resourceGroups/G/workspaces/W/models/M/versions/V`, \
         `azureml://registries/R/models/M/versions/V`, or what Resource Manager calls it), or as `M:V` with its \
         workspace or registry"
    )]
    Model,
    /// A name without a version.
    #[error("which version? write `M:V`, as in `churn:3`")]
    NoVersion,
    /// Both say where it is.
    #[error("the model's id says already where it is: leave out the workspace or registry")]
    TwoHomes,
}

impl Version {
    /// Reads a name.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn parse(name: &str, home: Option<Home<'_>>) -> Result<Self, NameError> {
        match (ModelId::parse(name), home) {
            (Some(_), Some(_)) => Err(NameError::TwoHomes),
            (Some(id), None) => Ok(Self::Id(id)),
            (None, None) => Err(NameError::Model),
            (None, Some(home)) => {
                let (model, version) = name.split_once(':').ok_or(NameError::NoVersion)?;
                Ok(Self::Tail(home.model(model, version).ok_or(NameError::Model)?.tail().to_owned()))
            }
        }
    }
}

impl Versions {
    /// Reads a name, with or without a version; without a name, everything of its home.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn parse(name: Option<&str>, home: Option<Home<'_>>) -> Result<Self, NameError> {
        let any_of = |home: Home<'_>, model: &str| home.model(model, "v").ok_or(NameError::Model);
        match (name, home) {
            (None, None) => Err(NameError::Model),
            (None, Some(home)) => Ok(Self::Tail(above(any_of(home, "m")?.tail(), 4))),
            (Some(name), Some(home)) if name.contains(':') || name.contains('/') => {
                match Version::parse(name, Some(home))? {
                    Version::Id(id) => Ok(Self::of(&id, 0)),
                    Version::Tail(tail) => Ok(Self::Tail(tail)),
                }
            }
            (Some(name), Some(home)) => Ok(Self::Tail(above(any_of(home, name)?.tail(), 2))),
            (Some(name), None) => match ModelId::parse(name) {
                Some(id) => Ok(Self::of(&id, 0)),
                None => {
                    let any = ModelId::parse(&format!("{}/versions/v", name.trim_end_matches('/')));
                    Ok(Self::of(&any.ok_or(NameError::Model)?, 2))
                }
            },
        }
    }

    /// Of an id, without so many of its last segments. A registry is one, with or without the
    /// subscription that it is in.
    fn of(id: &ModelId, cut: usize) -> Self {
        if id.tail().starts_with("registries/") {
            Self::Tail(above(id.tail(), cut))
        } else {
            Self::Id(above(id.folded(), cut))
        }
    }
}

/// A path without so many of its last segments.
fn above(path: &str, cut: usize) -> String {
    path.rsplitn(cut + 1, '/').last().unwrap_or_default().to_owned()
}

impl Home<'_> {
    fn model(self, model: &str, version: &str) -> Option<ModelId> {
        let rest = format!("models/{model}/versions/{version}");
        ModelId::parse(&match self {
            Self::Workspace(name) => {
                format!("azureml://subscriptions/s/resourceGroups/g/workspaces/{name}/{rest}")
            }
            Self::Registry(name) => format!("azureml://registries/{name}/{rest}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "azureml://subscriptions/s/resourceGroups/g/workspaces/W/models/churn/versions/3";
    const W: Option<Home<'_>> = Some(Home::Workspace("W"));
    const R: Option<Home<'_>> = Some(Home::Registry("R"));

    fn tail(text: &str) -> Version {
        Version::Tail(text.to_owned())
    }

    #[test]
    fn a_version_is_named_by_its_id_or_beside_its_home() {
        assert_eq!(Version::parse(URI, None), Ok(Version::Id(ModelId::parse(URI).unwrap())));
        assert_eq!(Version::parse("Churn:3", W), Ok(tail("workspaces/w/models/churn/versions/3")));
        assert_eq!(Version::parse("churn:3", R), Ok(tail("registries/r/models/churn/versions/3")));
        for (name, home, why) in [
            (URI, W, NameError::TwoHomes),
            ("churn:3", None, NameError::Model),
            ("churn", W, NameError::NoVersion),
            ("churn/versions/2:3", W, NameError::Model),
            ("..:3", W, NameError::Model),
            (":3", W, NameError::Model),
            ("churn:", R, NameError::Model),
            ("churn:3", Some(Home::Workspace("w/x")), NameError::Model),
            ("", None, NameError::Model),
        ] {
            assert_eq!(Version::parse(name, home), Err(why), "{name}");
        }
    }

    #[test]
    fn versions_are_those_of_a_home_of_a_model_or_one() {
        let below = |text: &str| Ok(Versions::Tail(text.to_owned()));
        assert_eq!(Versions::parse(None, W), below("workspaces/w"));
        assert_eq!(Versions::parse(None, R), below("registries/r"));
        assert_eq!(Versions::parse(Some("Churn"), W), below("workspaces/w/models/churn"));
        assert_eq!(Versions::parse(Some("churn:3"), W), below("workspaces/w/models/churn/versions/3"));
        let folded = URI.to_lowercase();
        assert_eq!(Versions::parse(Some(URI), None), Ok(Versions::Id(folded.clone())));
        let model = folded.strip_suffix("/versions/3").unwrap();
        for spelled in [&URI[..URI.len() - 11], &format!("{}/", &URI[..URI.len() - 11])] {
            assert_eq!(Versions::parse(Some(spelled), None), Ok(Versions::Id(model.to_owned())), "{spelled}");
        }
        for spelled in [
            "azureml://registries/R/models/m",
            "azureml://subscriptions/s/resourceGroups/g/registries/r/models/m",
        ] {
            assert_eq!(Versions::parse(Some(spelled), None), below("registries/r/models/m"), "{spelled}");
        }
        for (name, home) in [(None, None), (Some("churn"), None), (Some(URI), W), (Some("a/b"), W)] {
            assert!(Versions::parse(name, home).is_err(), "{name:?}");
        }
    }
}
