//! What serves or keeps machines: computes, deployments, endpoints, accounts.

use super::{
    Found, Result,
    descent::takes_none,
    jobs::size_of,
    reading::{Door, needed},
};
use crate::azureml::Effect;

pub(super) fn compute(body: &Door<'_>, found: &mut Found) -> Result<()> {
    let outer = body.child("properties")?;
    let outer = needed(outer.as_ref(), "$.properties")?;
    let inner = outer.child("properties")?;
    let kind = outer.text("computeType")?.unwrap_or_default().to_ascii_lowercase();
    let Some(inner) = inner else {
        // Attached compute is not made here; a bare update changes nothing that is reserved.
        if outer.get("resourceId").is_none()
            && !kind.is_empty()
            && matches!(kind.as_str(), "amlcompute" | "computeinstance")
        {
            found.reserve(None, None, None);
        }
        return Ok(());
    };
    let size = inner.text("vmSize")?;
    let sizes = size.as_ref().map(std::slice::from_ref);
    if let Some(scale) = inner.child("scaleSettings")? {
        found.reserve(scale.count("maxNodeCount")?, sizes, None);
    } else if kind == "computeinstance" {
        found.reserve(Some(1), sizes, None);
    } else if kind == "amlcompute" {
        found.reserve(None, sizes, None);
    }
    if let Some(personal) = inner.child("personalComputeInstanceSettings")?
        && personal.get("assignedUser").is_some()
    {
        found.effect(Effect::RunCodeAsAnother);
    }
    if let Some(identity) = body.child("identity")?
        && !identity.text("type")?.is_none_or(|t| t.eq_ignore_ascii_case("None"))
    {
        found.effect(Effect::RunCodeAsAnother);
    }
    if let Some(ssh) = inner.child("sshSettings")?
        && ssh.text("sshPublicAccess")?.is_some_and(|a| a.eq_ignore_ascii_case("Enabled"))
    {
        found.effect(Effect::ExposeNetwork);
    }
    if inner.text("remoteLoginPortPublicAccess")?.is_some_and(|a| !a.eq_ignore_ascii_case("Disabled")) {
        found.effect(Effect::ExposeNetwork);
    }
    Ok(())
}

pub(super) fn online_deployment(body: &Door<'_>, found: &mut Found) -> Result<()> {
    let sku = body.child("sku")?;
    let properties = body.child("properties")?;
    let mut nodes = sku.as_ref().map_or(Ok(None), |s| s.count("capacity"))?;
    let mut size = None;
    if let Some(properties) = &properties {
        size = properties.text("instanceType")?;
        if properties.get("model").is_some() {
            found.effect(Effect::DeployModel);
        }
        if let Some(scale) = properties.child("scaleSettings")? {
            let most = scale.count("maxInstances")?;
            nodes = match (nodes, most) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => b.or(a),
            };
        }
        if properties.text("egressPublicNetworkAccess")?.is_some_and(|a| a.eq_ignore_ascii_case("Enabled")) {
            found.effect(Effect::ExposeNetwork);
        }
    }
    found.reserve(nodes, size.as_ref().map(std::slice::from_ref), None);
    Ok(())
}

pub(super) fn batch_deployment(body: &Door<'_>, found: &mut Found) -> Result<()> {
    let properties = body.child("properties")?;
    if properties.as_ref().is_some_and(|p| p.get("model").is_some()) {
        found.effect(Effect::DeployModel);
    }
    let resources = properties.as_ref().map_or(Ok(None), |p| p.child("resources"))?;
    let nodes = match &resources {
        Some(resources) => resources.count("instanceCount")?,
        None => None,
    };
    found.reserve(nodes, size_of(resources.as_ref())?.as_ref().map(std::slice::from_ref), None);
    Ok(())
}

pub(super) fn endpoint(body: &Door<'_>, name: &str, found: &mut Found) -> Result<()> {
    let Some(properties) = body.child("properties")? else { return Ok(()) };
    for traffic in ["traffic", "mirrorTraffic"] {
        // What gets none of it does not begin to serve.
        if properties.child(traffic)?.is_some_and(|t| t.members.values().any(|share| !takes_none(share))) {
            found.effect(Effect::DeployModel);
        }
    }
    if properties.child("defaults")?.is_some_and(|d| d.get("deploymentName").is_some()) {
        found.effect(Effect::DeployModel);
    }
    // An online endpoint that says nothing is public.
    let creates = name == "OnlineEndpoints_CreateOrUpdate";
    match properties.text("publicNetworkAccess")? {
        Some(access) if access.eq_ignore_ascii_case("Disabled") => {}
        Some(_) => found.effect(Effect::ExposeNetwork),
        None if creates => found.effect(Effect::ExposeNetwork),
        None => {}
    }
    if properties.get("keys").is_some() {
        found.effect(Effect::ChangeAccess);
    }
    Ok(())
}

pub(super) fn serverless(body: &Door<'_>, found: &mut Found) -> Result<()> {
    let nodes = body.child("sku")?.map_or(Ok(None), |s| s.count("capacity"))?;
    found.reserve(nodes, None, None);
    Ok(())
}

/// A workspace or registry that says nothing when it is made is public.
pub(super) fn account(properties: Option<&Door<'_>>, name: &str, found: &mut Found) -> Result<()> {
    let creates = name.ends_with("CreateOrUpdate");
    let access = properties.map_or(Ok(None), |p| p.text("publicNetworkAccess"))?;
    match access {
        Some(access) if access.eq_ignore_ascii_case("Disabled") => {}
        Some(_) => found.effect(Effect::ExposeNetwork),
        None if creates => found.effect(Effect::ExposeNetwork),
        None => {}
    }
    Ok(())
}

/// Feature sets: a materialisation reserves Spark nodes without a bound.
pub(super) fn materialisation(body: &Door<'_>, found: &mut Found) -> Result<()> {
    let settings = match body.child("properties")? {
        Some(properties) => properties.child("materializationSettings")?,
        None => None,
    };
    let resource = match settings {
        Some(settings) => settings.child("resource")?,
        None => body.child("resource")?,
    };
    if let Some(resource) = resource {
        found.reserve(None, size_of(Some(&resource))?.as_ref().map(std::slice::from_ref), None);
    }
    Ok(())
}
