//! FRP servers for P2PRC nodes that ask for one: who gets it, and who may use it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::response::Response;
use http::{HeaderMap, StatusCode, header};

use super::clients::{Cost, are_one};
use super::{Guest, Refused, Site, is_forwarded, respond};
use crate::api::clients::Who;
use crate::formats::p2prc_http::Answer;
use crate::service::frps::FrpsError;

/// When to ask again where there are too many servers, in seconds.
const RETRY_AFTER: &str = "60";

/// A client's place for one more server; it is free again when this is dropped.
struct Place {
    site: Arc<Site>,
    ip: IpAddr,
    who: Who,
}

impl Place {
    fn take(guest: &Guest) -> Option<Self> {
        let (site, who) = (Arc::clone(&guest.site), guest.who);
        let taken = site.clients().begin_server(who);
        taken.then_some(Self {
            site,
            ip: guest.ip,
            who,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.site.clients().end_server(self.who);
    }
}

impl Site {
    /// Starts an FRP server for a client and answers with its port. P2PRC's question for UDP is
    /// answered with the same: its client connects over TCP in either case.
    pub(super) async fn frp_port(
        &self,
        guest: &Guest,
        headers: &HeaderMap,
    ) -> Result<Response, Refused> {
        let Some(frps) = &self.frps else {
            return Err(Answer::no_frp().into());
        };
        if is_forwarded(headers) {
            let why = "the port is for who asks, and behind a proxy nobody knows who that is";
            return Err(Answer::refusal(403, why).into());
        }
        self.charge(guest, Cost::Server)?;
        let place = Place::take(guest).ok_or_else(|| {
            Refused::with(
                StatusCode::TOO_MANY_REQUESTS,
                "too many FRP servers run for this address; they end when they are not used",
                (header::RETRY_AFTER, RETRY_AFTER),
            )
        })?;
        let started = frps.start(move |ip| are_one(place.ip, ip)).await;
        let port = started.map_err(|error| refuse(&error))?;
        tracing::info!(ip = %guest.ip, port, "an FRP server was asked for");
        Ok(respond(Answer::frp_port(port)))
    }
}

fn refuse(error: &FrpsError) -> Refused {
    if let FrpsError::Busy | FrpsError::Closed = error {
        return Refused::with(
            StatusCode::SERVICE_UNAVAILABLE,
            "no more FRP servers are started now; ask again later",
            (header::RETRY_AFTER, RETRY_AFTER),
        );
    }
    tracing::warn!(%error, "an FRP server that was asked for does not run");
    // What is wrong with this node's programs is not the stranger's business.
    Answer::refusal(500, "the FRP server did not start").into()
}
