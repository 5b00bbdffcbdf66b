//! What ssh and strangers said, made into errors and short words.
//!
//! ssh has one exit status for everything, so what happened is read from what it said.

use super::SshError;
use dsgd_core::text;

/// What ssh said when no connection came about, as an error. `known_as` is the host's name in
/// `known_hosts`.
pub(super) fn interpret(host: &str, known_as: &str, log: &str) -> SshError {
    let host = host.to_owned();
    let said = last_words(log);
    let has = |words: &[&str]| words.iter().any(|word| log.contains(word));
    // A name server that is away comes back.
    if let Some((_, rest)) = log.split_once("Could not resolve hostname ")
        && !log.contains("Temporary failure in name resolution")
    {
        let name = visible_line(rest.split(':').next().unwrap_or(&host));
        return SshError::Resolve { host, name };
    }
    if has(&[
        "HOST IDENTIFICATION HAS CHANGED",
        "differs from the key for",
    ]) {
        return SshError::KeyChanged {
            host,
            name: known_as.to_owned(),
            file: offending_file(log),
        };
    }
    if has(&["Host key verification failed", "host key is known for"]) {
        return SshError::KeyUnknown { host };
    }
    // It has just been switched on, or is about to be switched off.
    if has(&["is booting up", "going down", "nologin"]) {
        return SshError::Lost { host, said };
    }
    if has(&["Permission denied (", "Too many authentication failures"]) {
        return SshError::Denied { host, said };
    }
    if has(&["Connection refused"]) {
        return SshError::Refused { host };
    }
    let unreachable = [
        "Temporary failure in name resolution",
        "timed out",
        "No route to host",
        "Network is unreachable",
        "Host is down",
    ];
    if has(&unreachable) {
        return SshError::Unreachable { host, said };
    }
    if has(&[
        "closed by",
        "reset by peer",
        "Broken pipe",
        "not responding",
    ]) {
        return SshError::Lost { host, said };
    }
    SshError::Other { host, said }
}

/// The `-f FILE` for ssh-keygen, where ssh named a file that is not the usual one.
fn offending_file(log: &str) -> String {
    let Some((_, rest)) = log.split_once("Offending ") else {
        return String::new();
    };
    let line = rest.lines().next().unwrap_or_default();
    let file = line.split_once(" key in ").map(|(_, file)| file);
    let file = file.and_then(|file| file.rsplit_once(':'));
    match file {
        Some((file, _)) if !file.ends_with("/.ssh/known_hosts") => {
            format!(" -f {}", visible_line(file))
        }
        _ => String::new(),
    }
}

/// The end of what a stranger said, in one short line that does nothing to a terminal.
pub(super) fn last_words(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let meaningful =
        |line: &&str| !line.is_empty() && !line.starts_with("Warning: Permanently added");
    let lines: Vec<_> = lines.filter(meaningful).collect();
    let last = lines[lines.len().saturating_sub(2)..].join("; ");
    match visible_line(&last) {
        nothing if nothing.is_empty() => "it said nothing".to_owned(),
        said => said,
    }
}

/// A stranger's text, cut, without control characters.
pub(super) fn visible_line(text: &str) -> String {
    const MOST: usize = 300;
    let visible = text::line(text);
    visible.trim().chars().take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_said_is_distinguished() {
        type Is = fn(&SshError) -> bool;
        let kinds: [(&str, Is); 9] = [
            (
                "ssh: Could not resolve hostname nn: Name or service not known",
                |e| matches!(e, SshError::Resolve { name, .. } if name == "nn"),
            ),
            (
                "ssh: Could not resolve hostname nn: Temporary failure in name resolution",
                |e| matches!(e, SshError::Unreachable { .. }),
            ),
            (
                "System is booting up. See pam_nologin(8)\nroot@h: Permission denied (publickey).",
                |e| matches!(e, SshError::Lost { .. }),
            ),
            ("ssh: connect to host h port 22: Connection refused", |e| {
                matches!(e, SshError::Refused { .. })
            }),
            (
                "ssh: connect to host h port 22: Connection timed out",
                |e| matches!(e, SshError::Unreachable { .. }),
            ),
            ("root@h: Permission denied (publickey).", |e| {
                matches!(e, SshError::Denied { .. })
            }),
            (
                "No ED25519 host key is known for h and you have requested strict checking.\nHost key verification failed.",
                |e| matches!(e, SshError::KeyUnknown { .. }),
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nOffending ED25519 key in /a/k:3\nHost key verification failed.",
                |e| matches!(e, SshError::KeyChanged { file, .. } if file == " -f /a/k"),
            ),
            (
                "kex_exchange_identification: Connection closed by remote host",
                |e| matches!(e, SshError::Lost { .. }),
            ),
        ];
        for (log, is) in kinds {
            let error = interpret("h", "h", log);
            assert!(is(&error), "{log}: {error:?}");
        }
    }

    #[test]
    fn a_strangers_words_do_nothing_to_a_terminal() {
        assert_eq!(last_words("a\n\u{1b}[2Jevil\u{7}\n"), "a; evil");
        assert_eq!(last_words("\n \n"), "it said nothing");
        assert!(last_words(&"x".repeat(5000)).len() <= 300);
    }
}
