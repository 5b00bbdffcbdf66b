//! The way back: a Unix socket on the host that ends in one of ours.
//!
//! Workers speak to the server through it, inside of the login: no port is open on either side, and
//! the socket is for its user alone, which is checked and not believed.

use std::path::Path;

use tokio::time::timeout;

use super::SshError;
use super::channel::Script;
use super::object::random_name;
use super::remote::{ANSWER, Remote};
use super::stderr::last_words;

/// Prints the path of a socket that is not there yet, in a folder that is the user's own, or
/// `unwritable WHY`. Arguments: its name. Sockets that nobody listens at are removed on the way: those
/// of this host, which alone it knows of. Other hosts may have the same home folder.
const PREPARE: &str = r#"
folder=$cache/run
if [ ${#folder} -gt 64 ]; then folder=/tmp/dsgd-$(id -u); fi
said=$({ mkdir -p "$cache" && { [ -d "$folder" ] || mkdir -m 700 "$folder"; } &&
  mkdir "$folder/$1" && rmdir "$folder/$1"; } 2>&1) || { echo "unwritable ${said##*: }"; exit 0; }
mark=$(mark)
if [ -L "$folder" ] || [ ! -O "$folder" ]; then echo "$folder is not ours" >&2; exit 1; fi
chmod 700 "$folder" || exit 1
for socket in "$folder/$mark"-*.sock; do
  [ -S "$socket" ] || continue
  [ -r /proc/net/unix ] && ! grep -qF " $socket" /proc/net/unix && rm -f "$socket"
done
echo "$folder/$mark-$1.sock"
"#;

/// Prints mode and owner of a socket, and who we are.
const CHECK: &str = r#"[ -S "$1" ] && stat -c "%a %u" "$1" && id -u"#;

impl Remote {
    /// Makes a socket on the host whose connections arrive at `local`. Returns its path there.
    pub async fn forward(&self, local: &Path) -> Result<String, SshError> {
        const WHAT: &str = "making a socket";
        let name = random_name()?;
        let prepare = Script {
            what: WHAT,
            body: PREPARE,
            args: &[&name],
        };
        let path = self.ask(&prepare).await?;
        let path = path.trim();
        if let Some(why) = path.strip_prefix("unwritable ") {
            return Err(self.not_writable(why).await);
        }
        if !path.starts_with('/') || path.contains(':') {
            return Err(self.makes_no_sense(WHAT, path));
        }
        self.request(path, local).await?;
        let check = Script {
            what: WHAT,
            body: CHECK,
            args: &[path],
        };
        let seen = self.ask(&check).await?;
        let seen: Vec<_> = seen.split_whitespace().collect();
        match seen[..] {
            ["600", owner, we] if owner == we => Ok(path.to_owned()),
            [mode, ..] => {
                let cancel = format!("{path}:{}", local.display());
                let cancel = ["-O", "cancel", "-R", &cancel, "none"];
                let _ = timeout(ANSWER, self.ssh(&cancel).output()).await;
                Err(SshError::OpenSocket {
                    host: self.name().to_owned(),
                    path: path.to_owned(),
                    mode: last_words(mode),
                })
            }
            [] => Err(self.makes_no_sense(WHAT, "")),
        }
    }

    async fn request(&self, path: &str, local: &Path) -> Result<(), SshError> {
        let forward = format!("{path}:{}", local.display());
        let words = [
            "-o",
            "ClearAllForwardings=no",
            "-O",
            "forward",
            "-R",
            &forward,
            "none",
        ];
        let asked = timeout(ANSWER, self.ssh(&words).output()).await;
        let Ok(output) = asked else {
            return Err(SshError::TimedOut {
                host: self.name().to_owned(),
                what: "making a socket",
                secs: ANSWER.as_secs(),
            });
        };
        let output = output.map_err(|e| SshError::local("cannot start", "ssh".as_ref(), e))?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        if self.is_alive().await {
            return Err(SshError::Forward {
                host: self.name().to_owned(),
                said: last_words(&stderr),
            });
        }
        Err(self.lost(&stderr))
    }
}
