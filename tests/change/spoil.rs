//! The ways in which a successor fails, each with its repair.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::harness::write_key;
use crate::site::{Site, in_state, taken_port};

/// What is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Spoil {
    Mistake,
    Junk,
    NotExecutable,
    Missing,
    Hangs,
    PortTaken,
    KeyUnreadable,
    KeyTooShort,
    EndsAtOnce,
    StateDamaged,
}

/// All of them.
pub(crate) const SPOILS: [Spoil; 10] = [
    Spoil::Mistake,
    Spoil::Junk,
    Spoil::NotExecutable,
    Spoil::Missing,
    Spoil::Hangs,
    Spoil::PortTaken,
    Spoil::KeyUnreadable,
    Spoil::KeyTooShort,
    Spoil::EndsAtOnce,
    Spoil::StateDamaged,
];

/// What is spoilt for as long as this lives.
pub(crate) struct Spoilt {
    what: Spoil,
    /// Words that the operator must read, one of each group.
    pub(crate) words: Vec<String>,
    state: Option<Vec<u8>>,
    _port: Option<TcpListener>,
}

const STATE: &str = "administrative.json";

impl Spoil {
    /// Makes it so.
    pub(crate) fn make(self, site: &Site) -> Spoilt {
        let mut shape = site.shape.clone();
        let key = site.edge.directory().join("other-key");
        let (mut state, mut port) = (None, None);
        let program = site.program().to_string_lossy().into_owned();
        let words: Vec<String> = match self {
            Self::Mistake => {
                shape.slip = ", treads: 3";
                vec!["homing.yaml:6:".into(), "treads".into()]
            }
            Self::Junk => {
                replace_program(site, b"\x7fELF and nothing else", 0o755);
                vec![format!("cannot run {program}"), "Exec format error".into()]
            }
            Self::NotExecutable => {
                replace_program(site, b"#!/bin/sh\nexit 0\n", 0o644);
                vec![format!("cannot run {program}"), "Permission denied".into()]
            }
            Self::Missing => {
                fs::remove_file(site.program()).unwrap();
                vec![format!("cannot run {program}"), "No such file".into()]
            }
            Self::Hangs => {
                replace_program(site, b"#!/bin/sh\nexec sleep 60\n", 0o755);
                vec!["did not serve within 5s".into()]
            }
            Self::PortTaken => {
                let taken = port.insert(taken_port());
                let address = taken.local_addr().unwrap();
                shape.listeners.push(address);
                vec![format!("cannot listen on {address}"), "another process".into()]
            }
            Self::KeyUnreadable => {
                write_key(&key, "a secret of the tests, long enough for a key");
                fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
                shape.key = "other-key".into();
                vec!["other-key".into(), "may be read by others".into()]
            }
            Self::KeyTooShort => {
                write_key(&key, "too short");
                shape.key = "other-key".into();
                vec!["other-key".into(), "32".into()]
            }
            Self::EndsAtOnce => {
                replace_program(site, b"#!/bin/sh\nexit 7\n", 0o755);
                vec!["ended before it served (exit status: 7)".into()]
            }
            Self::StateDamaged => {
                let path = in_state(&site.edge, STATE);
                state = fs::read(&path).ok();
                fs::write(path, "{\"version\":1,").unwrap();
                vec![STATE.into()]
            }
        };
        site.replace(&shape);
        Spoilt { what: self, words, state, _port: port }
    }
}

impl Spoilt {
    /// Makes it good again.
    pub(crate) fn repair(self, site: &Site) {
        site.restore_program();
        site.replace(&site.shape);
        if self.what == Spoil::StateDamaged {
            let path = in_state(&site.edge, STATE);
            match &self.state {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
    }
}

fn replace_program(site: &Site, bytes: &[u8], mode: u32) {
    let next = site.program().with_extension("next");
    fs::write(&next, bytes).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(next, site.program()).unwrap();
}
