//! `dsgd keygen` with a home folder of the test's own, and with real hosts.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::program::{Program, end, failed, finished, words};

const KEY: &str = ".ssh/dist-sgd-sshkey";
const AUTHORIZED: &str = ".ssh/authorized_keys";

/// A user whose home is the program's folder.
struct User(Program);

impl User {
    fn new() -> Self {
        Self(Program::new())
    }

    fn keygen(&self, args: &str) -> Output {
        let mut command = self.0.command(&format!("keygen {args}"), "");
        end(command.env("HOME", self.0.path("")).spawn().unwrap())
    }

    fn says(&self, args: &str) -> String {
        finished(&self.keygen(args))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.0.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    fn mode(&self, name: &str) -> u32 {
        let metadata = fs::symlink_metadata(self.0.path(name)).unwrap();
        metadata.permissions().mode() & 0o7777
    }

    /// Names in `.ssh`: no temporary file is left behind.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path(".ssh")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

#[test]
fn a_key_is_made_for_its_owner_alone_and_never_written_over() {
    let user = User::new();
    let out = user.says("");
    assert!(
        out.contains("dist-sgd-sshkey (ed25519, with no passphrase)"),
        "{out}"
    );
    assert!(
        out.contains("Next: ") && out.contains("keygen --authorize"),
        "{out}"
    );
    assert_eq!((user.mode(".ssh"), user.mode(KEY)), (0o700, 0o600));
    let (key, public) = (user.read(KEY), user.read(&format!("{KEY}.pub")));
    assert!(public.starts_with("ssh-ed25519 "), "{public}");

    fs::remove_file(user.0.path(format!("{KEY}.pub"))).unwrap();
    fs::set_permissions(user.0.path(KEY), Permissions::from_mode(0o600)).unwrap();
    let out = user.says("");
    assert!(out.contains("is there already and stays as it is"), "{out}");
    assert_eq!(user.read(KEY), key);
    let blob = |line: &str| line.split(' ').nth(1).map(|blob| blob.trim().to_owned());
    assert_eq!(blob(&user.read(&format!("{KEY}.pub"))), blob(&public));

    fs::remove_file(user.0.path(KEY)).unwrap();
    let error = failed(&user.keygen(""));
    assert!(
        error.contains("is there without its private key"),
        "{error}"
    );
    assert_eq!(user.files(), ["dist-sgd-sshkey.pub"]);
}

#[test]
fn this_machine_gets_the_key_once_whatever_its_file_looks_like() {
    let user = User::new();
    let out = user.says("--authorize");
    assert!(out.contains("This machine: key added"), "{out}");
    assert!(out.trim_end().ends_with(" hosts check"), "{out}");
    let public = user.read(&format!("{KEY}.pub"));
    assert_eq!(user.read(AUTHORIZED), public);
    assert_eq!(user.mode(AUTHORIZED), 0o600);
    let out = user.says("--authorize");
    assert!(out.contains("This machine: has the key already"), "{out}");
    assert_eq!(user.read(AUTHORIZED), public);

    // Without an end of the last line; with a mode that sshd accepts, and with one that it does not.
    for (mode, then) in [(0o644, 0o644), (0o664, 0o644)] {
        user.write(AUTHORIZED, "ssh-rsa AAAA somebody", mode);
        user.says("--authorize");
        assert_eq!(
            user.read(AUTHORIZED),
            format!("ssh-rsa AAAA somebody\n{public}")
        );
        assert_eq!(user.mode(AUTHORIZED), then);
    }
    // A key that has been commented out opens nothing.
    user.write(AUTHORIZED, &format!("# {public}"), 0o600);
    user.says("--authorize");
    assert_eq!(user.read(AUTHORIZED), format!("# {public}{public}"));
    // Kept elsewhere.
    fs::remove_file(user.0.path(AUTHORIZED)).unwrap();
    user.write("keys/mine", "", 0o600);
    symlink("../keys/mine", user.0.path(AUTHORIZED)).unwrap();
    user.says("--authorize");
    assert_eq!(user.read("keys/mine"), public);
    assert!(user.0.path(AUTHORIZED).is_symlink());
    let names = ["authorized_keys", "dist-sgd-sshkey", "dist-sgd-sshkey.pub"];
    assert_eq!(user.files(), names);
}

#[test]
fn what_is_wrong_is_reported_before_anything_is_made() {
    let user = User::new();
    let error = failed(&user.keygen("--authorize h1 h2;reboot"));
    assert!(
        error.contains("\"h2;reboot\": ';' cannot be in a name"),
        "{error}"
    );
    let error = failed(&user.keygen("--authorize --hosts nowhere.txt"));
    assert!(error.contains("cannot read nowhere.txt"), "{error}");
    let mut command = user.0.command("keygen", "");
    command
        .env("HOME", user.0.path("home"))
        .env("PATH", user.0.path("bin"));
    let error = failed(&end(command.spawn().unwrap()));
    assert!(
        error.contains("cannot start ssh-keygen") && error.contains("openssh-client"),
        "{error}"
    );
}

#[test]
fn a_host_that_cannot_be_reached_is_named() {
    let user = User::new();
    // Nothing listens on port 1.
    user.write("none", "", 0o600);
    let output = user.keygen("--authorize 127.0.0.1:1 --ssh-config none");
    let error = failed(&output);
    assert!(
        error.contains("was not added to 127.0.0.1:1; what ssh says is above"),
        "{error}"
    );
    assert!(error.contains("Connection refused"), "{error}");
}

#[test]
fn hosts_get_the_key_once_over_ssh() {
    let Some(hosts) = Hosts::up(2) else {
        let name = "hosts_get_the_key_once_over_ssh";
        // Around the test harness, which would keep it to itself.
        writeln!(
            io::stderr(),
            "SKIPPED {name}: {} cannot make hosts here",
            script().display()
        )
        .unwrap();
        return;
    };
    let user = User::new();
    let config = hosts.folder("ssh_config").display().to_string();
    hosts.run(
        "h1",
        "mkdir -m 755 .ssh; printf '%s' 'ssh-rsa AAAA old' > .ssh/authorized_keys",
    );
    let out = user.says(&format!("--authorize h1 --ssh-config {config}"));
    assert!(out.contains("h1: key added"), "{out}");
    fs::write(user.0.path("list"), "h1 slots=2\nroot@h2\n").unwrap();
    let out = user.says(&format!("--authorize --hosts list --ssh-config {config}"));
    assert!(
        out.contains("h1: has the key already") && out.contains("root@h2: key added"),
        "{out}"
    );
    let public = user.read(&format!("{KEY}.pub"));
    assert_eq!(
        hosts.run("h1", "cat .ssh/authorized_keys"),
        format!("ssh-rsa AAAA old\n{public}")
    );
    assert_eq!(hosts.run("h2", "cat .ssh/authorized_keys"), public);
    assert_eq!(
        hosts.run("h2", "stat -c %a .ssh .ssh/authorized_keys"),
        "700\n600\n"
    );
    assert_eq!(
        hosts.run("h1", "stat -c %a .ssh; ls -A .ssh"),
        "700\nauthorized_keys\n"
    );
}

/// Hosts with an sshd each, which go when it is dropped.
struct Hosts(TempDir);

impl Hosts {
    fn up(number: usize) -> Option<Self> {
        let hosts = Self(tempfile::tempdir().unwrap());
        let output = hosts.script(&["up", &number.to_string()])?;
        if output.status.success() {
            return Some(hosts);
        }
        let (out, err) = words(&output);
        eprintln!("{out}{err}");
        None
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.0.path().join("hosts").join(name)
    }

    fn script(&self, args: &[&str]) -> Option<Output> {
        let own = std::process::id();
        let mut command = Command::new(script());
        command.args(args).env("HOSTS_DIR", self.folder(""));
        command.env("HOSTS_NET", format!("10.79.{}", own % 250));
        command.env("HOSTS_BR", format!("kgbr{}", own % 100_000));
        command.env("HOSTS_PREFIX", format!("kg{}h", own % 100_000));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Some(end(command.spawn().ok()?))
    }

    /// Standard output of a command on a host.
    fn run(&self, host: &str, command: &str) -> String {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F")
            .arg(self.folder("ssh_config"))
            .args([host, command]);
        let output = ssh.output().unwrap();
        assert!(output.status.success(), "{:?}", words(&output));
        words(&output).0
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.script(&["down"]);
    }
}

/// The script that makes hosts, beside the checkout.
fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tools/hosts.sh")
}
