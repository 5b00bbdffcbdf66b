//! What may be asked of the page, and by whom.
//!
//! `/` the document · `/api/board` a board as JSON · `/api/events` what changes of it, as server-sent
//! events · `/api/runs` the runs of the folder · `/metrics` for Prometheus · `/healthz`. Each takes
//! `?run=NAME` for another run of the folder. Where there is a token, nothing answers without it, be it
//! `?token=…` or `Authorization: Bearer …`. Where there is none, on a loopback address, only requests
//! to such an address are answered: a name in the `Host` header may be a stranger's, who made it point
//! here so that his own page could read ours.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::frame::Cursor;
use super::library::{Followed, Library, Listed, Missing};
use super::{assets, metrics};
use crate::board::Board;
use dsgd_engine::wire::credentials::Token;

/// Readers of events at a time.
const MOST_READERS: usize = 32;

/// A reader gets at most two pictures a second.
const PACE: Duration = Duration::from_millis(500);

/// … and one at least in so long: it says that all is well.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What a token proves is that its bearer has it, and nothing else.
const CONTEXT: &str = "page";

/// What the routes need.
pub(super) struct Site {
    library: Arc<Library>,
    token: Option<Token>,
    address: SocketAddr,
    closed: watch::Receiver<bool>,
    places: Arc<Semaphore>,
    readers: Arc<AtomicUsize>,
}

impl Site {
    pub(super) fn new(
        library: Arc<Library>,
        token: Option<Token>,
        address: SocketAddr,
        closed: watch::Receiver<bool>,
    ) -> Self {
        Self {
            library,
            token,
            address,
            closed,
            places: Arc::new(Semaphore::new(MOST_READERS)),
            readers: Arc::default(),
        }
    }

    /// Readers that are there.
    pub(super) fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }

    /// Whether that request may be answered; else why not.
    fn admits(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        let Some(token) = &self.token else {
            if is_own(headers) || !self.address.ip().is_loopback() {
                return Ok(());
            }
            let words = "This page answers to localhost and 127.0.0.1 only.\n";
            return Err((StatusCode::MISDIRECTED_REQUEST, words));
        };
        let bearer = headers.get(header::AUTHORIZATION);
        let bearer = bearer.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let shown = parameter(uri, "token").or(bearer.map(str::to_owned));
        match shown.map(Token::try_from) {
            // Compared by what can be proved with them, which takes as long whatever is wrong.
            Some(Ok(shown)) if token.accepts(&shown.proof(&[], CONTEXT), &[], CONTEXT) => Ok(()),
            _ => Err((
                StatusCode::UNAUTHORIZED,
                "This page wants the token of its run: open the whole address that dsgd has printed, with \
                 ?token=…\n",
            )),
        }
    }

    fn run(&self, uri: &Uri) -> Result<Arc<Followed>, Missing> {
        self.library.get(parameter(uri, "run").as_deref())
    }
}

impl IntoResponse for Missing {
    fn into_response(self) -> Response {
        let (status, words) = match self {
            Self::NoRun => (StatusCode::NOT_FOUND, "There is no such run here.\n"),
            Self::TooMany => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many runs are looked at: close a page.\n",
            ),
        };
        (status, words).into_response()
    }
}

/// All that can be asked for.
pub(super) fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(document))
        .route("/api/board", get(board))
        .route("/api/events", get(events))
        .route("/api/runs", get(runs))
        .route("/metrics", get(prometheus))
        .route("/healthz", get(async || "ok\n"))
        .fallback(async || (StatusCode::NOT_FOUND, "There is nothing here.\n"))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard))
        .with_state(site)
}

/// Turns away who may not ask, and marks all answers as nobody else's business.
async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let mut response = match site.admits(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    set(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    );
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CACHE_CONTROL, "no-store");
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    response
}

async fn document() -> Response {
    let nonce = String::from(Token::fresh());
    let kind = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, assets::policy(&nonce)),
    ];
    (kind, assets::document(&nonce)).into_response()
}

/// A board, and what follows from it.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    board: &'a Board,
    /// What its speeds count, and how many of them each bucket of its series has.
    unit: &'a str,
    items: Vec<u64>,
    live: usize,
    remaining_secs: Option<f64>,
    slowest: Option<String>,
    idle_secs: f64,
    read: u64,
    size: u64,
}

async fn board(State(site): State<Arc<Site>>, uri: Uri) -> Result<Response, Missing> {
    let run = site.run(&uri)?;
    let view = run.view();
    let board = &view.board;
    let whole = Whole {
        board,
        unit: board.unit(),
        items: board
            .series
            .buckets
            .iter()
            .map(|bucket| board.items(bucket.stats.units, bucket.stats.examples))
            .collect(),
        live: board.live_count(),
        remaining_secs: board.remaining_secs(),
        slowest: board.slowest().map(|slowest| slowest.to_string()),
        idle_secs: view.idle_secs(),
        read: view.read,
        size: view.size,
    };
    Ok(json(&whole))
}

/// The runs of the folder.
#[derive(Serialize)]
struct Runs<'a> {
    /// Which one is shown where nothing else is said.
    main: &'a str,
    /// Latest first.
    runs: Vec<Listed>,
}

async fn runs(State(site): State<Arc<Site>>) -> Response {
    let library = Arc::clone(&site.library);
    // Reading both ends of 200 files may take a while.
    let list = tokio::task::spawn_blocking(move || library.list()).await;
    json(&Runs {
        main: site.library.main(),
        runs: list.unwrap_or_default(),
    })
}

async fn prometheus(State(site): State<Arc<Site>>, uri: Uri) -> Result<Response, Missing> {
    let run = site.run(&uri)?;
    let name = parameter(&uri, "run");
    let name = name.as_deref().unwrap_or(site.library.main());
    let text = metrics::text(name, &run.view());
    Ok(([(header::CONTENT_TYPE, metrics::TYPE)], text).into_response())
}

async fn events(State(site): State<Arc<Site>>, uri: Uri) -> Result<Response, Missing> {
    let Ok(place) = Arc::clone(&site.places).try_acquire_owned() else {
        let words = format!("{MOST_READERS} pages are open already: close one.\n");
        let later = [(header::RETRY_AFTER, "10")];
        return Ok((StatusCode::SERVICE_UNAVAILABLE, later, words).into_response());
    };
    let run = site.run(&uri)?;
    let (frames, stream) = mpsc::channel(1);
    tokio::spawn(send_frames(
        run,
        frames,
        site.closed.clone(),
        Reader::new(&site, place),
    ));
    let stream = ReceiverStream::new(stream).map(Ok::<Bytes, std::convert::Infallible>);
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::from_stream(stream)).into_response())
}

/// A place that is given back.
struct Reader {
    readers: Arc<AtomicUsize>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    fn new(site: &Site, place: OwnedSemaphorePermit) -> Self {
        site.readers.fetch_add(1, Ordering::Relaxed);
        Self {
            readers: Arc::clone(&site.readers),
            _place: place,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends a reader what is new, whenever it has taken the frame before.
async fn send_frames(
    run: Arc<Followed>,
    frames: mpsc::Sender<Bytes>,
    mut closed: watch::Receiver<bool>,
    reader: Reader,
) {
    let mut news = run.news();
    let mut cursor = Cursor::default();
    loop {
        // A reader who has gone away is found here; how long one may stand still is the listener's to say.
        let Ok(place) = frames.reserve().await else {
            break;
        };
        let is_last = *closed.borrow();
        news.mark_unchanged();
        let frame = cursor.next(&run.view());
        place.send(format!("data: {frame}\n\n").into());
        if is_last {
            break;
        }
        let next = async {
            sleep(PACE).await;
            let _ = timeout(HEARTBEAT, news.changed()).await;
        };
        tokio::select! {
            () = next => {}
            _ = closed.wait_for(|closed| *closed) => {}
            () = frames.closed() => break,
        }
    }
    drop(reader);
}

fn json(value: &impl Serialize) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    match serde_json::to_vec(value) {
        Ok(bytes) => (kind, bytes).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// A parameter of the address.
fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri
        .query()?
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    let value = value.replace('+', " ");
    percent_decode_str(&value)
        .decode_utf8()
        .ok()
        .map(Into::into)
}

/// Whether the request was addressed to this machine by a name that nobody else can give.
fn is_own(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let Some(host) = host else { return false };
    let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, digits)) if port(digits) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let address = name.parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        headers
    }

    #[test]
    fn names_of_strangers_are_not_ours() {
        for host in [
            "localhost:3743",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]:80",
            "LOCALHOST",
        ] {
            assert!(is_own(&asked(host)), "{host}");
        }
        for host in [
            "evil.example:3743",
            "localhost.evil.example",
            "10.0.0.1:3743",
            "",
        ] {
            assert!(!is_own(&asked(host)), "{host}");
        }
        assert!(!is_own(&HeaderMap::new()));
    }

    #[test]
    fn parameters_are_decoded() {
        let uri: Uri = "/api/board?token=x&run=a%20b+c%2Fd".parse().unwrap();
        assert_eq!(parameter(&uri, "run").as_deref(), Some("a b c/d"));
        assert_eq!(parameter(&uri, "token").as_deref(), Some("x"));
        assert_eq!(parameter(&uri, "to"), None);
    }
}
