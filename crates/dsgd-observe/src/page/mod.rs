//! The page: a run seen in a browser, by its board.
//!
//! It is served by the process that trains, or by `dsgd dashboard` for a run of any process, living
//! or dead, for both follow the run's `events.jsonl` (`library`). So whoever looks cannot hold a run
//! up: the server writes its file and knows nothing of a page. A reader gets a picture of the whole
//! and then what has changed (`frame`), at his own pace: who reads slowly misses intermediate
//! states and costs no memory. How many come in at all is limited at the `listener`; what they may ask
//! for, and who may ask, is settled in `routes`.
//!
//! What it leaves out: nothing can be changed through it, and it has no TLS. Elsewhere than on this
//! machine it wants a token; on a network that is not trusted, an ssh tunnel to the loopback address.

mod assets;
mod frame;
mod library;
mod listener;
mod metrics;
mod routes;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use dsgd_engine::wire::credentials::Token;
use library::Library;
use routes::Site;

/// The port where nothing else is said: `dsgd` on the keys of a telephone.
pub const PORT: u16 = 3743;

/// At the end of a run, readers have so long to get its last picture.
const FAREWELL: Duration = Duration::from_secs(2);

/// An address for a page, taken but not yet answering.
#[derive(Debug)]
pub struct Stand {
    listener: TcpListener,
    address: SocketAddr,
}

impl Stand {
    /// Takes the first of these addresses that is free.
    ///
    /// # Errors
    /// What the system says of the last one.
    pub fn take(candidates: &[SocketAddr]) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for candidate in candidates {
            let taken = TcpListener::bind(candidate).and_then(|listener| {
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                Ok(Self { listener, address })
            });
            match taken {
                Ok(stand) => return Ok(stand),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// This machine's own, on that port, the usual one or any.
    pub fn usual(before: Option<u16>) -> Vec<SocketAddr> {
        let ports = before.into_iter().chain([PORT, 0]);
        let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
        ports.map(|port| SocketAddr::new(own, port)).collect()
    }

    /// The address that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether only this machine's own users reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}

/// A page that is being served.
pub struct Page {
    library: Arc<Library>,
    closing: watch::Sender<bool>,
    site: Arc<Site>,
}

/// The run of a folder that has said something last.
pub fn latest(folder: &Path) -> Option<PathBuf> {
    library::latest(folder)
}

impl Page {
    /// Serves the run in that folder, and beside it the other runs of the folder's own folder. Without a
    /// token everybody who reaches the address may look.
    ///
    /// # Errors
    /// When the system gives no thread or no event loop.
    pub fn serve(stand: Stand, run: &Path, token: Option<Token>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(stand.listener)?
        };
        let library = Arc::new(Library::open(run)?);
        let (closing, closed) = watch::channel(false);
        let site = Arc::new(Site::new(
            Arc::clone(&library),
            token,
            stand.address,
            closed.clone(),
        ));
        let router = routes::router(Arc::clone(&site));
        thread::Builder::new()
            .name("page".to_owned())
            .spawn(move || runtime.block_on(listener::serve(listener, router, closed)))?;
        Ok(Self {
            library,
            closing,
            site,
        })
    }

    /// Shows whoever looks how the run has ended, and closes.
    pub fn close(self) {
        let deadline = Instant::now() + FAREWELL;
        let wait_until = |is_it: &dyn Fn() -> bool| {
            while !is_it() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(10));
            }
        };
        if self.site.readers() > 0 {
            wait_until(&|| self.library.has_read_all());
        }
        let _ = self.closing.send(true);
        wait_until(&|| self.site.readers() == 0);
    }
}
