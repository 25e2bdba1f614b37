//! What Homing answers by itself: the page of a failure, with the status that the app prefers.

use std::time::Duration;

use pingora::Result;
use pingora_proxy::Session;

use super::Proxy;
use super::connection::Wait;
use super::context::RequestContext;
use super::failure::Failure;
use super::page::{self, Answers};
use super::redirect;
use crate::balancer::failure::Facts;
use crate::config::model::Redirect;
use crate::wire::fault::Fault;

/// How long a client may take to read a page of ours. It is small, and sent at once.
const PAGE_LIMIT: Duration = Duration::from_secs(10);

impl Proxy {
    /// Sends the page of a failure that is known before any backend was asked.
    pub(super) async fn refuse(
        &self,
        session: &mut Session,
        failure: Failure,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        ctx.failure = Some(failure);
        ctx.own_status = self.send_page(session, failure, ctx).await?;
        Ok(true)
    }

    /// Sends the page of a request that was refused as it came, with what is known of it.
    pub(super) async fn refuse_fault(
        &self,
        session: &mut Session,
        fault: Fault,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        ctx.app = self.route(session.req_header());
        ctx.detail = Some(fault.as_str());
        session.set_keepalive(None);
        self.refuse(session, Failure::of(fault), ctx).await
    }

    /// Sends a request to TLS. One that names no host cannot be sent anywhere.
    pub(super) async fn send_to_tls(
        &self,
        session: &mut Session,
        redirect: Redirect,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        // It is none of those in flight.
        ctx.app_in_flight = None;
        ctx.wait_for(Wait::ClientRead, PAGE_LIMIT);
        if redirect::send(session, redirect, ctx).await? {
            return Ok(true);
        }
        ctx.detail = Some(Fault::HostMissing.as_str());
        self.refuse(session, Failure::BadRequest, ctx).await
    }

    /// Sends the page of a failure as the app of the request has it.
    pub(super) async fn send_page(
        &self,
        session: &mut Session,
        failure: Failure,
        ctx: &mut RequestContext,
    ) -> Result<Option<u16>> {
        ctx.wait_for(Wait::ClientRead, PAGE_LIMIT);
        let common = self.published.errors();
        let errors = ctx.app.as_ref().map_or(&*common, |view| &view.app.policy.errors);
        page::send(session, failure, ctx, &Answers { errors, fetched: &self.fetched }).await
    }

    /// What is said about the failure of a request, if it failed, with the status that its app prefers.
    pub(super) fn facts(&self, ctx: &RequestContext) -> Option<Facts> {
        let failure = ctx.failure?;
        let statuses = match &ctx.app {
            Some(view) => view.app.policy.errors.statuses,
            None => self.published.errors().statuses,
        };
        Some(failure.facts().with(statuses))
    }
}
