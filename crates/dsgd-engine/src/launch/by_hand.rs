//! What a person reads who wants to let a worker join by hand.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use crate::host_name::host_name;
use dsgd_core::text::shell_word;

/// What a person reads who wants to join by hand: a command that works as it stands on another machine.
pub(super) fn join_line(
    address: SocketAddr,
    file: &Path,
    program: &str,
    login: Option<&str>,
) -> String {
    let file = shell_word(file);
    let host = outward(address);
    if address.ip().is_loopback() {
        return format!(
            "Listening on {address}, which is this machine's own. More workers join here with: \
             {program} worker < {file}"
        );
    }
    let login = login.map_or(String::new(), |name| format!("{name}@"));
    // ssh has brackets nowhere, and gives its words to another shell.
    let to = host.trim_start_matches('[').trim_end_matches(']');
    let there = shell_word(Path::new(&file));
    format!(
        "Listening on {address}. A machine that has this program, too, joins with: ssh {login}{to} \
         cat {there} | {program} worker --join https://{host}:{}",
        address.port()
    )
}

/// The host of a URL by which others reach that address: where we listen everywhere, the address
/// from which this machine would speak to the world, else its name.
pub(super) fn outward(address: SocketAddr) -> String {
    let bracketed = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    if !address.ip().is_unspecified() {
        return bracketed(address.ip());
    }
    // Nothing is sent: the system only chooses a route. The address is one of RFC 5737's.
    let ours = UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
        socket.connect(("192.0.2.1", 9))?;
        socket.local_addr()
    });
    ours.map_or_else(|_| host_name(), |ours| bracketed(ours.ip()))
}

/// Who may read the invitation.
pub(super) fn login() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut users = users.lines().map(|line| line.split(':'));
    users.find_map(|mut user| {
        let name = user.next()?;
        (user.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(address: &str, file: &str, login: Option<&str>) -> String {
        join_line(
            address.parse().unwrap(),
            Path::new(file),
            "/opt/mine",
            login,
        )
    }

    #[test]
    fn the_line_to_join_with_can_be_pasted_elsewhere() {
        let told = line("10.0.0.1:7077", "/r/invitation", Some("ann"));
        let command = "ssh ann@10.0.0.1 cat /r/invitation | /opt/mine worker --join \
                       https://10.0.0.1:7077";
        assert!(told.ends_with(command), "{told}");
        let told = line("[fd00::1]:7077", "/my run/invitation", None);
        let command = r"ssh fd00::1 cat ''\''/my run/invitation'\''' | /opt/mine worker --join https://[fd00::1]:7077";
        assert!(told.ends_with(command), "{told}");
        let everywhere = line("0.0.0.0:7077", "/r/invitation", None);
        assert!(!everywhere.contains("0.0.0.0:7077 cat") && !everywhere.contains("//0.0.0.0"));
    }

    #[test]
    fn nobody_elsewhere_is_asked_to_this_machine_s_own_port() {
        let told = line("127.0.0.1:7077", "/r/invitation", Some("ann"));
        assert!(told.ends_with("/opt/mine worker < /r/invitation"), "{told}");
        assert!(!told.contains("ssh"), "{told}");
    }
}
