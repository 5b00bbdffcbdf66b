//! Which program a host gets, and whether it can run there, known before anything is sent.

use std::path::{Path, PathBuf};

use super::elf::Needs;
use super::facts::{Facts, Libc};
use super::{Object, SshError};

/// The oldest glibc for which programs are built, in the words of `cargo zigbuild`.
const OLDEST_GLIBC: &str = "gnu.2.17";

/// The programs for several architectures: this one for its own, others from files.
#[derive(Clone, Debug)]
pub struct Binaries {
    of_arch: Vec<(String, PathBuf)>,
}

impl Binaries {
    /// Files for some architectures; this very program is added for its own.
    pub fn new(of_arch: Vec<(String, PathBuf)>) -> Result<Self, SshError> {
        let mut of_arch = of_arch;
        let own = std::env::consts::ARCH;
        if !of_arch.iter().any(|(arch, _)| arch == own) {
            of_arch.push((own.to_owned(), own_program()?));
        }
        Ok(Self { of_arch })
    }

    /// The program for a host, checked against what the host is like.
    pub fn choose(&self, host: &str, facts: &Facts) -> Result<Object, SshError> {
        self.check(host, facts)?;
        Object::program(self.file(host, &facts.arch)?)
    }

    /// Whether there is a program for a host, and it can run there.
    pub fn check(&self, host: &str, facts: &Facts) -> Result<(), SshError> {
        let file = self.file(host, &facts.arch)?;
        fits(host, facts, file, &Needs::of(file)?)
    }

    /// The file for an architecture.
    fn file(&self, host: &str, arch: &str) -> Result<&Path, SshError> {
        let found = self.of_arch.iter().find(|(of, _)| of == arch);
        found
            .map(|(_, file)| file.as_path())
            .ok_or_else(|| SshError::NoProgram {
                host: host.to_owned(),
                arch: arch.to_owned(),
            })
    }
}

/// `ARCH=FILE`, as options have it.
pub fn parse_binary(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((arch, file)) if !arch.is_empty() && !file.is_empty() => {
            let arch = match arch {
                "arm64" => "aarch64",
                "amd64" => "x86_64",
                arch => arch,
            };
            Ok((arch.to_owned(), file.into()))
        }
        _ => Err("must be ARCH=FILE, such as aarch64=target/aarch64/dsgd".to_owned()),
    }
}

/// The file of this process. On Linux it can be read even when it was replaced since.
fn own_program() -> Result<PathBuf, SshError> {
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        return Ok(link.to_owned());
    }
    std::env::current_exe()
        .map_err(|source| SshError::local("cannot find", Path::new("this program"), source))
}

fn fits(host: &str, facts: &Facts, file: &Path, needs: &Needs) -> Result<(), SshError> {
    let name = match file.to_str() {
        Some("/proc/self/exe") => "this program".to_owned(),
        _ => file.display().to_string(),
    };
    let (host, arch) = (host.to_owned(), facts.arch.clone());
    if needs.machine != facts.arch {
        return Err(SshError::WrongArch {
            host,
            arch,
            file: name,
            machine: needs.machine.clone(),
        });
    }
    let newest = needs.glibc.map(|(major, minor)| Libc::Glibc(major, minor));
    let (needed, wanted) = match (&facts.libc, newest) {
        (Libc::Glibc(..), None) if needs.musl => (Libc::Musl, OLDEST_GLIBC),
        (Libc::Glibc(..), Some(newest)) if newest > facts.libc => (newest, OLDEST_GLIBC),
        (Libc::Musl, Some(newest)) => (newest, "musl"),
        // Where we cannot tell, it is tried.
        (Libc::Glibc(..) | Libc::Other(_), _) | (Libc::Musl, None) => return Ok(()),
    };
    Err(SshError::WrongLibc {
        host,
        arch,
        has: facts.libc.to_string().into(),
        file: name.into(),
        needs: needed.to_string().into(),
        wanted,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn host(arch: &str, libc: Libc) -> Facts {
        Facts {
            arch: arch.to_owned(),
            libc,
            cores: 1,
            gpus: 0,
            memory_bytes: 0,
            available_bytes: 0,
            free_bytes: 0,
            clock_ahead_secs: 0.0,
            round_trip: Duration::ZERO,
            home: "/h".to_owned(),
            cache: "/h/c".to_owned(),
        }
    }

    fn needs(machine: &str, glibc: Option<(u32, u32)>) -> Needs {
        Needs {
            machine: machine.to_owned(),
            glibc,
            musl: false,
        }
    }

    fn words(facts: &Facts, needs: &Needs) -> String {
        let fits = fits("h3", facts, Path::new("f"), needs);
        fits.err().map_or(String::new(), |e| e.to_string())
    }

    #[test]
    fn what_a_host_cannot_run_is_reported_with_the_remedy() {
        let old = host("x86_64", Libc::Glibc(2, 17));
        assert_eq!(words(&old, &needs("x86_64", Some((2, 17)))), "");
        assert_eq!(words(&old, &needs("x86_64", None)), "");
        assert_eq!(
            words(&old, &needs("x86_64", Some((2, 34)))),
            "h3 has glibc 2.17, f needs glibc 2.34: build it with `cargo zigbuild --release \
             --target x86_64-unknown-linux-gnu.2.17`, and pass --binary x86_64=FILE"
        );
        assert_eq!(
            words(&old, &needs("aarch64", None)),
            "h3 is x86_64, f is for aarch64: build it with `cargo zigbuild --release --target \
             x86_64-unknown-linux-gnu.2.17`, or pass --binary x86_64=FILE"
        );
        let of_alpine = Needs {
            musl: true,
            ..needs("x86_64", None)
        };
        assert!(words(&old, &of_alpine).starts_with("h3 has glibc 2.17, f needs musl: "));
        let alpine = host("x86_64", Libc::Musl);
        assert!(words(&alpine, &needs("x86_64", Some((2, 2)))).contains("linux-musl"));
        assert_eq!(words(&alpine, &needs("x86_64", None)), "");
    }

    #[test]
    fn an_architecture_without_a_program_is_reported() {
        let binaries = Binaries::new(vec![("riscv64".to_owned(), "f".into())]).unwrap();
        assert!(binaries.file("h", "riscv64").is_ok());
        assert!(binaries.file("h", std::env::consts::ARCH).is_ok());
        assert_eq!(
            binaries.file("h3", "sparc").unwrap_err().to_string(),
            "h3 is sparc: build the program for it with `cargo zigbuild --release --target \
             sparc-unknown-linux-gnu.2.17`, or pass --binary sparc=FILE"
        );
    }

    #[test]
    fn options_name_architectures() {
        let arm = ("aarch64".to_owned(), PathBuf::from("a=b"));
        assert_eq!(parse_binary("arm64=a=b"), Ok(arm));
        assert!(parse_binary("aarch64").is_err() && parse_binary("=f").is_err());
    }
}
