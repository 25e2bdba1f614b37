//! Notices that the configuration changed, whichever way: written in place, replaced by a rename, or
//! behind a link that leads elsewhere now.
//!
//! The files are looked at, not watched by the kernel: that is one system call for each of a few files
//! now and then, and the same on every file system and for every way to replace a file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

/// How often the files are looked at. A change is taken when it looks the same twice: a file that is
/// still being written is left alone.
const INTERVAL: Duration = Duration::from_millis(250);

/// What a file looks like from outside; `None`: it is not there.
type Look = Option<(u64, u64, u64, i64, i64, i64, i64)>;

/// What the files of a configuration look like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Fingerprint(Vec<(PathBuf, Look)>);

impl Fingerprint {
    /// Looks at a file and at those that it names.
    pub(super) fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        Self(paths.into_iter().map(|path| (path.to_owned(), look(path))).collect())
    }

    /// Whatever is at `path` was not read.
    pub(super) fn unread(path: &Path) -> Self {
        Self(vec![(path.to_owned(), None)])
    }

    /// The same for other files: those that are known look as they did.
    pub(super) fn with<'p>(&self, paths: impl IntoIterator<Item = &'p Path>) -> Self {
        let known = |path: &Path| self.0.iter().find(|(own, _)| own == path).map(|own| own.1);
        let look = |path: &'p Path| (path.to_owned(), known(path).unwrap_or_else(|| look(path)));
        Self(paths.into_iter().map(look).collect())
    }

    /// Whether the files look otherwise by now.
    pub(super) fn has_changed(&self) -> bool {
        self.again() != *self
    }

    /// Whether the configuration itself is there. What it names may be gone with its mention.
    pub(super) fn is_there(&self) -> bool {
        self.0.first().is_some_and(|(_, look)| look.is_some())
    }

    fn again(&self) -> Self {
        Self::of(self.0.iter().map(|(path, _)| path.as_path()))
    }
}

fn look(path: &Path) -> Look {
    let data = fs::metadata(path).ok()?;
    let (changed, touched) = ((data.ctime(), data.ctime_nsec()), (data.mtime(), data.mtime_nsec()));
    Some((data.dev(), data.ino(), data.size(), changed.0, changed.1, touched.0, touched.1))
}

/// Compares what files look like with what they looked like when they were read.
#[derive(Debug)]
pub(super) struct Watch {
    read: Fingerprint,
    last: Fingerprint,
    ticks: Option<Interval>,
}

impl Watch {
    /// `read`: what the files looked like just before they were read.
    pub(super) fn new(read: Fingerprint) -> Self {
        Self { last: read.clone(), read, ticks: None }
    }

    /// Whether there is something new, that does not change any more.
    fn look(&mut self, now: Fingerprint) -> bool {
        let settled = now == self.last && now.is_there();
        let is_new = now != self.read;
        self.last = now;
        settled && is_new
    }

    /// Resolves when there is something new to read, and again and again until it is read. To drop
    /// the future loses nothing.
    pub(super) async fn changed(&mut self) {
        loop {
            self.ticks.get_or_insert_with(ticks).tick().await;
            let last = self.last.clone();
            // A file system that does not answer must hold up nothing else.
            let Ok(now) = tokio::task::spawn_blocking(move || last.again()).await else { continue };
            if self.look(now) {
                return;
            }
        }
    }
}

fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&Path)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "one").unwrap();
        let mut watch = Watch::new(Fingerprint::of([path.as_path()]));
        let now = || Fingerprint::of([path.as_path()]);
        assert!(!watch.look(now()) && !watch.look(now()), "nothing changed");
        change(&path);
        assert!(!watch.look(now()), "it may still be changing");
        assert!(watch.look(now()), "it settled");
    }

    #[test]
    fn a_file_that_was_written_in_place_changed() {
        check(|path| fs::write(path, "two, longer").unwrap());
    }

    #[test]
    fn a_file_that_was_replaced_by_a_rename_changed() {
        check(|path| {
            let other = path.with_extension("new");
            fs::write(&other, "two").unwrap();
            fs::rename(other, path).unwrap();
        });
    }

    #[test]
    fn a_link_that_leads_elsewhere_changed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // As Kubernetes mounts a ConfigMap: file -> ..data/file, ..data -> a directory by time.
        for name in ["first", "second"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), "same").unwrap();
        }
        std::os::unix::fs::symlink("first", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/file", at("file")).unwrap();
        let (path, now) = (at("file"), || Fingerprint::of([at("file").as_path()]));
        let mut watch = Watch::new(Fingerprint::of([path.as_path()]));
        std::os::unix::fs::symlink("second", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert!(!watch.look(now()) && watch.look(now()));
    }

    #[test]
    fn a_file_that_is_gone_for_a_moment_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "one").unwrap();
        let mut watch = Watch::new(Fingerprint::of([path.as_path()]));
        let now = || Fingerprint::of([path.as_path()]);
        fs::remove_file(&path).unwrap();
        assert!(!watch.look(now()) && !watch.look(now()));
        fs::write(&path, "two, longer").unwrap();
        assert!(!watch.look(now()) && watch.look(now()));
    }
}
