//! `dsgd hosts gcloud` with a stand-in for gcloud that records how it is called: Google's cloud
//! cannot be reached from tests.

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Output, Stdio};
use std::thread;

use crate::program::{Program, end, failed, finished, until, wait, words};

/// Notes its arguments, one line a call; answers with files `KIND-VERB`, fails with `KIND-VERB.error`.
const STAND_IN: &str = r#"#!/bin/sh
log=$STAND_IN/log
for arg in "$@"; do printf '[%s]' "$arg" >> "$log"; done
echo >> "$log"
case "$*" in
  *list-instances*) call=members ;;
  *"instances list"*) call=instances ;;
  *) call=$2-$3; test "$3" = managed && call=$2-$4 ;;
esac
test -f "$STAND_IN/$call.error" && { cat "$STAND_IN/$call.error" >&2; exit 1; }
test -f "$STAND_IN/$call.json" && cat "$STAND_IN/$call.json"
# An answer that is there for the first call alone.
test -f "$STAND_IN/$call.next" && mv "$STAND_IN/$call.next" "$STAND_IN/$call.json"
exit 0
"#;

const PLACE: &str = "--zone europe-west1-b --project p";

/// A user with a key and the stand-in.
struct Cloud(Program);

impl Cloud {
    fn new() -> Self {
        let cloud = Self(Program::new());
        cloud.write("bin/gcloud", STAND_IN);
        let executable = Permissions::from_mode(0o755);
        fs::set_permissions(cloud.0.path("bin/gcloud"), executable).unwrap();
        cloud.write(".ssh/dist-sgd-sshkey.pub", "ssh-ed25519 AAAAkey me@here\n");
        cloud.write(
            "members.json",
            &members(&["dsgd-a", "dsgd-b"], "RUNNING", "NONE"),
        );
        cloud.write("instances.json", &instances());
        cloud
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path(name)).unwrap_or_default()
    }

    fn start(&self, args: &str, stdin: &str) -> Child {
        let mut command = self.0.command(&format!("hosts gcloud {args}"), "");
        let path = format!("{}:/usr/bin:/bin", self.0.path("bin").display());
        command.env("HOME", self.0.path("")).env("PATH", path);
        command.env("STAND_IN", self.0.path(""));
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(stdin.as_bytes()).unwrap();
        child
    }

    fn call(&self, args: &str, stdin: &str) -> Output {
        end(self.start(args, stdin))
    }

    fn says(&self, args: &str) -> String {
        finished(&self.call(args, ""))
    }

    fn fails(&self, args: &str) -> String {
        failed(&self.call(args, ""))
    }

    /// The calls since the last time, with arguments in brackets.
    fn calls(&self) -> Vec<String> {
        let calls = self.read("log").lines().map(str::to_owned).collect();
        let _ = fs::remove_file(self.0.path("log"));
        calls
    }
}

fn members(names: &[&str], status: &str, action: &str) -> String {
    let member = |name: &&str| {
        format!(
            r#"{{"instance": "https://www.googleapis.com/compute/v1/projects/p/zones/z/instances/{name}",
               "instanceStatus": "{status}", "currentAction": "{action}", "id": "1"}}"#
        )
    };
    format!(
        "[{}]",
        names.iter().map(member).collect::<Vec<_>>().join(",")
    )
}

/// Two of the group, and one that has the tag only.
fn instances() -> String {
    let instance = |name: &str, internal: &str, external: &str| {
        format!(
            r#"{{"name": "{name}", "status": "RUNNING", "networkInterfaces": [{{"networkIP": "{internal}",
               "accessConfigs": [{{"name": "external-nat", "natIP": "{external}"}}]}}]}}"#
        )
    };
    let all = [
        instance("dsgd-b", "10.0.0.3", "127.0.0.3"),
        instance("dsgd-a", "10.0.0.2", "127.0.0.2"),
        instance("other", "10.0.0.9", "127.0.0.9"),
    ];
    format!("[{}]", all.join(","))
}

/// A port on all addresses where something says this to everyone who comes.
fn server(words: &'static str) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(words.as_bytes());
        }
    });
    port
}

/// The arguments as the stand-in notes them.
fn noted(line: &str) -> String {
    format!("[{}]", line.replace(' ', "][").replace('~', " "))
}

fn creation(port: u16) -> [String; 3] {
    [
        noted(&format!(
            "compute firewall-rules create dsgd-ssh --network=default --direction=INGRESS \
             --allow=tcp:{port} --source-ranges=0.0.0.0/0 --target-tags=dsgd --project=p --quiet"
        )),
        noted(
            "compute instance-templates create dsgd --machine-type=n2-standard-4 \
             --image-family=debian-12 --image-project=debian-cloud --boot-disk-size=20GB \
             --network=default --tags=dsgd \
             --metadata=enable-oslogin=FALSE,block-project-ssh-keys=TRUE,ssh-keys=dsgd:ssh-ed25519~AAAAkey~dsgd \
             --no-service-account --no-scopes --project=p --quiet",
        ),
        noted(
            "compute instance-groups managed create dsgd --zone=europe-west1-b --size=2 \
             --template=dsgd --base-instance-name=dsgd --project=p --quiet",
        ),
    ]
}

fn looks() -> [String; 2] {
    [
        noted(
            "compute instance-groups managed list-instances dsgd --zone=europe-west1-b \
             --format=json --project=p --quiet",
        ),
        noted(
            "compute instances list --zones=europe-west1-b --filter=tags.items=dsgd --format=json \
             --project=p --quiet",
        ),
    ]
}

fn deletion() -> [String; 3] {
    [
        noted(
            "compute instance-groups managed delete dsgd --zone=europe-west1-b --project=p --quiet",
        ),
        noted("compute instance-templates delete dsgd --project=p --quiet"),
        noted("compute firewall-rules delete dsgd-ssh --project=p --quiet"),
    ]
}

#[test]
fn a_group_is_made_listed_and_deleted_by_these_commands() {
    let cloud = Cloud::new();
    let port = server("SSH-2.0-OpenSSH_9.2\r\n");
    // The first look finds them being made.
    cloud.write("members.next", &cloud.read("members.json"));
    cloud.write(
        "members.json",
        &members(&["dsgd-a", "dsgd-b"], "STAGING", "CREATING"),
    );
    let out = cloud.says(&format!("create {PLACE} -n 2 --ssh-port {port}"));
    let [member_list, machines] = looks();
    let mut expected = creation(port).to_vec();
    expected.extend([
        member_list.clone(),
        member_list.clone(),
        member_list.clone(),
        machines.clone(),
    ]);
    assert_eq!(cloud.calls(), expected);
    for words in [
        "0 of 2 machines run",
        "2 of 2 machines run",
        "2 hosts are in client_list.txt",
    ] {
        assert!(out.contains(words), "{words:?} is not in {out}");
    }
    let list = cloud.read("client_list.txt");
    let (comments, hosts): (Vec<_>, Vec<_>) = list.lines().partition(|line| line.starts_with('#'));
    assert_eq!(
        hosts,
        [
            format!("dsgd@127.0.0.2:{port}"),
            format!("dsgd@127.0.0.3:{port}")
        ]
    );
    assert_eq!(
        comments[0],
        "# Written by dsgd hosts gcloud: group dsgd in europe-west1-b of p"
    );
    assert!(comments[1].ends_with("delete --name=dsgd --zone=europe-west1-b --project=p"));
    assert_eq!(dsgd_engine::hosts::parse(&list, "").unwrap().len(), 2);

    let out = cloud.says(&format!("list {PLACE} --internal-ip --write"));
    assert_eq!(cloud.calls(), [member_list, machines]);
    let table: Vec<Vec<_>> = out
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        table[..2],
        [
            ["dsgd-a", "10.0.0.2", "running"],
            ["dsgd-b", "10.0.0.3", "running"]
        ]
    );
    assert!(
        cloud
            .read("client_list.txt")
            .ends_with("\ndsgd@10.0.0.2\ndsgd@10.0.0.3\n")
    );

    let error = cloud.fails(&format!("delete {PLACE}"));
    assert!(
        error.contains("nothing was deleted; answer y, or pass --yes"),
        "{error}"
    );
    assert!(cloud.calls().is_empty());
    let output = cloud.call(&format!("delete {PLACE}"), "y\n");
    assert!(finished(&output).contains("Delete group dsgd, template dsgd, firewall rule dsgd-ssh"));
    assert_eq!(cloud.calls(), deletion());
    assert!(!cloud.0.path("client_list.txt").exists());
}

#[test]
fn a_dry_run_prints_what_would_be_run_and_runs_nothing() {
    let cloud = Cloud::new();
    let unquoted = |out: &str| -> Vec<String> {
        let lines = out.lines().filter(|line| !line.starts_with('#'));
        // As a shell would read them.
        let read = |line: &str| {
            let mut shell = std::process::Command::new("sh");
            let script = format!("gcloud() {{ printf '[%s]' \"$@\"; }}; {line}");
            words(&shell.arg("-c").arg(script).output().unwrap()).0
        };
        lines.map(read).collect()
    };
    let out = cloud.says(&format!("create {PLACE} -n 2 --dry-run"));
    let mut expected = creation(22).to_vec();
    expected.extend(looks());
    assert_eq!(unquoted(&out), expected);
    assert_eq!(
        unquoted(&cloud.says(&format!("list {PLACE} --dry-run"))),
        looks()
    );
    assert_eq!(
        unquoted(&cloud.says(&format!("delete {PLACE} --dry-run"))),
        deletion()
    );
    let args = "create --zone z-1 --name gpu --spot --internal-ip --disk-size 50 --machine-type g2 \
                --image-family fam --image-project proj --network net --source-ranges 1.2.3.4/32 \
                --username me --dry-run -- --accelerator=type=nvidia-l4 --scopes=storage-ro";
    let lines = unquoted(&cloud.says(args));
    assert_eq!(
        lines[..3],
        [
            noted(
                "compute firewall-rules create gpu-ssh --network=net --direction=INGRESS \
                 --allow=tcp:22 --source-ranges=1.2.3.4/32 --target-tags=gpu --quiet"
            ),
            noted(
                "compute instance-templates create gpu --machine-type=g2 --image-family=fam \
                 --image-project=proj --boot-disk-size=50GB --network=net --tags=gpu \
                 --metadata=enable-oslogin=FALSE,block-project-ssh-keys=TRUE,ssh-keys=me:ssh-ed25519~AAAAkey~me \
                 --provisioning-model=SPOT --no-address --accelerator=type=nvidia-l4 \
                 --scopes=storage-ro --quiet"
            ),
            noted(
                "compute instance-groups managed create gpu --zone=z-1 --size=4 --template=gpu \
                 --base-instance-name=gpu --quiet"
            ),
        ]
    );
    assert!(cloud.calls().is_empty());
    assert!(!cloud.0.path("client_list.txt").exists());
}

#[test]
fn a_failure_says_what_there_is_and_what_to_do() {
    let cloud = Cloud::new();
    let create = format!("create {PLACE} -n 2");
    cloud.write(
        "firewall-rules-create.error",
        "ERROR: run:\n  $ gcloud auth login\n",
    );
    let error = cloud.fails(&create);
    assert!(
        error.contains("Next: log in by: gcloud auth login"),
        "{error}"
    );
    assert!(error.contains("Nothing was made"), "{error}");
    fs::remove_file(cloud.0.path("firewall-rules-create.error")).unwrap();

    cloud.write(
        "instance-groups-create.error",
        "ERROR: Quota 'CPUS' exceeded. Limit: 8.0\n",
    );
    let error = cloud.fails(&create);
    for words in [
        "Quota 'CPUS' exceeded. Limit: 8.0",
        "take a smaller --size",
        "There is now: firewall rule dsgd-ssh, template dsgd. Delete it by: ",
        "hosts gcloud delete --name=dsgd --zone=europe-west1-b --project=p",
    ] {
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
    fs::remove_file(cloud.0.path("instance-groups-create.error")).unwrap();

    // The group is made at once, and its machines are not: that no waiting changes.
    let attempt = r#"[{"instance": "https://x/dsgd-a", "currentAction": "CREATING", "lastAttempt":
        {"errors": {"errors": [{"code": "QUOTA_EXCEEDED", "message": "Limit 'CPUS' is 8"}]}}}]"#;
    cloud.write("members.json", attempt);
    let error = cloud.fails(&create);
    assert!(
        error.contains("Google says: QUOTA_EXCEEDED: Limit 'CPUS' is 8"),
        "{error}"
    );
    assert!(
        error.contains("template dsgd, group dsgd. Delete it by"),
        "{error}"
    );
    cloud.write("members.json", "{");
    assert!(
        cloud
            .fails(&create)
            .contains("gcloud's answer cannot be understood")
    );
    cloud.write("members.json", "[]");
    let error = cloud.fails(&format!("{create} --wait 1"));
    assert!(
        error.contains("0 of 2 machines run; pass --wait for more time"),
        "{error}"
    );
    assert!(!cloud.0.path("client_list.txt").exists());
}

#[test]
fn what_answers_must_be_ssh_and_soon() {
    let cloud = Cloud::new();
    for (port, reason) in [(1, "refused"), (server("HTTP/1.1 400\r\n"), "no sshd")] {
        let error = cloud.fails(&format!("create {PLACE} -n 2 --wait 1 --ssh-port {port}"));
        let words = "ssh does not answer on 2 of 2 machines";
        assert!(error.contains(words) && error.contains(reason), "{error}");
        assert!(
            error.contains("127.0.0.2: ") && error.contains("Delete it by: "),
            "{error}"
        );
    }
}

#[test]
fn somebody_elses_list_is_not_written_over() {
    let cloud = Cloud::new();
    let port = server("SSH-2.0-x\r\n");
    let create = format!("create {PLACE} -n 2 --ssh-port {port}");
    cloud.write("client_list.txt", "10.1.1.1\n");
    let error = cloud.fails(&create);
    assert!(
        error.contains("client_list.txt is not a list of ours"),
        "{error}"
    );
    assert!(
        cloud.calls().is_empty(),
        "it is found out before anything is made"
    );
    cloud.says(&format!("{create} --hosts other.txt"));
    cloud.says(&format!("{create} --force"));
    // Another group's list is another's, too, and stays when this one is deleted.
    let error = cloud.fails(&format!("{create} --name second"));
    assert!(
        error.contains("list of another one: group dsgd in europe-west1-b of p"),
        "{error}"
    );
    cloud.says(&format!("delete {PLACE} --name second --yes"));
    assert!(cloud.0.path("client_list.txt").exists());
}

#[test]
fn what_is_not_there_need_not_be_deleted() {
    let cloud = Cloud::new();
    let missing = "ERROR: The resource 'projects/p/x' was not found\n";
    for call in ["instance-groups-delete", "firewall-rules-delete"] {
        cloud.write(&format!("{call}.error"), missing);
    }
    let out = cloud.says(&format!("delete {PLACE} --yes"));
    assert!(out.contains("There was no such group"), "{out}");
    assert_eq!(cloud.calls(), deletion());
    cloud.write(
        "instance-templates-delete.error",
        "ERROR: Required 'x' permission\n",
    );
    let error = cloud.fails(&format!("delete {PLACE} --yes"));
    for words in [
        "Compute Admin",
        "The template dsgd is still there. Try again by: ",
    ] {
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
}

#[test]
fn without_key_or_gcloud_it_says_what_to_do() {
    let cloud = Cloud::new();
    fs::remove_file(cloud.0.path("bin/gcloud")).unwrap();
    let mut command = cloud.0.command(&format!("hosts gcloud list {PLACE}"), "");
    command.env("PATH", cloud.0.path("bin"));
    let error = failed(&end(command.spawn().unwrap()));
    assert!(
        error.contains("gcloud is not installed") && error.contains("gcloud init"),
        "{error}"
    );
    fs::remove_file(cloud.0.path(".ssh/dist-sgd-sshkey.pub")).unwrap();
    let error = cloud.fails(&format!("create {PLACE}"));
    assert!(
        error.contains("make it by ") && error.contains(" keygen"),
        "{error}"
    );
    for wrong in ["--name=-x", "--zone=Z", "--username root", "--size 0"] {
        failed(&cloud.call(&format!("create {PLACE} {wrong}"), ""));
    }
}

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_machines() {
    let cloud = Cloud::new();
    cloud.write("members.json", "[]");
    let mut child = cloud.start(&format!("create {PLACE} -n 2"), "");
    until(|| cloud.read("log").contains("list-instances").then_some(())).unwrap();
    let id = child.id().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &id])
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(wait(&mut child).code(), Some(130));
    let error = words(&end(child)).1;
    assert!(error.contains("what was made is left as it is"), "{error}");
    assert!(error.contains("hosts gcloud delete --name=dsgd"), "{error}");
}
