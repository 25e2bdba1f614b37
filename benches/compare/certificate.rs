//! The certificate that all proxies show: one for all, made for the run.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{
    failure::{Context, Failure},
    workload,
};

/// Files of an ECDSA certificate (P-256) for [`workload::HOST`], which signs itself.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub(crate) both: PathBuf,
    /// For who has to trust it.
    pub(crate) der: PathBuf,
}

impl Certificate {
    pub(crate) fn make(directory: &Path) -> Result<Self, Failure> {
        let made = rcgen::generate_simple_self_signed([workload::HOST.to_owned()])
            .context(|| "cannot make a certificate".to_owned())?;
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let write = |name: &str, content: &[u8]| {
            let path = directory.join(name);
            // Of its owner alone: some proxies refuse keys that others can read.
            let file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
            file.and_then(|mut file| file.write_all(content))
                .context(|| format!("cannot write {}", path.display()))?;
            fs::canonicalize(&path).context(|| format!("cannot find {}", path.display()))
        };
        Ok(Self {
            chain: write("chain.pem", chain.as_bytes())?,
            key: write("key.pem", key.as_bytes())?,
            both: write("both.pem", format!("{chain}{key}").as_bytes())?,
            der: write("certificate.der", made.cert.der())?,
        })
    }
}
