//! The web page: `--dashboard` of a run, and `dsgd dashboard` for runs of any process.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, anyhow, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde::{Deserialize, Serialize};

use dsgd_engine::host_name;
use dsgd_engine::run::{CONFIG, DASHBOARD, EVENTS, RunFolder};
use dsgd_engine::wire::credentials::Token;
use dsgd_observe::output::{self, say};
use dsgd_observe::page::{self, PORT, Page, Stand};

/// Options of `dsgd dashboard`.
#[derive(Debug, Args)]
struct DashboardArgs {
    /// Folder of a run, or of several: then the latest of them is shown first
    #[arg(value_name = "RUN|FOLDER", default_value = "runs")]
    path: PathBuf,
    /// Where to serve it; elsewhere than on this machine's own addresses it wants the printed token
    /// [default: 127.0.0.1:3743, or another port when that is taken]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
}

pub(super) fn command() -> Command {
    DashboardArgs::augment_args(Command::new("dashboard"))
        .about("Show runs in a browser, running or done")
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = DashboardArgs::from_arg_matches(matches)?;
    let path = args.path.display();
    let is_run = [EVENTS, CONFIG].iter().any(|f| args.path.join(f).is_file());
    let no_run = || {
        anyhow!("{path} is no run and holds none: give a run's folder, or the folder of several")
    };
    let run = if is_run {
        args.path.clone()
    } else {
        page::latest(&args.path).ok_or_else(no_run)?
    };
    let stand = take(args.listen.as_deref().unwrap_or_default(), None)?;
    let token = (!stand.is_loopback()).then(Token::fresh);
    let url = url(&stand, token.as_ref());
    let _page = Page::serve(stand, &run, token).context("cannot serve the page")?;
    say(format_args!("{} is shown at {url}", run.display()));
    say("Ctrl-C ends this page; the runs go on.");
    output::written()?;
    loop {
        thread::park();
    }
}

/// What a page of a run was served with, kept so that its next life answers to the same address.
#[derive(Serialize, Deserialize)]
struct Before {
    port: u16,
    token: Option<Token>,
}

/// A page of a run that is about to start.
pub(super) struct Prepared {
    stand: Stand,
    token: Option<Token>,
}

/// Takes the address of a run's page, and says how to get there.
pub(super) fn prepare(wanted: &str, folder: &RunFolder) -> anyhow::Result<Prepared> {
    let before = fs::read_to_string(folder.file(DASHBOARD)).ok();
    let before = before.and_then(|text| serde_json::from_str::<Before>(&text).ok());
    let stand = take(wanted, before.as_ref().map(|before| before.port))?;
    let known = before.and_then(|before| before.token);
    let token = (!stand.is_loopback()).then(|| known.unwrap_or_else(Token::fresh));
    say(format_args!("Dashboard: {}", url(&stand, token.as_ref())));
    Ok(Prepared { stand, token })
}

impl Prepared {
    /// Answers from now on.
    pub(super) fn serve(self, folder: &RunFolder) -> anyhow::Result<Page> {
        let now = Before {
            port: self.stand.address().port(),
            token: self.token.clone(),
        };
        folder.write_secret(DASHBOARD, &serde_json::to_string(&now)?)?;
        Page::serve(self.stand, folder.path(), self.token).context("cannot serve the page")
    }
}

fn take(wanted: &str, before: Option<u16>) -> anyhow::Result<Stand> {
    if wanted.is_empty() {
        return Stand::take(&Stand::usual(before)).context("no port to be had for the page");
    }
    let address = address(wanted)?;
    let again = before.filter(|_| address.port() == 0);
    let again = again.map(|port| SocketAddr::new(address.ip(), port));
    let candidates: Vec<_> = again.into_iter().chain([address]).collect();
    Stand::take(&candidates).map_err(|error| {
        anyhow!(
            "the page cannot be served at {address}: {error}; give an address of this machine, where \
             another port may be free, or 0 for any"
        )
    })
}

/// `ADDR:PORT`, `ADDR`, `PORT` or `localhost:PORT`.
fn address(text: &str) -> anyhow::Result<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(port) = text.trim_start_matches(':').parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    if let Ok(ip) = text.parse() {
        return Ok(SocketAddr::new(ip, PORT));
    }
    let named = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    let Some(address) = named else {
        bail!("{text}: must be an address and a port of this machine, such as 0.0.0.0:{PORT}");
    };
    Ok(address)
}

/// What to type into a browser.
fn url(stand: &Stand, token: Option<&Token>) -> String {
    let address = stand.address();
    let at = if address.ip().is_unspecified() {
        format!("{}:{}", host_name(), address.port())
    } else {
        address.to_string()
    };
    let token = token.map(|token| format!("?token={}", String::from(token.clone())));
    format!("http://{at}/{}", token.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_be_short() {
        let known = |text: &str| address(text).unwrap().to_string();
        assert_eq!(known("0.0.0.0:80"), "0.0.0.0:80");
        assert_eq!(known("8080"), "127.0.0.1:8080");
        assert_eq!(known(":0"), "127.0.0.1:0");
        assert_eq!(known("10.0.0.1"), "10.0.0.1:3743");
        assert_eq!(known("[::1]:80"), "[::1]:80");
        assert!(address("no such thing").is_err());
    }
}
