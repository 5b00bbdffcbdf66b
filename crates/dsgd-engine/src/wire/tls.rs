//! TLS for `--listen`: rustls on both sides, with what it works on kept in the cache.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::credentials::SERVER_NAME;
use super::paced::Connection;

/// Bytes that are encrypted before they are sent: they are still in the first cache then.
const BATCH: usize = 32 << 10;

/// Bytes that the system is asked for at a time; rustls itself asks for 4 KiB.
const BUFFER: usize = 128 << 10;

/// The server's side, once the other has shown that it belongs to the run.
pub(super) async fn accept(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<Connection> {
    let stream = BufReader::with_capacity(BUFFER, stream);
    let mut stream = acceptor.accept(stream).await?;
    stream.get_mut().1.set_buffer_limit(Some(BATCH));
    Ok(Box::pin(stream))
}

/// The worker's side, once the server has.
pub(super) async fn connect(
    config: Arc<ClientConfig>,
    stream: TcpStream,
) -> io::Result<Connection> {
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    let stream = BufReader::with_capacity(BUFFER, stream);
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    stream.get_mut().1.set_buffer_limit(Some(BATCH));
    Ok(Box::pin(stream))
}
