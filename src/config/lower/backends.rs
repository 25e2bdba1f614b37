//! The `backends` section of an app.

use super::super::fields::Problems;
use super::super::problem::Problem;
use super::super::scalar;
use super::super::tree::Tree;
use super::firsts::Firsts;
use crate::balancer::affinity::token::BackendHash;
use crate::balancer::app::backend::{Address, BACKENDS_MAX, BackendSpec, WEIGHT_MAX};
use crate::balancer::name::{BackendId, Incarnation};

/// Reads the backends; ids and addresses are unique among them.
pub(super) fn backends(tree: &Tree, problems: &mut Problems) -> Vec<BackendSpec> {
    let items = problems.list(tree).unwrap_or(&[]);
    if items.len() > BACKENDS_MAX {
        let text = format!("expected at most {BACKENDS_MAX} backends, found {}", items.len());
        problems.note(Problem::at(tree.place, text));
    }
    let mut ids: Firsts<BackendHash, (BackendId, usize)> = Firsts::default();
    let mut addresses: Firsts<Address, usize> = Firsts::default();
    let mut backends = Vec::with_capacity(items.len());
    for item in items {
        let Some(backend) = backend(item, problems) else { continue };
        let (id, line) = (&backend.id, item.place.line);
        if let Some((other, first)) = ids.earlier(BackendHash::of(id), (id.clone(), line)) {
            let text = if other == *id {
                format!("two backends have the id `{id}`; the first is on line {first}")
            } else {
                format!("`{id}` and `{other}` (line {first}) have the same hash")
            };
            problems.note(Problem::at(item.place, text).help("give one of them another id"));
        }
        let address = &backend.address;
        if let Some(first) = addresses.earlier(address.clone(), line) {
            let text =
                format!("two backends have the address `{address}`; the first is on line {first}");
            let help = "one process is one backend; use `weight` for a larger share";
            problems.note(Problem::at(item.place, text).help(help));
        }
        backends.push(backend);
    }
    backends
}

fn backend(tree: &Tree, problems: &mut Problems) -> Option<BackendSpec> {
    let mut fields = problems.fields(tree, "a backend")?;
    let id = fields.required("id", problems);
    let id = id.and_then(|tree| problems.scalar(tree, BackendId::parse));
    let address = fields.required("address", problems);
    let address = address.and_then(|tree| problems.scalar(tree, scalar::backend_address));
    let weight = problems.number_or(fields.optional("weight"), &(1..=WEIGHT_MAX), 1);
    let incarnation = fields.optional("incarnation");
    let incarnation = incarnation.and_then(|tree| problems.scalar(tree, Incarnation::parse));
    fields.finish(problems);
    Some(BackendSpec { id: id?, address: address?, weight, incarnation })
}
