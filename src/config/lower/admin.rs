//! The `admin` section.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use super::super::fields::{Problems, Toggle};
use super::super::model::{Admin, Api, BearerToken};
use super::super::problem::Problem;
use super::super::scalar::{self, Switch};
use super::super::tree::Tree;
use super::secrets::secret_bytes;

/// Where the listener is unless the file says otherwise.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

/// Shortest token, in bytes: nobody guesses 16 random characters.
const TOKEN_BYTES_MIN: usize = 16;

const TOKEN_EXAMPLE: &str = "such as `token: { file: admin.token }`";

/// Reads the section; `None`: no admin listener.
pub(super) fn admin(
    tree: Option<&Tree>,
    directory: &Path,
    problems: &mut Problems,
) -> Option<Admin> {
    let bare = Some(Admin { address: ADDRESS, api: None });
    let Some(tree) = tree else { return bare };
    let toggle = Toggle::of(tree, "admin", &[Switch::On, Switch::Off]);
    let help = format!("such as `admin: {{ address: {ADDRESS} }}`");
    let tree = match problems.noted(toggle.map_err(|problem| problem.help(help)))? {
        Toggle::Off => return None,
        Toggle::On => return bare,
        Toggle::Section(tree) => tree,
    };
    let mut fields = problems.fields(tree, "`admin`")?;
    let address = fields.required("address", problems);
    let address = address.and_then(|tree| problems.scalar(tree, scalar::admin_address));
    let token = fields.optional("token").and_then(|tree| token(tree, directory, problems));
    let hosts = fields.optional("hosts");
    let named = hosts.and_then(|tree| problems.list(tree)).unwrap_or(&[]).iter();
    let named = named.filter_map(|tree| problems.scalar(tree, scalar::host)).collect();
    fields.finish(problems);
    let api = token.map(|token| Api { token, hosts: named });
    Some(Admin { address: address?, api })
}

fn token(tree: &Tree, directory: &Path, problems: &mut Problems) -> Option<BearerToken> {
    let secret = secret_bytes(tree, "a token", TOKEN_EXAMPLE, directory, problems)?;
    let secret = secret.trim_ascii();
    if secret.len() < TOKEN_BYTES_MIN {
        let text =
            format!("expected a token of at least {TOKEN_BYTES_MIN} bytes, found {}", secret.len());
        let help = "make one: (umask 077; head -c 32 /dev/urandom | base64 > FILE)";
        problems.note(Problem::at(tree.place, text).help(help));
        return None;
    }
    Some(BearerToken::new(secret))
}
