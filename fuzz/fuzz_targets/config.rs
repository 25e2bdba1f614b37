//! Any text as a configuration: it is taken, or every mistake is told, in bounded time.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    // No directory: what the text names is not there.
    let path = Path::new("/nonexistent/homing.yaml");
    if let Err(error) = homing::config::parse(path, source.to_owned()) {
        let told = error.to_string();
        assert!(!told.is_empty());
    }
});
