//! What a host is like, asked in one login.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::SshError;
use super::channel::Script;
use super::remote::{ANSWER, Remote};

const WHAT: &str = "looking around";

/// Answers a line first, so that the time for that is the network's and not the programs'.
const SCRIPT: &str = r#"
read -r ping; echo pong
read -r ping; date +%s.%N
echo "os $(uname -s)"
echo "arch $(uname -m)"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=$(ldd --version 2>&1 | head -n 2 | tr "\n" " ")
echo "libc $libc"
# What nproc says by itself heeds the affinity, but also what OpenMP is told.
cores=$(unset OMP_NUM_THREADS OMP_THREAD_LIMIT; nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null ||
  grep -c ^processor /proc/cpuinfo)
at_most() { case $1$2 in ''|*[!0-9]*) ;; *) n=$(($1 / $2)); [ $n -ge 1 ] || n=1; [ $n -ge $cores ] || cores=$n ;; esac; }
# A quota holds for all groups below it. Version 2, and version 1.
while IFS=: read -r id kinds group; do
  case $id,$kinds in 0,|*,cpu|*,cpu,*|*,*,cpu|*,*,cpu,*) ;; *) continue ;; esac
  while :; do
    for top in /sys/fs/cgroup /sys/fs/cgroup/unified; do
      if [ -z "$kinds" ] && read -r quota period 2>/dev/null <"$top$group/cpu.max"; then at_most "$quota" "$period"; fi
    done
    for top in /sys/fs/cgroup/cpu "/sys/fs/cgroup/$kinds"; do
      if [ -n "$kinds" ] && read -r quota 2>/dev/null <"$top$group/cpu.cfs_quota_us" &&
        read -r period 2>/dev/null <"$top$group/cpu.cfs_period_us"; then at_most "$quota" "$period"; fi
    done
    case $group in ''|/) break ;; esac
    group=${group%/*}
  done
done 2>/dev/null </proc/self/cgroup
echo "cores $cores"
# Without asking a program that takes seconds: NVIDIA's, and AMD's.
gpus=$(ls /proc/driver/nvidia/gpus 2>/dev/null | grep -c .)
[ "$gpus" -gt 0 ] || gpus=$(cat /sys/class/kfd/kfd/topology/nodes/*/gpu_id 2>/dev/null | grep -c "[1-9]")
echo "gpus $gpus"
while read -r name kib unit; do
  case $name in
    MemTotal:) echo "memory_kib $kib" ;;
    MemAvailable:) echo "available_kib $kib" ;;
  esac
done 2>/dev/null </proc/meminfo
dir=$cache
until [ -d "$dir" ]; do dir=${dir%/*}; dir=${dir:-/}; done
echo "free_kib $(free_kib "$dir")"
echo "home $HOME"
echo "cache $cache"
echo end
"#;

/// A host's C library, which decides what programs it can run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd)]
pub enum Libc {
    /// GNU's, with its version.
    Glibc(u32, u32),
    /// That of Alpine and others.
    Musl,
    /// Nothing that we know; in its own words.
    Other(String),
}

impl fmt::Display for Libc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glibc(major, minor) => write!(f, "glibc {major}.{minor}"),
            Self::Musl => f.write_str("musl"),
            Self::Other(words) if words.is_empty() => f.write_str("an unknown C library"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// What a host is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// As `uname -m` says: `x86_64`, `aarch64`, …
    pub arch: String,
    /// Its C library.
    pub libc: Libc,
    /// Cores that processes of this user may use.
    pub cores: usize,
    /// GPUs that frameworks may find there.
    pub gpus: usize,
    /// All its memory.
    pub memory_bytes: u64,
    /// What new processes can have of it.
    pub available_bytes: u64,
    /// Free space where the cache is.
    pub free_bytes: u64,
    /// How far its clock is ahead of ours, in seconds; negative when behind.
    pub clock_ahead_secs: f64,
    /// There and back, in a connection that stands.
    pub round_trip: Duration,
    /// The user's home folder.
    pub home: String,
    /// The folder of our objects, runs and sockets.
    pub cache: String,
}

impl Facts {
    /// What computes there, in words.
    pub fn computes(&self) -> String {
        let gpus = match self.gpus {
            0 => String::new(),
            1 => ", 1 GPU".to_owned(),
            many => format!(", {many} GPUs"),
        };
        format!("{} cores{gpus}", self.cores)
    }
}

impl Remote {
    /// Looks around on the host.
    pub async fn facts(&self) -> Result<Facts, SshError> {
        let script = Script {
            what: WHAT,
            body: SCRIPT,
            args: &[],
        };
        let mut channel = self.open(&script, ANSWER).await?;
        let asked = Instant::now();
        channel.write(b"\n").await?;
        let pong = channel.some_line().await?;
        let round_trip = asked.elapsed();
        if pong != "pong" {
            return Err(self.makes_no_sense(WHAT, &pong));
        }
        let asked = SystemTime::now();
        channel.write(b"\n").await?;
        let date = channel.some_line().await?;
        // Its clock was read after half of the way there and back.
        let ours = asked + asked.elapsed().unwrap_or_default() / 2;
        let ours = ours.duration_since(UNIX_EPOCH).unwrap_or_default();
        let answer = channel.answer().await?;
        let clock = seconds(&date).ok_or_else(|| self.makes_no_sense(WHAT, &date))?;
        let words = Words(&answer);
        let os = words.of("os").unwrap_or_default();
        if os != "Linux" && !os.is_empty() {
            return Err(SshError::WrongOs {
                host: self.name().to_owned(),
                os: super::stderr::visible_line(os),
            });
        }
        parse(&words, clock - ours.as_secs_f64(), round_trip)
            .map_err(|wrong| self.makes_no_sense(WHAT, &wrong))
    }
}

/// Seconds since 1970 as `date +%s.%N` says it. Where it knows no fractions, the middle is nearest.
fn seconds(date: &str) -> Option<f64> {
    let (whole, fraction) = date.split_once('.')?;
    let whole = whole.parse::<u64>().ok()? as f64;
    let digits = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    let fraction = digits.then(|| format!("0.{fraction}").parse().ok());
    Some(whole + fraction.unwrap_or(Some(0.5))?)
}

/// Lines of a name and a value.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn of(&self, name: &str) -> Option<&'a str> {
        let lines = self.0.lines().filter_map(|line| line.split_once(' '));
        lines
            .filter(|(n, _)| *n == name)
            .map(|(_, value)| value.trim())
            .next()
    }

    fn word(&self, name: &str) -> Result<&'a str, String> {
        match self.of(name) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(format!("no {name}")),
        }
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let word = self.word(name)?;
        word.parse().map_err(|_| format!("{name} is {word:?}"))
    }

    fn kib(&self, name: &str) -> Result<u64, String> {
        let kib: u64 = self.number(name)?;
        kib.checked_mul(1024)
            .ok_or_else(|| format!("{name} is {kib}"))
    }
}

fn parse(words: &Words<'_>, clock_ahead_secs: f64, round_trip: Duration) -> Result<Facts, String> {
    if words.0.lines().last() != Some("end") {
        return Err("the answer has no end".to_owned());
    }
    Ok(Facts {
        arch: words.word("arch")?.to_owned(),
        libc: libc(words.of("libc").unwrap_or_default()),
        cores: words.number::<usize>("cores")?.max(1),
        gpus: words.number("gpus")?,
        memory_bytes: words.kib("memory_kib")?,
        // Kernels before 3.14 do not know it.
        available_bytes: words.kib("available_kib").or(words.kib("memory_kib"))?,
        free_bytes: words.kib("free_kib")?,
        clock_ahead_secs,
        round_trip,
        home: words.word("home")?.to_owned(),
        cache: words.word("cache")?.to_owned(),
    })
}

fn libc(words: &str) -> Libc {
    if words.starts_with("musl") {
        return Libc::Musl;
    }
    let version = words.strip_prefix("glibc ").and_then(|v| {
        let (major, rest) = v.split_once('.')?;
        let minor = rest.split('.').next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    match version {
        Some((major, minor)) => Libc::Glibc(major, minor),
        None => Libc::Other(super::stderr::visible_line(words)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "os Linux\narch x86_64\nlibc glibc 2.36\ncores 2\ngpus 0\nmemory_kib 100\n\
                          available_kib 50\nfree_kib 7\nhome /root\ncache /root/.cache/dsgd\nend\n";

    fn read(answer: &str) -> Result<Facts, String> {
        parse(&Words(answer), 0.0, Duration::ZERO)
    }

    #[test]
    fn an_answer_is_read() {
        let facts = read(ANSWER).unwrap();
        assert_eq!(facts.libc, Libc::Glibc(2, 36));
        assert_eq!((facts.cores, facts.memory_bytes), (2, 102_400));
        assert_eq!((facts.available_bytes, facts.free_bytes), (51_200, 7_168));
        assert_eq!(facts.cache, "/root/.cache/dsgd");
    }

    #[test]
    fn nonsense_is_an_error() {
        for (right, wrong) in [
            ("cores 2", "cores two"),
            ("cores 2\n", ""),
            ("free_kib 7", "free_kib "),
            ("memory_kib 100", "memory_kib 99999999999999999999"),
            ("memory_kib 100", "memory_kib 18446744073709551615"),
            ("arch x86_64", "arch"),
            ("end\n", ""),
        ] {
            assert!(ANSWER.contains(right), "{right}");
            assert!(read(&ANSWER.replace(right, wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn c_libraries_are_distinguished() {
        assert_eq!(libc("glibc 2.17"), Libc::Glibc(2, 17));
        assert_eq!(libc("glibc 2.17.1"), Libc::Glibc(2, 17));
        assert_eq!(libc("musl libc (x86_64) Version 1.2.4 "), Libc::Musl);
        assert_eq!(libc("glibc x"), Libc::Other("glibc x".to_owned()));
    }

    #[test]
    fn clocks_without_fractions_count_from_the_middle() {
        assert_eq!(seconds("12.250000000"), Some(12.25));
        assert_eq!(seconds("12.%N"), Some(12.5));
        assert_eq!(seconds("12.N"), Some(12.5));
        assert_eq!(seconds("now"), None);
    }
}
