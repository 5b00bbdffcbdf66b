//! Our processes on a host, and only ours: those of this user whose program lies in the cache. What has
//! the same path in a container is another file.

use std::time::Duration;

use super::SshError;
use super::channel::Script;
use super::remote::{ANSWER, Remote};

/// Looking, 5 s for processes to end by themselves, and looking again.
const STOPPING: Duration = Duration::from_secs(30);
/// A large cache on a slow disk.
const CLEANING: Duration = Duration::from_secs(120);

/// `ours RUN` puts their numbers in `$ours`; RUN may be empty.
macro_rules! with_ours {
    ($body:literal) => {
        concat!(
            r#"
objects=$(cd "$cache/objects" 2>/dev/null && pwd -P) || objects=/nowhere
mounts=$(readlink /proc/self/ns/mnt 2>/dev/null)
find_ours() {
  ours=''
  for process in /proc/[0-9]*; do
    [ -O "$process" ] || continue
    file=$(readlink "$process/exe" 2>/dev/null) || continue
    case $file in "$objects"/*) ;; *) continue ;; esac
    [ "$(readlink "$process/ns/mnt" 2>/dev/null)" = "$mounts" ] || continue
    if [ -n "$1" ]; then
      case " $(tr "\000" " " <"$process/cmdline") " in *" --run $1 "*) ;; *) continue ;; esac
    fi
    ours="$ours ${process#/proc/}"
  done
}
"#,
            $body
        )
    };
}

const LIST: &str = with_ours!(
    r#"
find_ours "$1"
for pid in $ours; do
  echo "$pid $(tr "\000\n" "  " <"/proc/$pid/cmdline" | cut -c 1-200)"
done
"#
);

/// Prints how many were ended, and how many of them had to be killed.
const STOP: &str = with_ours!(
    r#"
find_ours "$1"
set -- "$1" $ours
run=$1 ended=$(($# - 1))
shift
[ $ended -gt 0 ] && kill -TERM "$@" 2>/dev/null
tries=0
while [ -n "$ours" ] && [ $tries -lt 50 ]; do
  sleep 0.1 2>/dev/null || sleep 1
  tries=$((tries + 1))
  find_ours "$run"
done
killed=0
for pid in $ours; do
  kill -KILL "$pid" 2>/dev/null && killed=$((killed + 1))
done
echo "$ended $killed"
"#
);

/// Prints how many got the signal. Those that are stopped are sent on after so many seconds,
/// whatever becomes of the connection meanwhile. Arguments: run, signal, seconds.
const SIGNAL: &str = with_ours!(
    r#"
find_ours "$1"
set -- "$2" "$3" $ours
signal=$1 secs=$2
shift 2
echo $#
[ $# -gt 0 ] || exit 0
if [ "$signal" = STOP ]; then
  (sleep "$secs"; kill -s CONT "$@") </dev/null >/dev/null 2>&1 &
fi
kill -s "$signal" "$@"
"#
);

/// Prints how many processes are in the way, or how many KiB were freed.
const CLEAN: &str = with_ours!(
    r#"
find_ours ''
set -- $ours
if [ $# -gt 0 ]; then echo "busy $#"; exit 0; fi
if [ ! -d "$cache" ]; then echo "freed 0"; exit 0; fi
size=$(du -sk "$cache" | cut -f 1)
rm -rf "$cache" && echo "freed $size"
"#
);

/// A process of ours on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number there.
    pub pid: u64,
    /// Its command line, cut.
    pub command: String,
}

/// What was ended on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// So many processes.
    pub ended: u64,
    /// So many of them did not end by themselves within 5 s.
    pub killed: u64,
}

impl Remote {
    /// Our processes there: all, or those of one run (`--run ID` in their command line).
    pub async fn processes(&self, run: Option<&str>) -> Result<Vec<Process>, SshError> {
        const WHAT: &str = "looking for processes";
        let script = Script {
            what: WHAT,
            body: LIST,
            args: &[run.unwrap_or_default()],
        };
        let answer = self.ask(&script).await?;
        let process = |line: &str| {
            let (pid, command) = line.split_once(' ')?;
            Some(Process {
                pid: pid.parse().ok()?,
                command: super::stderr::visible_line(command),
            })
        };
        let processes: Option<Vec<_>> = answer.lines().map(process).collect();
        processes.ok_or_else(|| self.makes_no_sense(WHAT, &answer))
    }

    /// Ends our processes there: all, or those of one run.
    pub async fn stop(&self, run: Option<&str>) -> Result<Stopped, SshError> {
        const WHAT: &str = "ending processes";
        let script = Script {
            what: WHAT,
            body: STOP,
            args: &[run.unwrap_or_default()],
        };
        let mut channel = self.open(&script, STOPPING).await?;
        let answer = channel.answer().await?;
        let Some((ended, killed)) = answer.trim().split_once(' ') else {
            return Err(self.makes_no_sense(WHAT, &answer));
        };
        Ok(Stopped {
            ended: self.number(WHAT, ended)?,
            killed: self.number(WHAT, killed)?,
        })
    }

    /// Kills a run's processes there (SIGKILL); returns how many.
    pub async fn kill(&self, run: &str) -> Result<u64, SshError> {
        self.signal("killing processes", run, "KILL", 0).await
    }

    /// Stops a run's processes there for so many seconds (SIGSTOP, SIGCONT); returns how many.
    pub async fn freeze(&self, run: &str, secs: u64) -> Result<u64, SshError> {
        self.signal("stopping processes", run, "STOP", secs).await
    }

    async fn signal(
        &self,
        what: &'static str,
        run: &str,
        signal: &str,
        secs: u64,
    ) -> Result<u64, SshError> {
        let script = Script {
            what,
            body: SIGNAL,
            args: &[run, signal, &secs.to_string()],
        };
        let answer = self.ask(&script).await?;
        self.number(what, answer.trim())
    }

    /// Removes our cache there and says how many bytes it had. Not while anything of ours runs.
    pub async fn clean(&self) -> Result<u64, SshError> {
        const WHAT: &str = "removing the cache";
        let script = Script {
            what: WHAT,
            body: CLEAN,
            args: &[],
        };
        let mut channel = self.open(&script, ANSWER).await?;
        channel.wait_for(CLEANING);
        let answer = channel.answer().await?;
        match answer.trim().split_once(' ') {
            Some(("freed", kib)) => Ok(self.number(WHAT, kib)?.saturating_mul(1024)),
            Some(("busy", count)) => Err(SshError::Busy {
                host: self.name().to_owned(),
                count: self.number(WHAT, count)? as usize,
            }),
            _ => Err(self.makes_no_sense(WHAT, &answer)),
        }
    }
}
