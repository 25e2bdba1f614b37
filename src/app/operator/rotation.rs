//! The keys: listed, rotated and retired, and nobody's pin moves.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::files;
use super::super::keys::{made_keys, new_secret, ring, secrets};
use super::{Operator, write_down};
use crate::admin::command::{Kind, Outcome, Refused};
use crate::balancer::affinity::keyring::{KEYS_MAX, Key, Keyring};
use crate::balancer::state::Event;
use crate::config::model::Keys;

impl Operator {
    /// The running ring: the balancer knows of its use.
    fn ring(&self) -> Option<Arc<Keyring>> {
        self.serving.published.load().keyring.clone()
    }

    pub(super) fn list_keys(&self) -> Value {
        let now = self.serving.clock.unix().as_secs();
        let made = matches!(self.config.keys, Keys::Generated);
        let ring = self.ring();
        let keys = ring.iter().flat_map(|ring| ring.keys()).zip(0..).map(|(key, place)| {
            let last = key.used().last();
            json!({
                "id": key.id().to_string(),
                "seals": place == 0,
                "opens": key.used().opens(),
                "used_seconds_ago": (last > 0).then(|| now.saturating_sub(last)),
            })
        });
        json!({
            "keys": keys.collect::<Vec<_>>(),
            "made_by_homing": made,
            "watched_seconds": now.saturating_sub(self.serving.watching_since()),
            "idle_seconds": self.longest_idle().as_secs(),
        })
    }

    /// How long a pin of any app may go unused.
    fn longest_idle(&self) -> Duration {
        let idle = self.spec.apps.iter().filter_map(|app| Some(app.affinity.as_ref()?.limits.idle));
        idle.max().unwrap_or_default()
    }

    pub(super) async fn rotate_keys(&mut self) -> Outcome {
        let mut secrets = self.made_secrets()?;
        if secrets.len() >= KEYS_MAX {
            let text = format!(
                "there are {KEYS_MAX} keys already: `homing keys retire` one that is not used"
            );
            return Err(Refused::new(Kind::Invalid, text));
        }
        secrets.insert(0, new_secret());
        let ring = self.take_keys(secrets).await?;
        let id = ring.keys()[0].id();
        Ok(json!({
            "message": format!("key {id} seals from now on; the others open, and what they sealed is sealed anew when used"),
            "id": id.to_string(),
        }))
    }

    pub(super) async fn retire_key(&mut self, id: &str, force: bool) -> Outcome {
        let ring = self.ring();
        let keys = ring.as_ref().map_or(&[][..], |ring| ring.keys());
        let place = keys.iter().position(|key| key.id().to_string() == id);
        let Some(place) = place else {
            return Err(Refused::new(Kind::Unknown, format!("there is no key {id}")));
        };
        if place == 0 {
            let text =
                format!("key {id} seals: rotate first, and retire it when it is not used any more");
            return Err(Refused::new(Kind::Invalid, text));
        }
        if !force {
            self.is_unused(&keys[place])?;
        }
        if matches!(self.config.keys, Keys::Listed(_)) {
            let text = format!("key {id} can go: take it out of `affinity_keys`, on every edge");
            return Ok(json!({ "message": text, "id": id }));
        }
        let mut secrets = self.made_secrets()?;
        secrets.remove(place);
        self.take_keys(secrets).await?;
        Ok(json!({ "message": format!("key {id} is retired"), "id": id }))
    }

    /// Refuses to give up a key that clients may still hold tokens under.
    fn is_unused(&self, key: &Key) -> Result<(), Refused> {
        let now = self.serving.clock.unix().as_secs();
        let idle = self.longest_idle().as_secs();
        let watched = now.saturating_sub(self.serving.watching_since());
        let (opens, last) = (key.used().opens(), key.used().last());
        let ago = now.saturating_sub(last);
        let why = if last > 0 && ago <= idle {
            format!("{opens} requests came with it, the last {ago} s ago")
        } else if watched < idle {
            format!("its use was watched for {watched} s only")
        } else {
            return Ok(());
        };
        let text = format!(
            "clients may hold tokens under key {}: {why}, and a pin may go unused for {idle} s\n  = help: wait, or \
             retire it with --force: those clients are pinned anew",
            key.id()
        );
        Err(Refused::new(Kind::Invalid, text))
    }

    /// The secrets that Homing made; those that are listed are not ours to change.
    fn made_secrets(&self) -> Result<Vec<String>, Refused> {
        if matches!(self.config.keys, Keys::Listed(_)) {
            let text = "the keys are listed in `affinity_keys`\n  = help: `homing keys generate FILE` makes one; list it \
                        last on every edge, then first, then `homing keys retire` the old one";
            return Err(Refused::new(Kind::Invalid, text));
        }
        let path = made_keys(&self.config.state_dir);
        secrets(&path).map_err(|error| Refused::new(Kind::Failed, error.to_string()))
    }

    /// Writes the keys down, and seals and opens with them from then on.
    async fn take_keys(&mut self, secrets: Vec<String>) -> Result<Keyring, Refused> {
        let failed = |error: &dyn std::fmt::Display| {
            Refused::new(Kind::Failed, format!("nothing changed: {error}"))
        };
        let ring = ring(&secrets).map_err(|error| failed(&error))?;
        let path = made_keys(&self.config.state_dir);
        let text = secrets.join("\n") + "\n";
        let written = write_down(move || files::write(&path, text.as_bytes())).await;
        written.map_err(|error| failed(&error))?;
        self.spec.keyring = ring.clone();
        self.spec.taken = self.serving.clock.unix().as_secs();
        self.keeper.apply(Event::Configured(Box::new(self.spec.clone()))).await;
        Ok(ring)
    }
}
