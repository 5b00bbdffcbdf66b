//! The command lines, each a function of the options.
//!
//! They are data first, so that what `--dry-run` prints and what is run cannot differ. Options
//! are written `--name=value`, so that no value can be taken for an option.

use std::fmt;
use std::path::Path;

use anyhow::Context;

use super::options::{CreateArgs, Group};
use dsgd_core::text::shell_word;

/// A program and its arguments; shown as it is typed in a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) program: String,
    pub(super) args: Vec<String>,
}

impl Line {
    pub(super) fn new(program: impl Into<String>, args: &[&str]) -> Self {
        Self {
            program: program.into(),
            args: args.iter().map(ToString::to_string).collect(),
        }
    }

    pub(super) fn push(&mut self, arg: impl Into<String>) {
        self.args.push(arg.into());
    }

    /// The resource that a line of `gcloud compute KIND… VERB NAME` is about.
    pub(super) fn subject(&self) -> &str {
        let before = self.args.iter().take_while(|arg| !arg.starts_with("--"));
        before.last().map_or("", String::as_str)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program)?;
        for arg in &self.args {
            write!(f, " {}", shell_word(Path::new(arg)))?;
        }
        Ok(())
    }
}

/// A line of gcloud, which asks nothing.
fn gcloud(group: &Group, words: &[&str], options: &[String]) -> Line {
    let mut line = Line::new("gcloud", &["compute"]);
    line.args.extend(words.iter().map(ToString::to_string));
    line.args.extend_from_slice(options);
    if let Some(project) = &group.project {
        line.push(format!("--project={project}"));
    }
    line.push("--quiet");
    line
}

/// Lets ssh in to machines with the group's tag.
pub(super) fn firewall(args: &CreateArgs) -> Line {
    let options = [
        format!("--network={}", args.template.network),
        "--direction=INGRESS".to_owned(),
        format!("--allow=tcp:{}", args.login.ssh_port),
        format!("--source-ranges={}", args.template.source_ranges),
        format!("--target-tags={}", args.group.name),
    ];
    let name = rule(&args.group);
    gcloud(&args.group, &["firewall-rules", "create", &name], &options)
}

/// The machine: no identity of Google's, no keys but ours.
///
/// # Errors
/// If the public key is none.
pub(super) fn template(args: &CreateArgs, public: &str) -> anyhow::Result<Line> {
    let (machine, user) = (&args.template, &args.login.username);
    let mut words = public.split_whitespace();
    let key = words.next().zip(words.next());
    let (kind, blob) = key.context("a public key has two words")?;
    let mut options = vec![
        format!("--machine-type={}", machine.machine_type),
        format!("--image-family={}", machine.image_family),
        format!("--image-project={}", machine.image_project),
        format!("--boot-disk-size={}GB", machine.disk_size),
        format!("--network={}", machine.network),
        format!("--tags={}", args.group.name),
        // OS Login would not look at keys in metadata.
        format!(
            "--metadata=enable-oslogin=FALSE,block-project-ssh-keys=TRUE,ssh-keys={user}:{kind} \
             {blob} {user}"
        ),
    ];
    let asks_identity =
        |option: &String| option.starts_with("--service-account") || option.starts_with("--scopes");
    if !machine.more.iter().any(asks_identity) {
        options.extend(["--no-service-account".to_owned(), "--no-scopes".to_owned()]);
    }
    if machine.spot {
        options.push("--provisioning-model=SPOT".to_owned());
    }
    if args.login.internal_ip {
        options.push("--no-address".to_owned());
    }
    options.extend_from_slice(&machine.more);
    let words = ["instance-templates", "create", &args.group.name];
    Ok(gcloud(&args.group, &words, &options))
}

pub(super) fn group(args: &CreateArgs) -> Line {
    let name = &args.group.name;
    let options = [
        zone(&args.group),
        format!("--size={}", args.size),
        format!("--template={name}"),
        format!("--base-instance-name={name}"),
    ];
    let words = ["instance-groups", "managed", "create", name];
    gcloud(&args.group, &words, &options)
}

/// Who belongs to the group, and what happens to them.
pub(super) fn members(group: &Group) -> Line {
    let words = ["instance-groups", "managed", "list-instances", &group.name];
    let options = [zone(group), "--format=json".to_owned()];
    gcloud(group, &words, &options)
}

/// Machines with the group's tag, and their addresses.
pub(super) fn machines(group: &Group) -> Line {
    let options = [
        format!("--zones={}", group.zone),
        format!("--filter=tags.items={}", group.name),
        "--format=json".to_owned(),
    ];
    gcloud(group, &["instances", "list"], &options)
}

/// The other way round than they were made: each needs those after it.
pub(super) fn deletions(group: &Group) -> [(&'static str, Line); 3] {
    let name = &group.name;
    let managed = ["instance-groups", "managed", "delete", name];
    let template = ["instance-templates", "delete", name];
    let rule = rule(group);
    [
        ("group", gcloud(group, &managed, &[zone(group)])),
        ("template", gcloud(group, &template, &[])),
        (
            "firewall rule",
            gcloud(group, &["firewall-rules", "delete", &rule], &[]),
        ),
    ]
}

fn rule(group: &Group) -> String {
    format!("{}-ssh", group.name)
}

fn zone(group: &Group) -> String {
    format!("--zone={}", group.zone)
}
