//! The log of the program itself, on standard error: rare changes of state, and what needs a hand.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// What is logged unless `HOMING_LOG` says otherwise. Pingora reports single requests as errors;
/// the access log does that with more to say.
const FILTER: &str = "info,pingora_core=warn,pingora_proxy=off,pingora_runtime=warn,pingora_core::services=error,pingora_core::apps=off";

/// Starts logging. A second start changes nothing.
pub fn start() {
    let filter = std::env::var("HOMING_LOG").unwrap_or_else(|_| FILTER.to_owned());
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let _started_before = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&filter).unwrap_or_else(|_| EnvFilter::new(FILTER)))
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_timer(SystemTime)
        .with_target(false)
        .try_init();
}
