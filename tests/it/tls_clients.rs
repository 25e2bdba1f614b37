//! Client certificates: asked for, verified, and told to the app; and nobody else can tell it so.

use crate::harness::{
    Authority, Backend, Edge, Launch, Pair, QUICK, Reply, TlsClient, shop, write,
};

/// An edge that asks for certificates of `clients`.
struct Site {
    backend: Backend,
    root: Authority,
    clients: Authority,
    edge: Edge,
}

impl Site {
    fn new(asked: &str, head: &str) -> Self {
        let backend = Backend::new("web.1", |_, _| Reply::ok("served"));
        let (root, clients) = (Authority::new("root"), Authority::new("clients"));
        let listener = format!(
            "listeners: [{{ address: \"127.0.0.1:0\", tls: {{ certificates: [{{ certificate: site.pem, key: site.key }}], \
             client_certificates: {{ ca: clients.pem{asked} }} }} }}, {{ address: \"127.0.0.1:0\", tls: {{ certificates: \
             [{{ certificate: site.pem, key: site.key }}] }} }}]\n{head}"
        );
        let launch = Launch::new(&listener, &shop(QUICK, &[&backend]));
        root.issue(&["shop.example.com"]).write(launch.directory(), "site");
        write(&launch.directory().join("clients.pem"), &clients.pem);
        write(&launch.directory().join("revoked.pem"), &clients.revoke(7));
        Self { backend, root, clients, edge: launch.start_ready() }
    }

    fn visit(&self, client: &TlsClient, headers: &str) -> Result<u16, String> {
        let got = client.get(self.edge.address(), "shop.example.com", "/", headers);
        got.map(|(response, _)| response.status).map_err(|error| error.to_string())
    }

    /// What the backend was told of who the client is, last.
    fn told(&self) -> Vec<(String, String)> {
        let last = self.backend.requests().pop().unwrap();
        let all = last.headers.into_iter();
        let name = |name: &str| name.to_ascii_lowercase().replace('_', "-");
        all.filter(|(key, _)| name(key).contains("client-cert")).collect()
    }
}

fn fingerprint(pair: &Pair) -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(crate::harness::der(pair));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

const LIES: &str = "Client-Cert: :AAAA:\r\nclient_cert: :AAAA:\r\nX-Client-Cert-Subject: CN=root\r\n\
    X_Client_Cert-Subject: CN=root\r\nClient-Cert-Chain: :AAAA:\r\n";

#[test]
fn a_certificate_is_required_and_told_to_the_app() {
    let site = Site::new("", "");
    let nobody = TlsClient::of(&site.root);
    let refused = site.visit(&nobody, "").unwrap_err();
    assert!(refused.contains("CertificateRequired"), "{refused}");
    let reason = "homing_tls_handshake_failures_total{reason=\"client_certificate\"}";
    site.edge.counts(reason, 1.0);
    let pair = site.clients.issue(&["alice.example.com"]);
    let alice = TlsClient::showing(&site.root, &pair);
    assert_eq!(site.visit(&alice, LIES), Ok(200));
    let told = site.told();
    let of = |name: &str| {
        let mut all = told.iter().filter(|(key, _)| key == name);
        let value = all.next().map(|(_, value)| value.as_str());
        assert!(all.next().is_none(), "{name} is told twice: {told:?}");
        value
    };
    assert_eq!(of("X-Client-Cert-Subject"), Some("CN=alice.example.com"));
    assert_eq!(of("X-Client-Cert-SAN"), Some("DNS:alice.example.com"));
    assert_eq!(of("X-Client-Cert-Fingerprint"), Some(fingerprint(&pair).as_str()));
    let certificate = of("Client-Cert").unwrap();
    assert!(certificate.starts_with(":MII") && certificate.ends_with(':'), "{certificate}");
    assert_eq!(told.len(), 4, "{told:?}");
    let stranger = TlsClient::showing(&site.root, &Authority::new("clients").issue(&["eve"]));
    assert!(site.visit(&stranger, "").is_err());
    site.edge.counts(reason, 2.0);
}

#[test]
fn an_optional_certificate_may_be_missing_and_nobody_can_pretend_to_have_shown_one() {
    let site = Site::new(", required: off", "");
    assert_eq!(site.visit(&TlsClient::of(&site.root), LIES), Ok(200));
    assert_eq!(site.told(), []);
    let stranger = TlsClient::showing(&site.root, &Authority::new("clients").issue(&["eve"]));
    assert!(site.visit(&stranger, "").is_err());
    let pair = site.clients.issue(&["alice.example.com"]);
    assert_eq!(site.visit(&TlsClient::showing(&site.root, &pair), ""), Ok(200));
    assert_eq!(site.told().len(), 4);
}

#[test]
fn a_trusted_proxy_may_tell_who_a_client_is_unless_it_shows_a_certificate_itself() {
    let site = Site::new(", required: off", "trusted_proxies: [127.0.0.1]\n");
    let told = "Client-Cert: :AAAA:\r\nX_Client_Cert_Subject: CN=root\r\n";
    assert_eq!(site.visit(&TlsClient::of(&site.root), told), Ok(200));
    assert_eq!(site.told(), [("Client-Cert".to_owned(), ":AAAA:".to_owned())]);
    let pair = site.clients.issue(&["proxy.example.com"]);
    assert_eq!(site.visit(&TlsClient::showing(&site.root, &pair), told), Ok(200));
    let told = site.told();
    assert!(!told.iter().any(|(_, value)| value == ":AAAA:") && told.len() == 4, "{told:?}");
}

#[test]
fn a_revoked_certificate_is_refused() {
    let site = Site::new(", crl: revoked.pem", "");
    let of = |serial: u64| {
        let pair = site.clients.issue_with(&["alice.example.com"], |params| {
            params.serial_number = Some(rcgen::SerialNumber::from(serial));
        });
        site.visit(&TlsClient::showing(&site.root, &pair), "")
    };
    assert_eq!(of(8), Ok(200));
    let refused = of(7).unwrap_err();
    assert!(refused.contains("CertificateRevoked"), "{refused}");
}

#[test]
fn a_session_from_where_no_certificate_is_asked_for_does_not_stand_for_one() {
    let site = Site::new("", "");
    let client = TlsClient::of(&site.root);
    let open = site.edge.addresses()[1];
    for _ in 0..2 {
        client.get(open, "shop.example.com", "/", "").unwrap();
    }
    let resumed = "homing_tls_handshakes_total{version=\"1.3\",resumed=\"yes\"}";
    site.edge.counts(resumed, 1.0);
    // The client offers its ticket here, too: it believes that this is the same server.
    let refused = site.visit(&client, "").unwrap_err();
    assert!(refused.contains("CertificateRequired"), "{refused}");
    site.edge.counts(resumed, 1.0);
}

#[test]
fn a_client_that_is_asked_for_its_certificate_shows_it_each_time() {
    let site = Site::new("", "");
    let pair = site.clients.issue(&["alice.example.com"]);
    let alice = TlsClient::showing(&site.root, &pair);
    for _ in 0..2 {
        assert_eq!(site.visit(&alice, ""), Ok(200));
        assert_eq!(site.told().len(), 4);
    }
    // An old one that has run out since, or was revoked, would do as well otherwise.
    site.edge.counts("homing_tls_handshakes_total{version=\"1.3\",resumed=\"no\"}", 2.0);
    site.edge.counts("homing_tls_handshakes_total{version=\"1.3\",resumed=\"yes\"}", 0.0);
}
