//! `dsgd keygen`: the ssh key of our own, and the machines that it opens.
//!
//! The key is `~/.ssh/dist-sgd-sshkey`, where the ancestor had it, made by the system's
//! `ssh-keygen` and never written over. It is added to this machine (for `--localhost`) and to
//! hosts by the same script, which a host is handed over ssh; there ssh may ask for a password,
//! for the last time. Whether it then opens them is for `dsgd hosts check` to say.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};

use dsgd_core::text::causes;
use dsgd_engine::hosts::{self, Host};
use dsgd_observe::output::say;

/// File name of the key, below `~/.ssh`.
const KEY: &str = "dist-sgd-sshkey";
/// Seconds for a host to answer at all, and in which it may fall silent afterwards.
const SSH_LIMITS: [&str; 3] = [
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
];

/// Appends the key on standard input to `authorized_keys` of the home folder, once. POSIX, in
/// single quotes for whichever shell logs in, so without any of its own, and on one line.
/// A copy is changed and renamed, so that a full disk leaves the file as it was; where the file
/// is a link to another one it stays that link. A file that others may write sshd would not read.
const AUTHORIZE: &str = "\
    umask 077; IFS= read -r key || exit 2; set -- $key; cd || exit 2; \
    mkdir -p .ssh && chmod 700 .ssh || exit 2; f=.ssh/authorized_keys; t=$f; \
    if test -e $f && grep -v \"^ *#\" $f | grep -qF -- \"$2\"; then echo there; exit 0; fi; \
    if test ! -L $f; then t=$f.dsgd.$$; trap \"rm -f $t\" 0; trap \"exit 2\" 1 2 15; : > $t || exit 2; \
    if test -e $f; then cp -p $f $t || exit 2; fi; fi; \
    if test -s $t && test -n \"$(tail -c 1 $t)\"; then echo >> $t || exit 2; fi; \
    printf \"%s\\n\" \"$key\" >> $t && chmod go-w $t || exit 2; \
    if test $t != $f; then mv -f $t $f || exit 2; fi; \
    if command -v restorecon > /dev/null; then restorecon -F .ssh $f > /dev/null 2>&1; fi; \
    echo added";

#[derive(Debug, Args)]
struct KeygenArgs {
    /// Add the public key to hosts, each [user@]host[:port]; without one, to this machine
    #[arg(long, value_name = "HOST", num_args = 0..)]
    authorize: Option<Vec<String>>,
    /// Add it to all hosts of this list
    #[arg(long, value_name = "FILE", requires = "authorize")]
    hosts: Option<PathBuf>,
    /// Log in as this user where the host's entry names none
    #[arg(long, value_name = "USER", requires = "authorize")]
    username: Option<String>,
    /// Configuration of ssh instead of ~/.ssh/config
    #[arg(long, value_name = "FILE", requires = "authorize")]
    ssh_config: Option<PathBuf>,
    /// Let ssh-keygen ask for a passphrase; an ssh agent has to hold the key then
    #[arg(long)]
    passphrase: bool,
}

pub(super) fn command() -> Command {
    KeygenArgs::augment_args(Command::new("keygen"))
        .about("Make an ssh key for workers' hosts, and add it to them")
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = KeygenArgs::from_arg_matches(matches)?;
    // What is wrong with the list is said before anything is made.
    let hosts = listed(&args)?;
    let key = key_file()?;
    make(&key, args.passphrase)?;
    let public = public_key(&key)?;
    let program = crate::cli::call::program();
    match (&args.authorize, hosts.is_empty()) {
        (None, _) => {
            say(format_args!(
                "Next: {program} keygen --authorize for this machine, or {program} keygen \
                 --authorize HOST… for hosts"
            ));
            return Ok(());
        }
        (Some(_), true) => authorize_here(&public)?,
        (Some(_), false) => authorize_hosts(&hosts, &public, &args)?,
    }
    say(format_args!("Next: {program} hosts check"));
    Ok(())
}

/// Where the key is, made or not.
pub(super) fn key_file() -> anyhow::Result<PathBuf> {
    let home = home()?;
    Ok(home.join(".ssh").join(KEY))
}

/// The key's public part, as it stands in `authorized_keys`.
pub(super) fn public_key(key: &Path) -> anyhow::Result<String> {
    let path = key.with_extension("pub");
    let text = fs::read_to_string(&path).with_context(|| {
        let program = crate::cli::call::program();
        format!(
            "cannot read {}; make it by {program} keygen",
            path.display()
        )
    })?;
    let line = text.trim();
    if !line.starts_with("ssh-") || line.contains('\n') || line.split_whitespace().count() < 2 {
        bail!("{} holds no public key of ssh", path.display());
    }
    Ok(line.to_owned())
}

fn home() -> anyhow::Result<PathBuf> {
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    home.context("there is no home directory; set HOME to the folder that .ssh is to lie in")
}

fn listed(args: &KeygenArgs) -> anyhow::Result<Vec<Host>> {
    let typed = args.authorize.as_deref().unwrap_or_default();
    let mut hosts = match &args.hosts {
        Some(file) => hosts::read_file(file)?,
        None => Vec::new(),
    };
    for word in typed {
        hosts.extend(hosts::parse(word, "--authorize")?);
    }
    Ok(hosts)
}

/// Makes the key, unless it is there.
fn make(key: &Path, passphrase: bool) -> anyhow::Result<()> {
    let folder = key.parent().context("a key is in a folder")?;
    let private = |path: &Path| format!("cannot make {} private to you", path.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    restrict(folder, 0o700).with_context(|| private(folder))?;
    let public = key.with_extension("pub");
    match (key.try_exists()?, public.try_exists()?) {
        (false, false) => {
            let mut keygen = Process::new("ssh-keygen");
            keygen
                .args(["-q", "-t", "ed25519", "-C", "dsgd", "-f"])
                .arg(key);
            if passphrase {
                ended(&mut keygen)?;
            } else {
                ended(keygen.args(["-N", ""]).stdin(Stdio::null()))?;
            }
            let with = if passphrase { "a" } else { "no" };
            say(format_args!(
                "Made {} (ed25519, with {with} passphrase)",
                key.display()
            ));
        }
        (true, there) => {
            say(format_args!(
                "{} is there already and stays as it is",
                key.display()
            ));
            if !there {
                let output = ended(
                    Process::new("ssh-keygen")
                        .arg("-y")
                        .arg("-f")
                        .arg(key)
                        .stdout(Stdio::piped()),
                )?;
                fs::write(&public, output)
                    .with_context(|| format!("cannot write {}", public.display()))?;
                say(format_args!("Made {} anew from it", public.display()));
            }
        }
        (false, true) => bail!(
            "{} is there without its private key, and is not written over; move it away first",
            public.display()
        ),
    }
    restrict(key, 0o600).with_context(|| private(key))
}

/// Takes from others what they may do with it; ssh refuses a key that others can read.
fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    let now = fs::metadata(path)?.permissions().mode() & 0o7777;
    match now & !mode {
        0 => Ok(()),
        _ => fs::set_permissions(path, Permissions::from_mode(now & mode)),
    }
}

fn authorize_here(public: &str) -> anyhow::Result<()> {
    let home = home()?;
    let mut shell = Process::new("sh");
    shell.args(["-c", AUTHORIZE]).env("HOME", &home);
    let file = home.join(".ssh/authorized_keys");
    let done = authorize(&mut shell, public)
        .with_context(|| format!("the key could not be added to {}", file.display()))?;
    say(format_args!("This machine: {}", done.words()));
    Ok(())
}

/// One after the other, because each may ask for a password.
fn authorize_hosts(hosts: &[Host], public: &str, args: &KeygenArgs) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for host in hosts {
        match authorize(&mut ssh(host, args), public) {
            Ok(done) => say(format_args!("{host}: {}", done.words())),
            Err(error) if error.downcast_ref::<NoProgram>().is_some() => return Err(error),
            Err(error) => {
                say(format_args!("{host}: {}", causes(&*error)));
                failed.push(host.to_string());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "the key was not added to {}; what ssh says is above. Log in once by ssh HOST, then call \
         this again: a host that has the key stays as it is",
        failed.join(", ")
    )
}

/// The system's ssh, which hands the script to the host.
fn ssh(host: &Host, args: &KeygenArgs) -> Process {
    let mut ssh = Process::new("ssh");
    ssh.arg("-T");
    for limit in SSH_LIMITS {
        ssh.args(["-o", limit]);
    }
    if let Some(file) = &args.ssh_config {
        ssh.arg("-F").arg(file);
    }
    if let Some(user) = host.user.as_ref().or(args.username.as_ref()) {
        ssh.args(["-l", user]);
    }
    if let Some(port) = host.port {
        ssh.args(["-p", &port.to_string()]);
    }
    // A host's name does not begin with a dash; see `hosts`.
    ssh.arg("--")
        .arg(&host.name)
        .arg(format!("exec sh -c '{AUTHORIZE}'"));
    ssh
}

/// What became of the key.
#[derive(Clone, Copy)]
enum Done {
    Added,
    There,
}

impl Done {
    fn words(self) -> &'static str {
        match self {
            Self::Added => "key added",
            Self::There => "has the key already",
        }
    }
}

/// Runs the script, here or there, with the key on its standard input.
fn authorize(shell: &mut Process, public: &str) -> anyhow::Result<Done> {
    shell.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = shell.spawn().map_err(|error| no_program(shell, error))?;
    let mut stdin = child.stdin.take().context("a pipe was asked for")?;
    // A shell that ended early says so by its status.
    let _ = writeln!(stdin, "{public}");
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    // What a login prints comes before.
    match said.lines().last().map(str::trim) {
        Some("added") if output.status.success() => Ok(Done::Added),
        Some("there") if output.status.success() => Ok(Done::There),
        _ => bail!("failed ({})", output.status),
    }
}

/// Runs a program to its end, and returns its standard output where that is piped.
fn ended(command: &mut Process) -> anyhow::Result<Vec<u8>> {
    let child = command.stderr(Stdio::inherit()).spawn();
    let output = child
        .map_err(|error| no_program(command, error))?
        .wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{} failed ({}); what it says is above",
            command.get_program().display(),
            output.status
        );
    }
    Ok(output.stdout)
}

/// A program of the system could not be started.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot start {program}: {source}; install OpenSSH's client (openssh-client, openssh-clients)"
)]
struct NoProgram {
    program: String,
    source: io::Error,
}

fn no_program(command: &Process, source: io::Error) -> anyhow::Error {
    let program = command.get_program().display().to_string();
    match source.kind() {
        ErrorKind::NotFound => NoProgram { program, source }.into(),
        _ => anyhow::Error::from(source).context(format!("cannot start {program}")),
    }
}
