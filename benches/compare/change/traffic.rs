//! The load: clients with connections that they keep, and clients that open one for each request.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use super::plan::Plan;
use crate::{
    failure::Failure,
    guard::Guard,
    load::{Client, Exchange, Life, Load, Pace, Sample, Spec},
    workload::HOST,
};

/// The share of the clients, and of the requests, with a connection for each request.
const NEW_SHARE: f64 = 0.1;

/// How long a client waits.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Two generators: who keeps connections, and who does not.
pub(crate) struct Traffic {
    parts: [Part; 2],
}

struct Part {
    load: Load,
    /// The number of its first client among all clients.
    first: usize,
    rate: f64,
}

/// What became of it all.
pub(crate) struct End {
    pub(crate) samples: Vec<Sample>,
    /// Requests that were due and have no end yet: those of this moment, and those that an edge holds up.
    pub(crate) unanswered: u64,
}

impl Traffic {
    /// Starts to send at once. Every client is new, keeps the cookie that it gets, and has a connection of its own.
    pub(crate) fn start(
        plan: &Plan,
        address: SocketAddr,
        guard: &Rc<Guard>,
    ) -> Result<Self, Failure> {
        let fresh = ((plan.clients as f64 * NEW_SHARE) as usize).max(1);
        let start = |life, first, clients, share: f64| {
            let client = Client { host: HOST.to_owned(), cookie: None, backend: None };
            let rate = plan.rate as f64 * share;
            let spec = Spec {
                address,
                connections: clients,
                life,
                pace: Pace::PerSecond(rate),
                exchange: Exchange::Get { path: "/".to_owned() },
                clients: vec![client; clients],
                keeps_cookies: true,
                tls: None,
                timeout: TIMEOUT,
                logs: true,
            };
            Ok(Part { load: Load::start(&spec, plan.placement, guard)?, first, rate })
        };
        let kept = plan.clients.saturating_sub(fresh).max(1);
        let parts = [
            start(Life::Kept, 0, kept, 1.0 - NEW_SHARE)?,
            start(Life::Single, kept, fresh, NEW_SHARE)?,
        ];
        Ok(Self { parts })
    }

    /// What the generators used, both together.
    pub(crate) fn processor_time(&self) -> Duration {
        self.parts.iter().map(|it| it.load.processor_time().total()).sum()
    }

    /// What became of each request; times count from `epoch`, which itself counts from that of Unix.
    pub(crate) fn end(&mut self, epoch: Duration) -> Result<End, Failure> {
        let mut end = End { samples: vec![], unanswered: 0 };
        for Part { load, first, rate } in &mut self.parts {
            let interval = load.interval()?;
            let due = (interval.elapsed.as_secs_f64() * *rate) as u64;
            end.unanswered += due.saturating_sub(interval.samples.len() as u64);
            let shift = |at: Duration| (interval.started + at).saturating_sub(epoch);
            end.samples.extend(interval.samples.iter().map(|it| Sample {
                client: it.client + *first,
                due: shift(it.due),
                sent: shift(it.sent),
                done: shift(it.done),
                ..*it
            }));
        }
        Ok(end)
    }
}
