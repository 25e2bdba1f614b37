//! What one request costs in the pure parts: opening a token, drawing a backend, finding an app.

#![expect(clippy::expect_used, reason = "a test stops at what it did not expect")]

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::header::COOKIE;
use http::{HeaderMap, Uri};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use homing::balancer::affinity::Presented;
use homing::balancer::affinity::cookie::{self, Scheme};
use homing::balancer::affinity::keyring::{Key, Keyring};
use homing::balancer::affinity::memo::Memo;
use homing::balancer::affinity::way::Shown;
use homing::balancer::app::backend::{Address, Slot};
use homing::balancer::app::health::ProbeOutcome;
use homing::balancer::app::seen::Seen;
use homing::balancer::app::view::Tried;
use homing::balancer::assign::{Patience, Queued, Request, assign};
use homing::balancer::state::{Balancer, Event, Snapshot};
use homing::config;
use homing::wire::head::{HeadLimits, HeadReader};

const NOW: u64 = 1_800_000_000;

/// A snapshot of `apps` apps with `backends` open backends each.
fn snapshot(apps: usize, backends: usize) -> Snapshot {
    snapshot_with("{}", apps, backends)
}

/// The same with more of the section `affinity`.
fn snapshot_with(affinity: &str, apps: usize, backends: usize) -> Snapshot {
    let mut file = format!(
        "state_dir: s\nlisteners: [{{ address: \"127.0.0.1:1\" }}]\ndefaults: {{ affinity: {affinity} }}\napps:\n"
    );
    for app in 0..apps {
        file.push_str(&format!(
            "- name: app-{app}\n  domains: [d{app}.example.com]\n  backends:\n"
        ));
        for backend in 0..backends {
            let (high, low) = (backend / 250, backend % 250 + 1);
            file.push_str(&format!(
                "  - {{ id: web.{backend}, address: \"127.0.{high}.{low}:80\" }}\n"
            ));
        }
    }
    let config = config::parse(Path::new("bench.yaml"), file).expect("a good file");
    let key = Key::from_secret(&[7; 32]).expect("a long secret");
    let ring = Keyring::new(vec![key]).expect("one key");
    let specs = config.apps.clone();
    let mut balancer = Balancer::default();
    balancer.apply(Event::Configured(Box::new(config.spec(ring, 0))), Duration::ZERO);
    // Only the first app is asked for its backends.
    for backend in &specs[0].backends {
        let address: Address = backend.address.clone();
        let (app, id) = (specs[0].name.clone(), backend.id.clone());
        let outcome = ProbeOutcome::Passed;
        balancer.apply(Event::Probed { app, backend: id, address, outcome }, Duration::ZERO);
    }
    balancer.snapshot()
}

fn token(c: &mut Criterion) {
    let snapshot = snapshot(1, 3);
    let app = &snapshot.apps[0].app;
    let affinity = app.affinity.as_ref().expect("affinity is on");
    let backend = app.backend(Slot::all().next().expect("a slot"));
    let mut rng = SmallRng::seed_from_u64(1);
    let token = affinity.token(backend, &Presented::Nothing, NOW, &mut rng);
    let sealed = affinity.sealer().seal(&token);
    c.bench_function("token/open", |b| {
        b.iter(|| affinity.sealer().open(black_box(sealed.as_str().as_bytes())))
    });
    c.bench_function("token/seal", |b| b.iter(|| affinity.sealer().seal(black_box(&token))));
    let mut headers = HeaderMap::new();
    let line =
        format!("a=1; session=abcdefghijklmnop; homing-affinity={}; theme=dark", sealed.as_str());
    headers.insert(COOKIE, line.parse().expect("a header value"));
    c.bench_function("cookie/read", |b| b.iter(|| affinity.read(black_box(&headers), NOW)));
    let (memo, uri) = (Memo::default(), Uri::from_static("/"));
    let again = Shown { headers: &headers, uri: &uri, address: None, memo: Some(&memo) };
    c.bench_function("cookie/read again", |b| {
        b.iter(|| affinity.identify(black_box(&again), |_| true, NOW))
    });
    c.bench_function("cookie/take out", |b| {
        b.iter(|| cookie::without(black_box(line.as_bytes()), "homing-affinity"))
    });
    c.bench_function("cookie/make", |b| {
        b.iter(|| affinity.set_cookies(&token, Scheme::Https, NOW).for_each(drop))
    });
    let presented = affinity.read(&headers, NOW);
    let view = &snapshot.apps[0];
    c.bench_function("assign/follow", |b| {
        b.iter(|| assign(view, &request(black_box(&presented)), &mut rng))
    });
}

fn request(presented: &Presented) -> Request<'_> {
    const NONE: &Tried = &Tried::NONE;
    let patience = Patience::Waits;
    Request {
        presented,
        tried: NONE,
        patience,
        queued: Queued::Not,
        now: NOW,
        place: None,
        is_safe: true,
        in_session: false,
    }
}

/// What it costs to know a client: by default no more than to read the cookie.
fn identify(c: &mut Criterion) {
    let uri: Uri = "/echo/042/k2j4h5kj/xhr?sid=k2j4h5kj".parse().expect("a path");
    let address = Some([192, 0, 2, 7].into());
    let mut headers = HeaderMap::new();
    for (name, value) in [("accept", "*/*"), ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")] {
        headers.insert(name, value.parse().expect("a header value"));
    }
    headers.insert("x-session-id", "k2j4h5kj".parse().expect("a header value"));
    headers.insert(COOKIE, "a=1; JSESSIONID=4F2A.web.1".parse().expect("a header value"));
    let shown = Shown { headers: &headers, uri: &uri, address, memo: None };
    let default = snapshot(1, 3);
    let affinity = default.apps[0].app.affinity.as_ref().expect("affinity is on");
    let mut group = c.benchmark_group("identify");
    let mut rng = SmallRng::seed_from_u64(1);
    group.bench_function("the cookie alone", |b| {
        b.iter(|| affinity.read(black_box(&headers), NOW));
    });
    for (name, policy) in [
        ("default", "{}"),
        ("header", "{ identify_by: [cookie, { header: X-Session-Id }] }"),
        ("path", "{ identify_by: [cookie, { path_after: /echo }] }"),
        ("session cookie", "{ identify_by: [{ session_cookie: JSESSIONID }] }"),
        ("address", "{ identify_by: [cookie, address] }"),
        ("first visit by client", "{ first_visit: by_client }"),
    ] {
        let snapshot = snapshot_with(policy, 1, 3);
        let app = &snapshot.apps[0].app;
        group.bench_function(name, |b| b.iter(|| app.read(black_box(&shown), NOW, &mut rng)));
    }
    for backends in [3, 30] {
        let snapshot = snapshot_with("{ identify_by: [address] }", 1, backends);
        let view = &snapshot.apps[0];
        let presented = view.app.read(&shown, NOW, &mut rng).presented;
        group.bench_function(format!("home among {backends}"), |b| {
            b.iter(|| assign(view, &request(black_box(&presented)), &mut rng));
        });
    }
}

fn draw(c: &mut Criterion) {
    let mut group = c.benchmark_group("draw");
    for backends in [1, 3, 30, 1000] {
        let snapshot = snapshot(1, backends);
        let view = &snapshot.apps[0];
        let mut rng = SmallRng::seed_from_u64(1);
        group.bench_with_input(BenchmarkId::from_parameter(backends), &backends, |b, _| {
            b.iter(|| assign(view, &request(black_box(&Presented::Nothing)), &mut rng));
        });
    }
}

fn route(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for apps in [10, 1_000, 100_000] {
        let snapshot = snapshot(apps, 1);
        let hosts: Vec<String> =
            (0..1024).map(|n| format!("d{}.example.com:8080", n * 97 % apps)).collect();
        let mut turn = 0;
        group.bench_with_input(BenchmarkId::from_parameter(apps), &apps, |b, _| {
            b.iter(|| {
                turn = (turn + 1) % hosts.len();
                snapshot.find(black_box(hosts[turn].as_bytes()), b"/path").is_some()
            });
        });
    }
}

fn seen(c: &mut Criterion) {
    let (seen, mut mark) = (Seen::default(), 1_u64);
    c.bench_function("seen/observe", |b| {
        b.iter(|| {
            // Another register each time, as with many clients.
            mark = mark.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seen.observe(black_box(mark));
        });
    });
    c.bench_function("seen/estimate", |b| b.iter(|| seen.estimate()));
}

/// The head of a browser's request, of about 600 bytes.
const HEAD: &[u8] = b"GET /search?q=a&page=2 HTTP/1.1\r\nHost: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n\
    Referer: https://shop.example.com/search?q=a\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\n\
    Cookie: session=0123456789abcdef; homing-affinity=AeJxT0bQ5c0pL0lNTkwtSi0qzcpMzk8tLgYAVZ4IVg\r\n\r\n";

fn wire(c: &mut Criterion) {
    let limits = HeadLimits::default();
    c.bench_function("wire/head", |b| {
        b.iter(|| HeadReader::default().read(black_box(HEAD), &limits));
    });
}

criterion_group!(benches, token, identify, draw, route, seen, wire);
criterion_main!(benches);
