//! The group's machines: which there are, and waiting for them.

use std::collections::HashSet;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Deserialize;

use super::call::{GcloudError, json, next};
use super::lines;
use super::options::Group;
use dsgd_engine::hosts::Host;
use dsgd_observe::output::say;

/// Between two looks at the group.
const POLL: Duration = Duration::from_secs(2);
/// For one attempt to reach an sshd, and between two.
const ATTEMPT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);

/// A machine of the group, as the group sees it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member {
    /// Its URL, which ends with its name.
    instance: String,
    #[serde(default)]
    instance_status: String,
    #[serde(default)]
    current_action: String,
    #[serde(default)]
    last_attempt: LastAttempt,
}

#[derive(Debug, Default, Deserialize)]
struct LastAttempt {
    #[serde(default)]
    errors: Errors,
}

#[derive(Debug, Default, Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<Problem>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// A machine of the group, with its addresses.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: String,
    /// `RUNNING`, `STAGING`, `TERMINATED` and others
    pub(super) state: String,
    external: Option<IpAddr>,
    internal: Option<IpAddr>,
}

impl Machine {
    pub(super) fn address(&self, internal: bool) -> Option<IpAddr> {
        if internal {
            self.internal
        } else {
            self.external
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    name: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    network_interfaces: Vec<Interface>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    #[serde(rename = "networkIP")]
    network_ip: Option<IpAddr>,
    #[serde(rename = "accessConfigs", default)]
    access: Vec<Access>,
}

#[derive(Debug, Deserialize)]
struct Access {
    #[serde(rename = "natIP")]
    nat_ip: Option<IpAddr>,
}

impl Member {
    fn name(&self) -> &str {
        self.instance.rsplit('/').next().unwrap_or_default()
    }

    fn runs(&self) -> bool {
        self.instance_status == "RUNNING" && self.current_action == "NONE"
    }

    fn problems(&self) -> impl Iterator<Item = String> {
        let problems = self.last_attempt.errors.errors.iter();
        problems.map(|problem| format!("{}: {}", problem.code, problem.message))
    }
}

pub(super) fn members(group: &Group) -> Result<Vec<Member>, GcloudError> {
    json(&lines::members(group))
}

/// The members with their addresses, by name.
pub(super) fn with_addresses(
    group: &Group,
    members: &[Member],
) -> Result<Vec<Machine>, GcloudError> {
    let names: HashSet<&str> = members.iter().map(Member::name).collect();
    // Others may have been given the same tag.
    let mut instances: Vec<Instance> = json(&lines::machines(group))?;
    instances.retain(|instance| names.contains(instance.name.as_str()));
    let machines = instances.into_iter().map(|instance| {
        let interface = instance.network_interfaces.first();
        Machine {
            external: interface.and_then(|i| i.access.iter().find_map(|a| a.nat_ip)),
            internal: interface.and_then(|i| i.network_ip),
            name: instance.name,
            state: instance.status,
        }
    });
    let mut machines: Vec<_> = machines.collect();
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(machines)
}

/// Waits until the group has all its machines and they run.
///
/// # Errors
/// At the deadline, with what Google says of the attempts; and at once if it is a quota, which
/// no waiting makes larger.
pub(super) fn all_run(group: &Group, size: usize, deadline: Instant) -> anyhow::Result<()> {
    let mut said = None;
    loop {
        let members = members(group)?;
        let running = members.iter().filter(|member| member.runs()).count();
        if said != Some(running) {
            say(format_args!("{running} of {size} machines run"));
            said = Some(running);
        }
        if running == size && members.len() == size {
            return Ok(());
        }
        let problem = members.iter().flat_map(Member::problems).next();
        let is_quota = problem
            .as_ref()
            .is_some_and(|p| p.to_lowercase().contains("quota"));
        if is_quota || Instant::now() + POLL > deadline {
            match problem {
                Some(words) => bail!(
                    "{running} of {size} machines run; Google says: {words}\nNext: {}",
                    next(&words)
                ),
                None => bail!("{running} of {size} machines run; pass --wait for more time"),
            }
        }
        thread::sleep(POLL);
    }
}

/// Waits until an sshd answers on each.
///
/// # Errors
/// At the deadline, naming those that did not answer, and why.
pub(super) fn ssh_answers(hosts: &[Host], port: u16, deadline: Instant) -> anyhow::Result<()> {
    let silent = thread::scope(|scope| {
        let waits: Vec<_> = hosts
            .iter()
            .map(|host| {
                (
                    host,
                    scope.spawn(move || answer(&host.name, port, deadline)),
                )
            })
            .collect();
        let ends = waits.into_iter().map(|(host, wait)| {
            let end = wait
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("panic")));
            end.err().map(|error| format!("{}: {error}", host.name))
        });
        ends.flatten().collect::<Vec<_>>()
    });
    if silent.is_empty() {
        return Ok(());
    }
    bail!(
        "ssh does not answer on {} of {} machines ({}); check --source-ranges and the network's \
         firewall rules, or pass --wait for more time",
        silent.len(),
        hosts.len(),
        silent.join(", ")
    )
}

/// Tries until there is an answer; the last error if there is none.
fn answer(name: &str, port: u16, deadline: Instant) -> io::Result<()> {
    let address: IpAddr = name.parse().map_err(io::Error::other)?;
    loop {
        match banner(SocketAddr::new(address, port)) {
            Err(_) if Instant::now() + PAUSE < deadline => thread::sleep(PAUSE),
            end => return end,
        }
    }
}

/// The first bytes that an sshd says.
fn banner(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, ATTEMPT)?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    let mut first = [0; 4];
    stream.read_exact(&mut first)?;
    match &first {
        b"SSH-" => Ok(()),
        _ => Err(io::Error::other("what answers there is no sshd")),
    }
}
