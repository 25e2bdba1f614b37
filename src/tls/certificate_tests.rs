//! What is wrong with certificates, told apart.

use std::process::Command;

use rcgen::{CertificateParams, CustomExtension, KeyPair};

use super::*;
use crate::tls::testing::{ED25519, P256, P384, below, issued, params, root};

fn read(chain: &str, key: &str) -> Result<Certificate, CertificateError> {
    Certificate::read(chain.as_bytes(), key.as_bytes())
}

fn pair(names: &[&str]) -> (String, String) {
    issued(&params(names), &KeyPair::generate().unwrap(), &root("root"))
}

fn openssl(arguments: &[&str], directory: &std::path::Path) {
    let done = Command::new("openssl").args(arguments).current_dir(directory).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_certificate_tells_its_names_its_kind_and_when_it_ends() {
    let key = KeyPair::generate_for(P384).unwrap();
    let mut params =
        params(&["A.example.com", "*.b.example.com", "10.0.0.1", "a.example.com", "f*.x.com"]);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 12, 31);
    let (chain, key) = issued(&params, &key, &root("root"));
    let read = read(&chain, &key).unwrap();
    let names: Vec<String> = read.names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a.example.com", "*.b.example.com", "10.0.0.1"]);
    assert_eq!((read.kind(), read.name()), (KeyKind::Ecdsa, "a.example.com".into()));
    let Validity { not_before, not_after } = read.validity();
    assert_eq!((not_before, not_after), (1_767_225_600, 1_798_675_200));
    let lapse = |now| read.validity().lapse(now);
    assert_eq!(lapse(not_before - 1), Some(Lapse::NotYet));
    assert_eq!((lapse(not_before), lapse(not_after)), (None, None));
    assert_eq!(lapse(not_after + 1), Some(Lapse::Expired));
}

#[test]
fn every_kind_of_key_and_every_way_to_write_it_is_read() {
    for kind in [P256, P384, ED25519] {
        let (chain, key) =
            issued(&params(&["a"]), &KeyPair::generate_for(kind).unwrap(), &root("root"));
        assert!(read(&chain, &key).is_ok(), "PKCS#8 of {kind:?}");
    }
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| std::fs::read_to_string(scratch.path().join(name)).unwrap();
    let self_signed = |key: &str| {
        let arguments = ["req", "-x509", "-key", key, "-out", "c.pem", "-subj", "/CN=a"];
        let names = ["-addext", "subjectAltName=DNS:a"];
        openssl(&[&arguments[..], &names].concat(), scratch.path());
    };
    let made = [
        (
            "SEC 1",
            ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "k.pem"].as_slice(),
            "EC PRIVATE",
        ),
        ("PKCS#1", ["genrsa", "-traditional", "-out", "k.pem", "2048"].as_slice(), "RSA PRIVATE"),
        ("PKCS#8", ["genrsa", "-out", "k.pem", "2048"].as_slice(), "BEGIN PRIVATE"),
    ];
    for (format, arguments, mark) in made {
        openssl(arguments, scratch.path());
        self_signed("k.pem");
        let key = at("k.pem");
        assert!(key.contains(mark), "{format}: {key}");
        assert!(read(&at("c.pem"), &key).is_ok(), "{format}");
        // Both in one file, in either order.
        let both = at("c.pem") + &key;
        assert!(read(&both, &both).is_ok(), "{format}");
    }
}

#[test]
fn what_clients_refuse_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| std::fs::read_to_string(scratch.path().join(name)).unwrap();
    let short =
        ["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", "k.pem", "-out", "c.pem"];
    let names = ["-subj", "/CN=a", "-addext", "subjectAltName=DNS:a"];
    openssl(&[&short[..], &names].concat(), scratch.path());
    let weak = CertificateError::WeakKey { number: 1, bits: 1024 };
    assert_eq!(read(&at("c.pem"), &at("k.pem")), Err(weak));
    let authority =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let of_authority = ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca"];
    openssl(&[&authority[..], &of_authority].concat(), scratch.path());
    let asked = [
        "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "k.pem", "-out", "r.pem", "-subj",
        "/CN=a",
    ];
    openssl(&asked, scratch.path());
    let signed = ["x509", "-req", "-sha1", "-in", "r.pem", "-CA", "ca.pem", "-CAkey", "ca.key"];
    openssl(&[&signed[..], &["-CAcreateserial", "-out", "c.pem"]].concat(), scratch.path());
    let forged = CertificateError::WeakSignature { number: 1, hash: "SHA-1" };
    assert_eq!(read(&at("c.pem"), &at("k.pem")), Err(forged));
    let (chain, key) =
        issued(&CertificateParams::default(), &KeyPair::generate().unwrap(), &root("r"));
    let subject = "CN=rcgen self signed cert".to_owned();
    assert_eq!(read(&chain, &key), Err(CertificateError::Nameless(subject)));
}

#[test]
fn a_chain_goes_link_by_link_and_none_is_missing() {
    let root = root("root");
    let middle = below("middle", &root);
    let (leaf, key) = issued(&params(&["a"]), &KeyPair::generate().unwrap(), &middle);
    let chain = |parts: &[&str]| read(&parts.concat(), &key).map(|_| ());
    assert_eq!(chain(&[&leaf, &middle.pem()]), Ok(()));
    assert_eq!(chain(&[&leaf, &middle.pem(), &root.pem()]), Ok(()));
    let wrong = |number, issuer: &str, next: &str| {
        let (issuer, next) = (format!("CN={issuer}"), format!("CN={next}"));
        Err(CertificateError::Disordered { number, issuer, next })
    };
    assert_eq!(chain(&[&leaf, &root.pem()]), wrong(1, "middle", "root"));
    assert_eq!(chain(&[&leaf, &root.pem(), &middle.pem()]), wrong(1, "middle", "root"));
    assert_eq!(
        chain(&[&leaf, &middle.pem(), &super::super::testing::root("other").pem()]),
        wrong(2, "root", "other")
    );
    // Of the right name, and with another key.
    let twin = below("middle", &root);
    assert_eq!(chain(&[&leaf, &twin.pem()]), wrong(1, "middle", "middle"));
    let crowd = vec![leaf.as_str(); 11];
    assert_eq!(chain(&crowd), Err(CertificateError::LongChain(11)));
}

#[test]
fn a_certificate_that_tells_where_its_issuer_is_needs_it() {
    // Authority information access, with `caIssuers` at http://a/ (RFC 5280 §4.2.2.1).
    let access = [
        0x30, 0x17, 0x30, 0x15, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02, 0x86,
        0x09, b'h', b't', b't', b'p', b':', b'/', b'/', b'a', b'/',
    ];
    let mut public = params(&["a"]);
    let oid = [1, 3, 6, 1, 5, 5, 7, 1, 1];
    public.custom_extensions = vec![CustomExtension::from_oid_content(&oid, access.to_vec())];
    let middle = below("middle", &root("root"));
    let (leaf, key) = issued(&public, &KeyPair::generate().unwrap(), &middle);
    assert_eq!(read(&leaf, &key), Err(CertificateError::Incomplete("CN=middle".into())));
    assert!(read(&(leaf + &middle.pem()), &key).is_ok());
    // An authority of one's own may issue by its root, which clients have.
    let (leaf, key) = pair(&["a"]);
    assert!(read(&leaf, &key).is_ok());
}

#[test]
fn files_that_hold_something_else_are_told_apart() {
    let (chain, key) = pair(&["a"]);
    let (_, other) = pair(&["a"]);
    assert_eq!(read(&chain, &other), Err(CertificateError::KeyMismatch));
    assert_eq!(read(&key, &key), Err(CertificateError::NoCertificate));
    assert_eq!(read("", &key), Err(CertificateError::NoCertificate));
    assert_eq!(read(&chain, &chain), Err(CertificateError::NoKey));
    assert_eq!(
        read(&chain.replace("-----END", "-----EN"), &key),
        Err(CertificateError::Damaged(1))
    );
    let cut: String =
        chain.lines().filter(|line| !line.starts_with("MII")).collect::<Vec<_>>().join("\n");
    assert_eq!(read(&cut, &key), Err(CertificateError::Damaged(1)));
    assert_eq!(
        read(&chain, &key.replace("-----END", "-----EN")),
        Err(CertificateError::DamagedKey)
    );
    for mark in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
    ] {
        assert_eq!(read(&chain, mark), Err(CertificateError::EncryptedKey));
    }
    let nonsense = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
    assert_eq!(read(&chain, nonsense), Err(CertificateError::UnusableKey));
}

#[test]
fn another_certificate_is_another_one_and_no_key_shows_itself() {
    let (chain, key) = pair(&["a"]);
    let (one, same) = (read(&chain, &key).unwrap(), read(&chain, &key).unwrap());
    let (chain, key) = pair(&["a"]);
    assert_eq!(one, same);
    assert_ne!(one, read(&chain, &key).unwrap());
    let shown = format!("{one:?}");
    assert!(shown.contains("names") && !shown.contains("certified"), "{shown}");
}
