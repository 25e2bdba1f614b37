//! How often a client asks: a bucket for each client of an app that limits it.
//!
//! Buckets live outside of snapshots and survive reloads, as long as the limit stays what it is. Each process has its
//! own, and so does each edge.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::gate::Neighbour;
use crate::balancer::app::limits::RateLimit;
use crate::balancer::name::AppName;

/// Most clients of an app that are told apart: some 32 MiB. Beyond, all are forgotten: who has so many addresses is
/// stopped by no limit that counts by address.
const CLIENTS_MAX: usize = 262_144;

/// How many times clients are forgotten before room is given back: that holds locks for as long as it takes to move
/// all others.
const PRUNES_PER_SHRINK: u64 = 30;

/// The buckets of one app.
struct Buckets {
    limit: RateLimit,
    limiter: DefaultKeyedRateLimiter<Neighbour>,
}

/// The buckets of all apps that limit their clients.
#[derive(Default)]
pub struct Rates {
    apps: ArcSwap<HashMap<AppName, Arc<Buckets>>>,
    /// Held while buckets are made, so that two requests do not make them twice.
    making: Mutex<()>,
    prunes: AtomicU64,
}

impl Rates {
    /// Takes a token out of the bucket of this client. `Err`: there is none; in how many seconds there will be.
    pub(super) fn take(&self, app: &AppName, limit: RateLimit, client: IpAddr) -> Result<(), u64> {
        let buckets = self.apps.load().get(app).filter(|own| own.limit == limit).cloned();
        let buckets = buckets.unwrap_or_else(|| self.make(app, limit));
        let taken = buckets.limiter.check_key(&Neighbour::of(client));
        taken.map_err(|wait| whole_seconds(wait.wait_time_from(DefaultClock::default().now())))
    }

    fn make(&self, app: &AppName, limit: RateLimit) -> Arc<Buckets> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = self.apps.load().get(app).filter(|own| own.limit == limit) {
            return Arc::clone(made);
        }
        let quota = Quota::with_period(limit.per / limit.requests.get());
        let quota = quota.unwrap_or_else(|| Quota::per_second(limit.requests));
        let limiter = RateLimiter::keyed(quota.allow_burst(limit.burst));
        let made = Arc::new(Buckets { limit, limiter });
        let mut apps = HashMap::clone(&self.apps.load());
        apps.insert(app.clone(), Arc::clone(&made));
        self.apps.store(Arc::new(apps));
        made
    }

    /// Forgets clients that have not asked for so long that their buckets are full, and apps that `limits` does not
    /// name any more.
    pub fn prune(&self, limits: impl Fn(&AppName) -> bool) {
        let apps = self.apps.load_full();
        let shrinks = self.prunes.fetch_add(1, Ordering::Relaxed).is_multiple_of(PRUNES_PER_SHRINK);
        let mut gone: Vec<&AppName> = apps.keys().filter(|app| !limits(app)).collect();
        for (app, buckets) in apps.iter() {
            if buckets.limiter.is_empty() {
                continue;
            }
            buckets.limiter.retain_recent();
            if shrinks {
                buckets.limiter.shrink_to_fit();
            }
            if buckets.limiter.len() > CLIENTS_MAX {
                gone.push(app);
            }
        }
        if !gone.is_empty() {
            let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            let mut left = HashMap::clone(&self.apps.load());
            left.retain(|app, _| !gone.contains(&app));
            self.apps.store(Arc::new(left));
        }
    }
}

/// `Retry-After` counts in whole seconds (RFC 9110 §10.2.3): rounded up, or who obeys comes too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limit(requests: u32, burst: u32) -> RateLimit {
        let number = |number| NonZeroU32::new(number).unwrap();
        RateLimit {
            requests: number(requests),
            per: Duration::from_secs(3600),
            burst: number(burst),
        }
    }

    #[test]
    fn each_client_has_a_bucket_of_its_own_that_a_reload_keeps() {
        let (rates, app) = (Rates::default(), AppName::parse("shop").unwrap());
        let take = |limit, client: &str| rates.take(&app, limit, client.parse().unwrap());
        assert_eq!(take(limit(1, 2), "192.0.2.1"), Ok(()));
        assert_eq!(take(limit(1, 2), "192.0.2.1"), Ok(()));
        let wait = take(limit(1, 2), "192.0.2.1").unwrap_err();
        assert!((3590..=3600).contains(&wait), "{wait}");
        assert_eq!(take(limit(1, 2), "192.0.2.2"), Ok(()));
        rates.prune(|_| true);
        assert!(take(limit(1, 2), "192.0.2.1").is_err(), "its bucket is not full yet");
        assert_eq!(take(limit(1, 3), "192.0.2.1"), Ok(()), "another limit");
        rates.prune(|_| false);
        assert!(rates.apps.load().is_empty());
    }

    #[test]
    fn a_wait_is_rounded_up() {
        let seconds = |millis| whole_seconds(Duration::from_millis(millis));
        assert_eq!((seconds(1), seconds(1000), seconds(1001)), (1, 1, 2));
    }
}
