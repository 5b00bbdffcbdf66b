//! The name of this machine.

use std::fs;

/// What this machine calls itself.
pub fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "somewhere".to_owned(),
        name => name.to_owned(),
    }
}
