//! Options of `dsgd hosts gcloud`.

use std::path::PathBuf;

use clap::Args;

/// Which group, and where.
#[derive(Clone, Debug, Args)]
pub(super) struct Group {
    /// Name of the group, its template and its network tag; the firewall rule is NAME-ssh
    #[arg(long, default_value = "dsgd", value_parser = resource_name)]
    pub(super) name: String,
    /// Zone, as `gcloud compute zones list` has it
    #[arg(long, value_parser = resource_name)]
    pub(super) zone: String,
    /// Project [default: the one that gcloud is configured for]
    #[arg(long)]
    pub(super) project: Option<String>,
    /// The host list
    #[arg(long, value_name = "FILE", default_value = "client_list.txt")]
    pub(super) hosts: PathBuf,
    /// Print every command as it would be run, and run none
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// How its machines are logged into.
#[derive(Clone, Debug, Args)]
pub(super) struct Login {
    /// User on the machines; gets the key of `dsgd keygen`, and sudo
    #[arg(long, default_value = "dsgd", value_parser = user_name)]
    pub(super) username: String,
    /// Port of the image's sshd
    #[arg(long, value_name = "PORT", default_value_t = 22,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) ssh_port: u16,
    /// Use internal addresses, from a machine in the same network; `create` makes no others
    #[arg(long)]
    pub(super) internal_ip: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    pub(super) group: Group,
    #[command(flatten)]
    pub(super) login: Login,
    #[command(flatten)]
    pub(super) template: Template,
    /// Number of machines
    #[arg(long, short = 'n', value_name = "N", default_value_t = 4,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub(super) size: usize,
    /// Seconds to wait until all machines run and ssh answers
    #[arg(long, value_name = "SECS", default_value_t = 600,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(super) wait: u32,
    /// Write over a host list that another wrote
    #[arg(long)]
    pub(super) force: bool,
}

/// What a machine is.
#[derive(Clone, Debug, Args)]
pub(super) struct Template {
    /// Machine type, as `gcloud compute machine-types list` has it
    #[arg(long, value_name = "TYPE", default_value = "n2-standard-4")]
    pub(super) machine_type: String,
    /// Image family: Linux on x86-64 or aarch64, with an sshd
    #[arg(long, value_name = "FAMILY", default_value = "debian-12")]
    pub(super) image_family: String,
    /// Project of the image
    #[arg(long, value_name = "PROJECT", default_value = "debian-cloud")]
    pub(super) image_project: String,
    /// Gigabytes of the disk
    #[arg(long, value_name = "GB", default_value_t = 20, value_parser = clap::value_parser!(u32).range(10..=65_536))]
    pub(super) disk_size: u32,
    /// Machines that cost less and may be taken away at any time
    #[arg(long, alias = "preemptible")]
    pub(super) spot: bool,
    /// Network
    #[arg(long, default_value = "default")]
    pub(super) network: String,
    /// Addresses that may reach ssh, as 198.51.100.7/32,…; everybody may try, the key decides
    #[arg(long, value_name = "CIDR", default_value = "0.0.0.0/0")]
    pub(super) source_ranges: String,
    /// Further options of `gcloud compute instance-templates create`
    #[arg(last = true, value_name = "OPTION")]
    pub(super) more: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) group: Group,
    #[command(flatten)]
    pub(super) login: Login,
    /// Write the addresses to the host list anew, as after spot machines have come back
    #[arg(long)]
    pub(super) write: bool,
    /// Write over a host list that another wrote
    #[arg(long, requires = "write")]
    pub(super) force: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    pub(super) group: Group,
    /// Do not ask
    #[arg(long, short)]
    pub(super) yes: bool,
}

/// A name as Google's cloud has them, short enough for what is appended to it.
pub(super) fn resource_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
    if !starts || !text.chars().all(plain) || text.ends_with('-') || text.len() > 50 {
        return Err(
            "must be a letter and then letters, digits and '-', all small, 50 at most".into(),
        );
    }
    Ok(text.to_owned())
}

/// A user as Linux has them. Google's images let nobody in as root.
pub(super) fn user_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if !starts || !text.chars().all(plain) || text.len() > 32 {
        return Err("must be a letter and then letters, digits, '-' and '_', all small".into());
    }
    match text {
        "root" => Err("root cannot log in there; take another name, it will have sudo".into()),
        _ => Ok(text.to_owned()),
    }
}
