//! What starts by itself has a thread of its own: its connections to Azure are not a core's.

use std::sync::Arc;

use tokio::{sync::oneshot, task::LocalSet};
use tokio_util::sync::CancellationToken;

use crate::{
    net::Connector,
    proxy::{Core, SharedParts},
    triggers,
    upstream::Pools,
};

/// Starts what triggers name until it is told to stop; told when what was under way then has ended.
pub(super) fn start(
    parts: &SharedParts,
    connector: &Connector,
    stop: &CancellationToken,
) -> std::io::Result<oneshot::Receiver<()>> {
    let (ended, told) = oneshot::channel();
    let (parts, connector, stop) = (Arc::clone(parts), connector.clone(), stop.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("triggers".to_owned()).spawn(move || {
        let runner = async move {
            let core = Core::new(parts, Pools::new(connector));
            let tidying = core.clone();
            let tidy = async move {
                loop {
                    tokio::time::sleep(super::TIDY_EVERY).await;
                    tidying.tidy();
                }
            };
            tokio::select! {
                () = triggers::run(core, stop) => {}
                () = tidy => {}
            }
        };
        LocalSet::new().block_on(&runtime, runner);
        // Nobody listens any more where the gate has stopped without waiting.
        ended.send(()).ok();
    })?;
    Ok(told)
}
