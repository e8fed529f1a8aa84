//! Roles taken and given up. A held role ends with the connection that asked for it, however that
//! connection ends.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use tokio::sync::watch;
use tokio::time::{Interval, interval};

use super::Admin;
use super::stream::{self, Line, Source, line};
use crate::api::Control;
use crate::api::input::Input;
use crate::api::refusal::Refusal;
use crate::api::shapes::{HoldLine, NodeError, RoleInfo, RoleRequest, RoleSpec};

/// How often the holder of a role is told that the daemon lives.
const HOLD_INTERVAL: Duration = Duration::from_secs(2);

pub(super) async fn add(
    State(admin): State<Admin>,
    Input(request): Input<RoleRequest>,
) -> Result<Response, Refusal> {
    if request.keep && request.hold {
        return Err(Refusal::usage("a role is either kept or held, not both"));
    }
    let hold = request.hold;
    let task = admin.clone();
    // Taking a role connects to other machines. Whoever asked may be gone before that is done; in
    // its own task it is done all the same, and a held role is then removed by its guard.
    let taken = admin.tasks.spawn(async move {
        let info = take(&*task.control, request.spec, request.keep).await?;
        let guard = hold.then(|| HeldGuard::new(&task, info.id));
        Ok::<_, NodeError>((info, guard))
    });
    let (info, guard) = taken.await.map_err(|error| {
        NodeError::new("internal", format!("taking the role broke off: {error}"))
    })??;
    match guard {
        None => Ok((StatusCode::CREATED, Json(info)).into_response()),
        Some(guard) => Ok(hold_open(&admin, &info, guard)),
    }
}

pub(super) async fn remove(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let id = id
        .parse()
        .map_err(|_| Refusal::usage(format!("{id:?} is not the number of a role")))?;
    admin.control.remove_role(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn take(control: &dyn Control, spec: RoleSpec, keep: bool) -> Result<RoleInfo, NodeError> {
    match spec {
        RoleSpec::Expose(spec) => control.expose(spec, keep).await,
        RoleSpec::Ingress(spec) => control.ingress(spec, keep).await,
    }
}

fn hold_open(admin: &Admin, info: &RoleInfo, guard: HeldGuard) -> Response {
    let mut changed = admin.control.watch_roles();
    // It may have been removed already.
    changed.mark_changed();
    let hold = Hold {
        admin: admin.clone(),
        guard,
        changed,
        ticks: interval(HOLD_INTERVAL),
    };
    stream::response(line(info), hold)
}

struct Hold {
    admin: Admin,
    guard: HeldGuard,
    changed: watch::Receiver<()>,
    ticks: Interval,
}

impl Source for Hold {
    async fn next(&mut self) -> Line {
        loop {
            let end = tokio::select! {
                // The node ends its roles itself, in its own order.
                () = self.admin.ending.cancelled() => HoldLine::Stopping,
                _ = self.ticks.tick() => return Line::Alive,
                Ok(()) = self.changed.changed() => match self.is_held() {
                    true => continue,
                    false => HoldLine::Removed,
                },
            };
            self.guard.armed = false;
            return Line::Last(line(&end));
        }
    }
}

impl Hold {
    fn is_held(&self) -> bool {
        let roles = self.admin.control.roles();
        roles.iter().any(|role| role.id == self.guard.id)
    }
}

/// Removes its role when it is dropped, which happens with the answer's body, when the connection
/// that carries it ends.
struct HeldGuard {
    admin: Admin,
    id: u64,
    armed: bool,
}

impl HeldGuard {
    fn new(admin: &Admin, id: u64) -> Self {
        Self {
            admin: admin.clone(),
            id,
            armed: true,
        }
    }
}

impl Drop for HeldGuard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (control, id) = (Arc::clone(&self.admin.control), self.id);
        let removal = async move {
            if let Err(error) = control.remove_role(id).await {
                tracing::debug!(role = id, %error, "a held role was already gone");
            }
        };
        self.admin.tasks.spawn_on(removal, &self.admin.runtime);
    }
}
