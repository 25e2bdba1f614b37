//! Who a client is by its certificate, as an app gets to know it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::ToDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_DOMAIN_COMPONENT, OID_USERID, OID_X509_COMMON_NAME, OID_X509_COUNTRY_NAME,
    OID_X509_LOCALITY_NAME, OID_X509_ORGANIZATION_NAME, OID_X509_ORGANIZATIONAL_UNIT,
    OID_X509_STATE_OR_PROVINCE_NAME, OID_X509_STREET_ADDRESS, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::Fingerprint;
use super::certificate::address;

/// Attributes that have a short name (RFC 4514 §3).
const SHORT: [(&Oid<'static>, &str); 9] = [
    (&OID_X509_COMMON_NAME, "CN"),
    (&OID_X509_LOCALITY_NAME, "L"),
    (&OID_X509_STATE_OR_PROVINCE_NAME, "ST"),
    (&OID_X509_ORGANIZATION_NAME, "O"),
    (&OID_X509_ORGANIZATIONAL_UNIT, "OU"),
    (&OID_X509_COUNTRY_NAME, "C"),
    (&OID_X509_STREET_ADDRESS, "STREET"),
    (&OID_DOMAIN_COMPONENT, "DC"),
    (&OID_USERID, "UID"),
];

/// Who a client is: a verified certificate, as the values of headers. Made once for a connection.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate (`Client-Cert`, RFC 9440 §2.2).
    pub certificate: HeaderValue,
    /// The rest of its chain, if it sent any (`Client-Cert-Chain`, §2.3).
    pub chain: Option<HeaderValue>,
    /// The subject, as a string of RFC 4514.
    pub subject: HeaderValue,
    /// The alternative names, such as `DNS:a.example.com, URI:spiffe://a/b`; `None`: there are none.
    pub names: Option<HeaderValue>,
    /// The SHA-256 hash of the certificate, in lower-case hexadecimal.
    pub fingerprint: HeaderValue,
}

impl Identity {
    /// What a chain tells that was verified: the certificate of the client first. `None`: there is none.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (own, rest) = chain.split_first()?;
        let (_, certificate) = X509Certificate::from_der(own.as_ref()).ok()?;
        let rest: Vec<String> = rest.iter().map(|der| byte_sequence(der)).collect();
        let chain = (!rest.is_empty()).then(|| value(&rest.join(", ")));
        let names = names(&certificate);
        Some(Self {
            certificate: value(&byte_sequence(own)),
            chain,
            subject: value(&subject(certificate.subject())),
            names: (!names.is_empty()).then(|| value(&names)),
            fingerprint: value(&Fingerprint::of(own).to_string()),
        })
    }
}

/// Bytes as a structured field has them (RFC 9651 §4.1.8).
fn byte_sequence(bytes: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(bytes))
}

/// All that is made here is printable ASCII.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A name as a string (RFC 4514 §2): the last part first.
fn subject(name: &X509Name<'_>) -> String {
    let part = |attributes: Vec<String>| attributes.join("+");
    let parts: Vec<String> =
        name.iter_rdn().map(|rdn| part(rdn.iter().map(attribute).collect())).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type();
    let short = SHORT.iter().find(|(own, _)| *own == oid).map(|(_, short)| (*short).to_owned());
    match (short, attribute.as_str()) {
        (Some(short), Ok(text)) => format!("{short}={}", escaped(text)),
        // Without a name the value is not text that means anything: its DER, in hexadecimal (§2.4).
        (short, _) => {
            let mut shown = short.unwrap_or_else(|| oid.to_id_string());
            shown.push_str("=#");
            for byte in attribute.attr_value().to_der_vec().unwrap_or_default() {
                let _infallible = write!(shown, "{byte:02x}");
            }
            shown
        }
    }
}

/// The value of an attribute, so that it cannot be taken for another attribute (RFC 4514 §2.4), in printable ASCII.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (place, byte) in text.bytes().enumerate() {
        let special = b"\"+,;<>\\=".contains(&byte)
            || (byte == b'#' && place == 0)
            || (byte == b' ' && (place == 0 || place == last));
        match byte {
            byte if special => shown.extend(['\\', char::from(byte)]),
            b' '..=b'~' => shown.push(char::from(byte)),
            byte => {
                let _infallible = write!(shown, "\\{byte:02X}");
            }
        }
    }
    shown
}

/// The alternative names, in their order.
#[expect(clippy::wildcard_enum_match_arm, reason = "what else there is stands in the certificate")]
fn names(certificate: &X509Certificate<'_>) -> String {
    let Ok(Some(listed)) = certificate.subject_alternative_name() else { return String::new() };
    let shown = listed.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{}", encoded(name))),
        GeneralName::URI(uri) => Some(format!("URI:{}", encoded(uri))),
        GeneralName::RFC822Name(name) => Some(format!("email:{}", encoded(name))),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| format!("IP:{address}")),
        _ => None,
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// A name that cannot be taken for two: what is not printable, and what separates, as in a URL.
fn encoded(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b',' | b'"' | b'\\' => {
                let _infallible = write!(shown, "%{byte:02X}");
            }
            b'!'..=b'~' => shown.push(char::from(byte)),
            byte => {
                let _infallible = write!(shown, "%{byte:02X}");
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn identity(parts: &[(DnType, &str)], names: Vec<SanType>) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, text) in parts {
            params.distinguished_name.push(kind.clone(), *text);
        }
        params.subject_alt_names = names;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Identity::of(&[certificate.der().clone()]).unwrap()
    }

    #[test]
    fn a_subject_cannot_pretend_to_have_more_parts_than_it_has() {
        let told = identity(
            &[
                (DnType::OrganizationName, "Acme, Inc."),
                (DnType::CommonName, "eve,O=Acme+CN=admin"),
            ],
            vec![],
        );
        assert_eq!(told.subject, r"CN=eve\,O\=Acme\+CN\=admin,O=Acme\, Inc.");
        assert!(told.names.is_none() && told.chain.is_none());
    }

    #[test]
    fn what_is_not_printable_is_escaped() {
        let told = identity(&[(DnType::CommonName, " ü\r\nX: y#")], vec![]);
        assert_eq!(told.subject, r"CN=\ \C3\BC\0D\0AX: y#");
        assert_eq!(escaped("#a "), r"\#a\ ");
    }

    #[test]
    fn an_alternative_name_cannot_pretend_to_be_two() {
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let told = identity(
            &[(DnType::CommonName, "a")],
            vec![
                uri("spiffe://a/b, DNS:admin.example.com"),
                SanType::DnsName("a.example.com".try_into().unwrap()),
                SanType::IpAddress("10.0.0.1".parse().unwrap()),
            ],
        );
        let expected =
            "URI:spiffe://a/b%2C%20DNS:admin.example.com, DNS:a.example.com, IP:10.0.0.1";
        assert_eq!(told.names.unwrap(), expected);
    }

    #[test]
    fn the_certificate_and_its_chain_are_structured_fields() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let der = certificate.der().clone();
        let told = Identity::of(&[der.clone(), der.clone(), der.clone()]).unwrap();
        let own = format!(":{}:", STANDARD.encode(&der));
        assert_eq!(told.certificate, own);
        assert_eq!(told.chain.unwrap(), format!("{own}, {own}"));
        assert_eq!(told.fingerprint, Fingerprint::of(&der).to_string());
    }
}
