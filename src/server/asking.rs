//! The gate's questions of Azure, asked without being a gate: for verbs that judge as it does.

use super::{StartError, build};
use crate::{
    azureml::Protocol, config::Settings, credentials::LiveRights, net::Destination, time::SharedClock,
};

/// What reads callers' rights in Azure, with the identity that the gate reads them with.
///
/// # Errors
/// [`StartError`] if a secret of the gate's is not to be had.
pub async fn rights(settings: &Settings, clock: &SharedClock) -> Result<LiveRights, StartError> {
    let connector = build::connector(settings, clock)?;
    let (credentials, _) = build::credentials(settings, &connector, clock).await?;
    let arm = match settings.routes.iter().find(|route| route.protocol == Protocol::Arm) {
        Some(route) => build::upstream(route)?,
        None => Destination::https(settings.cloud.resource_manager_host(), 443),
    };
    Ok(LiveRights::new(credentials, arm, build::rights(settings), clock.clone()))
}
