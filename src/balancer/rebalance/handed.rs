//! What a process that is replaced knows of live clients, for its successor. Told once: who comes later is seen
//! by the successor itself.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::balancer::state::Snapshot;

/// The live clients of all apps that even them out, and those with streams of the others, by the name of the app.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Handed(BTreeMap<String, HandedApp>);

/// The live clients of one app.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
struct HandedApp {
    /// Who is bound where: [`super::census::Census::export`] in base64.
    census: String,
    /// The marks of clients whose streams the process that is replaced still has.
    streams: Vec<u64>,
}

impl Handed {
    /// What this process knows.
    pub fn gather(snapshot: &Snapshot) -> Self {
        let handed = snapshot.apps.iter().filter_map(|view| {
            let moves = view.app.live.moves_seen()?;
            let census = STANDARD.encode(moves.census.export());
            let streams = moves.streaming();
            let nothing = streams.is_empty() && !view.rebalances();
            (!nothing).then(|| (view.app.name.to_string(), HandedApp { census, streams }))
        });
        Self(handed.collect())
    }

    /// Takes in what another process knew. What makes no sense is skipped.
    pub fn add_to(&self, snapshot: &Snapshot) {
        for view in snapshot.apps.iter() {
            let Some(handed) = self.0.get(view.app.name.as_str()) else { continue };
            let moves = view.app.live.moves();
            if let Ok(census) = STANDARD.decode(&handed.census) {
                moves.census.absorb(&census);
            }
            moves.stream_elsewhere(&handed.streams);
        }
    }
}

/// Forgets streams of processes that are gone.
pub fn forget_streams_elsewhere(snapshot: &Snapshot) {
    let moves = snapshot.apps.iter().filter_map(|view| view.app.live.moves_seen());
    moves.for_each(|moves| moves.forget_elsewhere());
}
