//! `dsgd hosts gcloud`: hosts of Google Cloud, made and deleted by the user's own `gcloud`.
//!
//! A group is three things that are named after it: a firewall rule that lets ssh in and nothing
//! else, a template of the machine, and the managed group that makes N of them. `create` makes
//! the three, waits until ssh answers on each machine, and writes their addresses to the host
//! list; `delete` takes back all of it. Nothing is remembered but in Google's cloud and in the
//! list's first line, so each command can be called from anywhere, and again.
//!
//! It leaves out what `gcloud` does well by itself: logging in, projects, quotas.

mod call;
mod lines;
mod list;
mod machines;
mod options;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};

use self::call::{GcloudError, gcloud};
use self::lines::Line;
use self::machines::Machine;
use self::options::{CreateArgs, DeleteArgs, Group, ListArgs};
use super::{keygen, signals};
use crate::cli::call::complain;
use dsgd_core::text::causes;
use dsgd_observe::output::say;

pub(super) fn command() -> Command {
    let create = CreateArgs::augment_args(Command::new("create"));
    let list = ListArgs::augment_args(Command::new("list"));
    let delete = DeleteArgs::augment_args(Command::new("delete"));
    Command::new("gcloud")
        .about("Make hosts in Google Cloud, by your own gcloud")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(create.about("Make a group of machines and write the host list"))
        .subcommand(list.about("Show a group's machines"))
        .subcommand(delete.about("Delete a group and all that was made for it"))
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    match matches.subcommand() {
        Some(("create", matches)) => create(&CreateArgs::from_arg_matches(matches)?),
        Some(("list", matches)) => show(&ListArgs::from_arg_matches(matches)?),
        Some(("delete", matches)) => delete(&DeleteArgs::from_arg_matches(matches)?),
        _ => Ok(()),
    }
}

fn create(args: &CreateArgs) -> anyhow::Result<()> {
    let public = keygen::public_key(&keygen::key_file()?)?;
    let group = &args.group;
    if !group.dry_run {
        list::check(group, args.force)?;
    }
    let steps = [
        ("firewall rule", lines::firewall(args)),
        ("template", lines::template(args, &public)?),
        ("group", lines::group(args)),
    ];
    if group.dry_run {
        for (_, line) in &steps {
            say(line);
        }
        say("# again and again, until all machines run:");
        say(lines::members(group));
        say("# their addresses:");
        say(lines::machines(group));
        say(format_args!(
            "# then ssh is waited for on each, and {} is written",
            group.hosts.display()
        ));
        return Ok(());
    }
    let undo = own_line(group, "delete");
    on_interrupt(format!(
        "Stopped; what was made is left as it is. Show it: {}\nDelete it: {undo}",
        own_line(group, "list")
    ));
    let mut made = Vec::new();
    bring_up(args, &steps, &mut made, &undo)
        .map_err(|error| anyhow!("{}\n{}", causes(&*error), left_behind(&made, &undo)))
}

/// Makes one thing after the other, noting each, and waits for the machines.
fn bring_up(
    args: &CreateArgs,
    steps: &[(&str, Line)],
    made: &mut Vec<String>,
    undo: &Line,
) -> anyhow::Result<()> {
    let group = &args.group;
    for (what, line) in steps {
        let name = format!("{what} {}", line.subject());
        say(format_args!("Making the {name}"));
        match gcloud(line) {
            Ok(_) => made.push(name),
            Err(error) => {
                // One that was given up on may be made all the same.
                if matches!(error, GcloudError::Silent { .. }) {
                    made.push(format!("{name} perhaps"));
                }
                return Err(error.into());
            }
        }
    }
    let deadline = Instant::now() + Duration::from_secs(args.wait.into());
    machines::all_run(group, args.size, deadline)?;
    let hosts = list::hosts(&found(group)?, &args.login)?;
    say(format_args!("Waiting for ssh on {} machines", hosts.len()));
    machines::ssh_answers(&hosts, args.login.ssh_port, deadline)?;
    list::write(group, &hosts, undo, args.force)?;
    say(format_args!(
        "{} hosts are in {}; they cost money until they are deleted by: {undo}",
        hosts.len(),
        group.hosts.display()
    ));
    say(format_args!(
        "Next: {} hosts check",
        crate::cli::call::program()
    ));
    Ok(())
}

/// What a failure leaves behind, and how to be rid of it.
fn left_behind(made: &[String], undo: &Line) -> String {
    if made.is_empty() {
        return "Nothing was made".to_owned();
    }
    format!("There is now: {}. Delete it by: {undo}", made.join(", "))
}

fn show(args: &ListArgs) -> anyhow::Result<()> {
    let group = &args.group;
    if group.dry_run {
        say(lines::members(group));
        say(lines::machines(group));
        return Ok(());
    }
    let found = found(group)?;
    for machine in &found {
        let address = machine.address(args.login.internal_ip);
        let address = address.map_or("no address".to_owned(), |a| a.to_string());
        say(format_args!(
            "{:<24} {address:<16} {}",
            machine.name,
            machine.state.to_lowercase()
        ));
    }
    if args.write {
        let hosts = list::hosts(&found, &args.login)?;
        list::write(group, &hosts, &own_line(group, "delete"), args.force)?;
        say(format_args!(
            "{} hosts are in {}",
            hosts.len(),
            group.hosts.display()
        ));
    }
    Ok(())
}

/// The group's machines with their addresses.
fn found(group: &Group) -> Result<Vec<Machine>, GcloudError> {
    let members = machines::members(group)?;
    machines::with_addresses(group, &members)
}

fn delete(args: &DeleteArgs) -> anyhow::Result<()> {
    let group = &args.group;
    let steps = lines::deletions(group);
    if group.dry_run {
        for (_, line) in &steps {
            say(line);
        }
        return Ok(());
    }
    let names = steps.each_ref();
    let names = names.map(|(what, line)| format!("{what} {}", line.subject()));
    if !args.yes
        && !agreed(&format!(
            "Delete {} and all its machines?",
            names.join(", ")
        ))?
    {
        bail!("nothing was deleted; answer y, or pass --yes");
    }
    for ((what, line), name) in steps.iter().zip(&names) {
        say(format_args!("Deleting the {name}"));
        match gcloud(line) {
            Ok(_) => {}
            Err(error) if error.is_not_found() => say(format_args!("There was no such {what}")),
            Err(error) => {
                let again = own_line(group, "delete");
                bail!("{error}\nThe {name} is still there. Try again by: {again}");
            }
        }
    }
    if list::remove(group)? {
        say(format_args!("{} is removed", group.hosts.display()));
    }
    Ok(())
}

fn agreed(question: &str) -> io::Result<bool> {
    let mut out = io::stdout();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Our own command on this group, to copy.
fn own_line(group: &Group, command: &str) -> Line {
    let mut line = Line::new(crate::cli::call::program(), &["hosts", "gcloud", command]);
    line.push(format!("--name={}", group.name));
    line.push(format!("--zone={}", group.zone));
    if let Some(project) = &group.project {
        line.push(format!("--project={project}"));
    }
    if group.hosts.as_os_str() != "client_list.txt" {
        line.push(format!("--hosts={}", group.hosts.display()));
    }
    line
}

/// Ctrl-C ends the waiting, not the machines.
fn on_interrupt(words: String) {
    // Without it Ctrl-C does the same, in fewer words.
    let _ = signals::on_signal(move |status| {
        complain(&words);
        std::process::exit(status);
    });
}
