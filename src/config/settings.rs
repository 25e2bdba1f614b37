//! What of a configuration belongs to no app, as keys and values of the file, so that two can be compared.

mod tls;

use std::path::Path;

use super::acme::Acme;
use super::model::{
    AccessLog, Admin, Config, Listener, LogFormat, LogTarget, Protocols, Redirect, Server, Tracing,
};
use crate::balancer::change::Sign;
use crate::balancer::change::settings::{Setting, errors, list, on_off, shown, switch};
use crate::wire::head::HeadLimits;

/// What differs in the process: the direction, and the change in the words of the file. Secrets are not told.
pub fn changes(before: &Config, after: &Config) -> Vec<(Sign, String)> {
    let now = process_settings(after);
    let differs = |(key, from): Setting| {
        let to = now.iter().find(|(other, _)| *other == key).map(|(_, to)| to)?;
        (*to != from).then(|| (Sign::Changed, format!("{key} {from} -> {to}")))
    };
    let mut all = listeners(&before.listeners, &after.listeners);
    all.extend(process_settings(before).into_iter().filter_map(differs));
    all.extend(hidden(before, after).map(|text| (Sign::Changed, text.into())));
    all
}

/// Listeners that come, those that go, and what others speak. Their order is none.
fn listeners(before: &[Listener], after: &[Listener]) -> Vec<(Sign, String)> {
    let mut left: Vec<&Listener> = before.iter().collect();
    let mut all = Vec::new();
    let (same, others): (Vec<_>, Vec<_>) =
        after.iter().partition(|listener| before.contains(listener));
    // Those that are the same first: several may take any port, and have the same address.
    for listener in same.into_iter().chain(others) {
        let place = left.iter().position(|old| *old == listener);
        let place = place.or_else(|| left.iter().position(|old| old.address == listener.address));
        match place {
            Some(place) => all.extend(differing(left.swap_remove(place), listener)),
            None => all.push((Sign::Added, format!("listener {}", listener.address))),
        }
    }
    let gone = left.into_iter();
    all.extend(gone.map(|listener| (Sign::Removed, format!("listener {}", listener.address))));
    all
}

/// What differs in a listener that stays.
fn differing(before: &Listener, after: &Listener) -> Vec<(Sign, String)> {
    let changed = |((key, from), (_, to)): (Setting, Setting)| {
        (from != to)
            .then(|| (Sign::Changed, format!("listener {} {key} {from} -> {to}", after.address)))
    };
    let settings = listener(before).into_iter().zip(listener(after));
    settings.filter_map(changed).chain(tls::changes(before, after)).collect()
}

/// The settings of a listener.
fn listener(listener: &Listener) -> Vec<Setting> {
    let Listener { address: _, protocols, proxy_protocol, tls, acme, redirect } = listener;
    let Protocols { http1, http2 } = protocols;
    let spoken = [("http/1.1", *http1), ("HTTP/2", *http2)];
    let spoken = spoken.iter().filter(|(_, is)| *is).map(|(word, _)| (*word).into());
    let of_redirect = |shown: fn(&Redirect) -> String, none: &str| {
        redirect.as_ref().map_or_else(|| none.into(), shown)
    };
    let mut all = vec![
        ("protocols", list(spoken)),
        ("redirect_to_https", of_redirect(|redirect| redirect.status.to_string(), "off")),
        ("https_port", of_redirect(|redirect| redirect.port.to_string(), "none")),
        ("proxy_protocol", list(proxy_protocol.iter().map(ToString::to_string))),
    ];
    all.extend(tls::settings(tls.as_deref()));
    all.push(("tls.acme", list(acme.iter().map(ToString::to_string))));
    all
}

/// What the settings do not show.
fn hidden(before: &Config, after: &Config) -> impl Iterator<Item = &'static str> {
    let token = |config: &Config| Some(config.admin.as_ref()?.api.as_ref()?.token.clone());
    let tokens = (token(before), token(after));
    let another_token = matches!(&tokens, (Some(old), Some(new)) if old != new);
    let acme = |config: &Config| config.acme.clone();
    let secrets = (acme(before), acme(after));
    let other_authority = matches!(&secrets, (Some(Acme { ca: Some(old), .. }), Some(Acme { ca: Some(new), .. }))
        if old.file == new.file && old.pem != new.pem);
    let another_account = matches!(&secrets, (
        Some(Acme { external_account: Some(old), .. }),
        Some(Acme { external_account: Some(new), .. }),
    ) if old.id == new.id && old.key != new.key);
    let shown = errors(&before.errors) == errors(&after.errors);
    let other_pages = shown && before.errors != after.errors;
    let all = [
        (other_authority, "acme.ca has other contents"),
        (another_account, "acme.external_account has another key"),
        (another_token, "admin.token is another secret"),
        (other_pages, "defaults.errors.pages have other contents"),
    ];
    all.into_iter().filter(|(differs, _)| *differs).map(|(_, text)| text)
}

/// The settings of the process. What is not here is compared elsewhere: apps and keys by the balancer; the state
/// directory cannot change.
fn process_settings(config: &Config) -> Vec<Setting> {
    let Config {
        state_dir: _,
        server: process,
        listeners: _,
        acme: certificates,
        admin: lookout,
        access_log: log,
        tracing: spans,
        trusted_proxies,
        errors: unrouted,
        keys: _,
        apps: _,
        default_app: _,
        files: _,
        doubts: _,
    } = config;
    let mut all = server(process);
    all.extend(acme(certificates.as_ref()));
    all.extend(admin(lookout.as_ref()));
    all.extend(access_log(log));
    all.extend(tracing(spans.as_ref()));
    all.push(("trusted_proxies", list(trusted_proxies.iter().map(ToString::to_string))));
    let [(_, statuses), (_, pages)] = errors(unrouted);
    all.extend([("defaults.errors.status", statuses), ("defaults.errors.pages", pages)]);
    all
}

fn server(server: &Server) -> Vec<Setting> {
    let Server {
        threads,
        grace_period,
        restart_grace_period,
        watch,
        head: HeadLimits { bytes, fields, line },
        head_timeout,
        keepalive_timeout,
        connections,
        connections_per_address,
        requests_per_connection,
        http2_streams,
        memory_limit,
    } = server;
    let or =
        |number: Option<u64>, word: &str| number.map_or_else(|| word.into(), |n| n.to_string());
    vec![
        ("server.threads", threads.to_string()),
        ("server.grace_period", shown(*grace_period)),
        ("server.restart_grace_period", shown(*restart_grace_period)),
        ("server.head_timeout", shown(*head_timeout)),
        ("server.head_bytes", bytes.to_string()),
        ("server.head_fields", fields.to_string()),
        ("server.head_line", line.to_string()),
        ("server.keepalive_timeout", shown(*keepalive_timeout)),
        ("server.connections", or(*connections, "auto")),
        ("server.connections_per_address", or(*connections_per_address, "auto")),
        ("server.requests_per_connection", or(*requests_per_connection, "off")),
        ("server.http2_streams", http2_streams.to_string()),
        ("server.memory_limit", or(*memory_limit, "off")),
        ("server.watch", on_off(*watch)),
    ]
}

/// A path as it is from everywhere: whoever names the file may have named it from here, or not.
fn whole(path: &Path) -> String {
    std::path::absolute(path)
        .map_or_else(|_| path.display().to_string(), |p| p.display().to_string())
}

fn acme(acme: Option<&Acme>) -> [Setting; 7] {
    let or_none = |shown: fn(&Acme) -> String| acme.map_or_else(|| "none".into(), shown);
    let file = |acme: &Acme| match &acme.ca {
        Some(ca) => whole(&ca.file),
        None => "none".into(),
    };
    let account = |acme: &Acme| match &acme.external_account {
        Some(account) => account.id.to_string(),
        None => "none".into(),
    };
    [
        ("acme", switch(acme)),
        ("acme.directory", or_none(|acme| acme.directory.to_string())),
        ("acme.contact", or_none(|acme| list(acme.contact.iter().map(ToString::to_string)))),
        (
            "acme.challenges",
            or_none(|acme| list(acme.challenges.iter().map(|one| one.as_str().to_owned()))),
        ),
        ("acme.ca", or_none(file)),
        ("acme.external_account", or_none(account)),
        ("acme.retry_after", or_none(|acme| shown(acme.retry_after))),
    ]
}

fn admin(admin: Option<&Admin>) -> [Setting; 3] {
    let api = admin.and_then(|admin| admin.api.as_ref());
    let hosts = api.iter().flat_map(|api| api.hosts.iter()).map(ToString::to_string);
    [
        ("admin.address", admin.map_or_else(|| "off".into(), |admin| admin.address.to_string())),
        ("admin.token", if api.is_some() { "set" } else { "none" }.into()),
        ("admin.hosts", list(hosts)),
    ]
}

fn access_log(log: &AccessLog) -> [Setting; 2] {
    let format = match log.format {
        LogFormat::Heroku => "heroku",
        LogFormat::Json => "json",
        LogFormat::Off => "off",
    };
    let path = match &log.target {
        LogTarget::File(path) => whole(path),
        LogTarget::Stdout => "stdout".into(),
    };
    [("access_log.format", format.into()), ("access_log.path", path)]
}

fn tracing(tracing: Option<&Tracing>) -> [Setting; 3] {
    let or_none = |shown: fn(&Tracing) -> String| tracing.map_or_else(|| "none".into(), shown);
    [
        ("tracing", switch(tracing)),
        ("tracing.otlp.endpoint", or_none(|tracing| tracing.endpoint.to_string())),
        (
            "tracing.otlp.sample_percent",
            or_none(|tracing| (f64::from(tracing.sample) / 10_000.0).to_string()),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::config;

    const BASE: &str = "state_dir: state
listeners: [{ address: \"127.0.0.1:8080\" }]
apps: [{ name: shop, domains: [a.example.com], backends: [{ id: a, address: \"127.0.0.1:1\" }] }]
";

    fn read(directory: &Path, head: &str) -> Config {
        config::parse(&directory.join("edge.yaml"), format!("{head}{BASE}")).unwrap()
    }

    /// What is told when `before` becomes `after`, both in front of the same file.
    fn told(directory: &Path, before: &str, after: &str) -> Vec<String> {
        let changes = changes(&read(directory, before), &read(directory, after));
        changes.iter().map(|(sign, text)| format!("{sign} {text}")).collect()
    }

    #[test]
    fn every_setting_of_the_process_is_told_with_what_it_was_and_will_be() {
        let directory = tempfile::tempdir().unwrap();
        let server = [
            ("threads: 2", "threads: 3", "threads 2 -> 3"),
            ("grace_period: 5s", "grace_period: 1m", "grace_period 5s -> 1m"),
            (
                "restart_grace_period: 5s",
                "restart_grace_period: 1h",
                "restart_grace_period 5s -> 1h",
            ),
            ("head_timeout: 30s", "head_timeout: 5s", "head_timeout 30s -> 5s"),
            ("head_bytes: 2048", "head_bytes: 4096", "head_bytes 2048 -> 4096"),
            ("head_fields: 256", "head_fields: 64", "head_fields 256 -> 64"),
            ("head_line: 8192", "head_line: 1024", "head_line 8192 -> 1024"),
            ("keepalive_timeout: 75s", "keepalive_timeout: 1m", "keepalive_timeout 75s -> 1m"),
            ("connections: auto", "connections: 500", "connections auto -> 500"),
            (
                "connections_per_address: 9",
                "connections_per_address: auto",
                "connections_per_address 9 -> auto",
            ),
            ("http2_streams: 128", "http2_streams: 5", "http2_streams 128 -> 5"),
            (
                "requests_per_connection: off",
                "requests_per_connection: 100",
                "requests_per_connection off -> 100",
            ),
            ("memory_limit: off", "memory_limit: 1MiB", "memory_limit off -> 1048576"),
            ("watch: on", "watch: off", "watch on -> off"),
        ];
        for (before, after, expected) in server {
            let section = |key: &str| format!("server: {{ {key} }}\n");
            let told = told(directory.path(), &section(before), &section(after));
            assert_eq!(told, [format!("~ server.{expected}")]);
        }
        let log = directory.path().join("access.log").display().to_string();
        let path = format!("~ access_log.path stdout -> {log}");
        let tracing = |sample: &str| {
            format!(
                "tracing: {{ otlp: {{ endpoint: \"http://a:1\", sample_percent: {sample} }} }}\n"
            )
        };
        let others: [(&str, &str, &[&str]); 7] = [
            ("", "trusted_proxies: [10.0.0.0/8]\n", &["~ trusted_proxies [] -> [10.0.0.0/8]"]),
            ("", "access_log: off\n", &["~ access_log.format json -> off"]),
            ("", "access_log: { path: access.log }\n", &[&path]),
            (
                "",
                &tracing("1"),
                &[
                    "~ tracing off -> on",
                    "~ tracing.otlp.endpoint none -> http://a:1",
                    "~ tracing.otlp.sample_percent none -> 1",
                ],
            ),
            (&tracing("0.1"), &tracing("50"), &["~ tracing.otlp.sample_percent 0.1 -> 50"]),
            (
                "admin: { address: \"127.0.0.1:1\" }\n",
                "admin: { address: \"127.0.0.1:2\" }\n",
                &["~ admin.address 127.0.0.1:1 -> 127.0.0.1:2"],
            ),
            (
                "admin: { address: \"127.0.0.1:1\" }\n",
                "admin: off\n",
                &["~ admin.address 127.0.0.1:1 -> off"],
            ),
        ];
        for (before, after, expected) in others {
            assert_eq!(told(directory.path(), before, after), expected);
        }
    }

    #[test]
    fn certificates_of_an_acme_server_are_told_and_no_secret_of_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let key = |file: &str, text: &str| {
            let path = directory.path().join(file);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        key("first", "Zmlyc3Q");
        key("second", "c2Vjb25k");
        let acme = |host: &str, more: &str| {
            format!(
                "acme: {{ directory: \"https://{host}/\", terms_of_service_agreed: on{more} }}\n"
            )
        };
        let told = |before: &str, after: &str| told(directory.path(), before, after);
        let all = told("", &acme("a.example", ""));
        assert_eq!(all[..2], ["~ acme off -> on", "~ acme.directory none -> https://a.example/"]);
        assert_eq!(all[3], "~ acme.challenges none -> [tls-alpn-01, http-01]");
        let (before, after) = (acme("a.example", ""), acme("a.example", ", challenges: [http-01]"));
        assert_eq!(
            told(&before, &after),
            ["~ acme.challenges [tls-alpn-01, http-01] -> [http-01]"]
        );
        let account = |file: &str| {
            let account = format!(", external_account: {{ id: me, key: {{ file: {file} }} }}");
            acme("a.example", &account)
        };
        assert_eq!(told(&before, &account("first")), ["~ acme.external_account none -> me"]);
        let another = ["~ acme.external_account has another key"];
        assert_eq!(told(&account("first"), &account("second")), another);
    }

    #[test]
    fn what_is_answered_where_no_app_serves_is_told_and_another_page_of_the_same_name() {
        let directory = tempfile::tempdir().unwrap();
        let of = |errors: &str| {
            read(directory.path(), &format!("defaults: {{ errors: {{ {errors} }} }}\n"))
        };
        let page = |text: &str| fs::write(directory.path().join("page.html"), text).unwrap();
        let told = |before: &Config, after: &Config| {
            changes(before, after).into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        page("one");
        let (heroku, rfc) = (of("status: heroku"), of("status: rfc9110"));
        assert_eq!(told(&heroku, &rfc), ["defaults.errors.status heroku -> rfc9110"]);
        let paged = of("pages: { default: page.html }");
        assert_eq!(told(&heroku, &paged), ["defaults.errors.pages [] -> [default: page.html]"]);
        page("two");
        let other = of("pages: { default: page.html }");
        assert_eq!(told(&paged, &other), ["defaults.errors.pages have other contents"]);
    }

    #[test]
    fn listeners_come_and_go_and_their_order_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let mut before = read(directory.path(), "");
        let listener = |port| Listener {
            address: ([127, 0, 0, 1], port).into(),
            protocols: Protocols::HTTP1,
            acme: Default::default(),
            proxy_protocol: Box::default(),
            tls: None,
            redirect: None,
        };
        before.listeners = vec![listener(1), listener(2)];
        let mut after = before.clone();
        after.listeners.reverse();
        assert_eq!(changes(&before, &after), []);
        after.listeners = vec![listener(2), listener(3), listener(3)];
        let added = || (Sign::Added, "listener 127.0.0.1:3".to_owned());
        let removed = (Sign::Removed, "listener 127.0.0.1:1".to_owned());
        assert_eq!(changes(&before, &after), [added(), added(), removed]);
        let mut after = before.clone();
        after.listeners[0].proxy_protocol = ["10.0.0.0/8".parse().unwrap()].into();
        after.listeners[1].redirect = Some(Redirect { status: 308, port: 8443 });
        let told: Vec<_> = changes(&before, &after).into_iter().map(|(_, text)| text).collect();
        let expected = [
            "listener 127.0.0.1:1 proxy_protocol [] -> [10.0.0.0/8]",
            "listener 127.0.0.1:2 redirect_to_https off -> 308",
            "listener 127.0.0.1:2 https_port none -> 8443",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn another_token_is_told_and_no_token_is() {
        let directory = tempfile::tempdir().unwrap();
        let token = |file: &str, text: &str| {
            let path = directory.path().join(file);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        token("first", "a first token of the tests");
        token("second", "a second token of the tests");
        let admin = |file: &str| format!("admin: {{ address: \"127.0.0.1:1\"{file} }}\n");
        let (none, first, second) =
            (admin(""), admin(", token: { file: first }"), admin(", token: { file: second }"));
        let told = |before: &str, after: &str| told(directory.path(), before, after);
        assert_eq!(told(&none, &first), ["~ admin.token none -> set"]);
        assert_eq!(told(&first, &second), ["~ admin.token is another secret"]);
        assert_eq!(told(&first, &first), [""; 0]);
    }
}
