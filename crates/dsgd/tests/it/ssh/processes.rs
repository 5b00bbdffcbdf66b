//! Ending what is ours on a host, and only that.

use std::path::Path;
use std::time::Duration;

use dsgd_engine::ssh::{Ended, Object, Running, SshError, Stopped};

use super::Lab;

async fn runs(running: &mut Running) -> bool {
    let wait = tokio::time::timeout(Duration::from_millis(100), running.wait());
    wait.await.is_err()
}

#[tokio::test]
async fn only_ours_are_ended() {
    let Some(lab) = Lab::up("only_ours_are_ended", 1) else {
        return;
    };
    let remote = lab.login("h1").await;
    assert_eq!(remote.stop(None).await.unwrap(), Stopped::default());
    let shell = Object::program(Path::new("/bin/sh")).unwrap();
    remote.send(&shell, |_| {}).await.unwrap();
    let start = async |script: &str, run: &str| {
        let args = ["-c", script, "worker", "--run", run];
        let mut running = remote.start(&shell, &args, "").await.unwrap();
        assert!(
            running.line().await.is_some(),
            "it does not say that it is there"
        );
        running
    };
    let mut others = remote.run("sleep 100").await.unwrap();
    let mut first = start("echo; read a; read b", "r1").await;
    let mut second = start("echo; read a; read b", "r2").await;

    let processes = remote.processes(None).await.unwrap();
    assert_eq!(processes.len(), 2, "{processes:?}");
    let of_first = remote.processes(Some("r1")).await.unwrap();
    assert_eq!(of_first.len(), 1);
    assert!(
        of_first[0].command.ends_with("worker --run r1"),
        "{of_first:?}"
    );
    assert_eq!(remote.processes(Some("r")).await.unwrap(), []);
    let busy = remote.clean().await.unwrap_err();
    assert!(matches!(busy, SshError::Busy { count: 2, .. }), "{busy:?}");

    let one = Stopped {
        ended: 1,
        killed: 0,
    };
    assert_eq!(remote.stop(Some("r1")).await.unwrap(), one);
    assert!(matches!(first.wait().await, Ended::Killed));
    assert!(runs(&mut second).await && runs(&mut others).await);
    let mut deaf = start("trap '' TERM; echo; read a; read b", "r3").await;
    let both = Stopped {
        ended: 2,
        killed: 1,
    };
    assert_eq!(remote.stop(None).await.unwrap(), both);
    assert!(matches!(deaf.wait().await, Ended::Killed));
    assert!(matches!(second.wait().await, Ended::Killed));
    assert!(runs(&mut others).await);

    assert!(remote.clean().await.unwrap() > 0);
    assert!(!lab.cache("h1").exists());
    assert_eq!(remote.clean().await.unwrap(), 0);
}
