//! Where a server is, and how one gets there.

use std::io;

use http::Uri;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tonic::transport::{self, Channel};
use tower::service_fn;

use super::LinkError;
use super::error::stranger;
use crate::wire::credentials::{Identity, Token};
use crate::wire::paced::{Connection, Paced, Traffic};
use crate::wire::{CALL, FRAME, WINDOW, tls};
use dsgd_core::text::causes;

/// How a server can be reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`.
    pub address: String,
    /// For `https`.
    pub identity: Option<Identity>,
    /// The run's secret.
    pub token: Token,
    /// Name of this host, for messages.
    pub host: String,
}

impl Endpoint {
    /// A connection, to be spoken on by hand.
    ///
    /// # Errors
    /// Why there is none within the time of a call.
    pub async fn connect(&self) -> Result<Channel, LinkError> {
        let endpoint = self.clone();
        let connector = service_fn(move |at| connect(endpoint.clone(), at, Traffic::default()));
        let transport = self.transport()?;
        match timeout(CALL, transport.connect_with_connector(connector)).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(match stranger(&error) {
                Some(reason) => LinkError::OtherServer {
                    address: self.address.clone(),
                    reason,
                },
                None => self.unreachable(causes(&error)),
            }),
            Err(_) => Err(self.unreachable("no answer".to_owned())),
        }
    }

    /// Whether the address says where to go, and how.
    ///
    /// # Errors
    /// What is wrong with it: nothing that waiting could mend.
    pub fn check(&self) -> Result<(), LinkError> {
        let wrong = |reason: &str| {
            Err(LinkError::Address {
                address: self.address.clone(),
                reason: reason.to_owned(),
            })
        };
        if self.address.is_empty() {
            return wrong("the invitation does not say where the server is");
        }
        if let Some(path) = self.address.strip_prefix("unix:") {
            return match path {
                "" => wrong("the socket's path is missing"),
                _ => Ok(()),
            };
        }
        let Ok(uri) = self.address.parse::<Uri>() else {
            return wrong("it is no URL");
        };
        let scheme = match self.identity {
            Some(_) => "https",
            None => "http",
        };
        if uri.scheme_str() != Some(scheme) {
            return wrong(&format!("it must begin with {scheme}://"));
        }
        if uri.host().is_none_or(str::is_empty) {
            return wrong("the host is missing");
        }
        if uri.port_u16().is_none_or(|port| port == 0) {
            return wrong("the port is missing");
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return wrong("there is more in it than host and port");
        }
        Ok(())
    }

    /// What connections are made with.
    pub(super) fn transport(&self) -> Result<transport::Endpoint, LinkError> {
        self.check()?;
        let transport = transport::Endpoint::from_shared(self.address.clone());
        let transport = transport.map_err(|error| self.unreachable(causes(&error)))?;
        Ok(transport
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(FRAME)
            .connect_timeout(CALL))
    }

    fn unreachable(&self, reason: String) -> LinkError {
        LinkError::Unreachable {
            address: self.address.clone(),
            reason,
        }
    }
}

/// Connects; `at` has the host and the port, if there are any.
pub(super) async fn connect(
    endpoint: Endpoint,
    at: Uri,
    traffic: Traffic,
) -> io::Result<TokioIo<Paced<()>>> {
    let connection: Connection = if let Some(path) = endpoint.address.strip_prefix("unix:") {
        Box::pin(UnixStream::connect(path).await?)
    } else {
        let host = at.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = at.port_u16().unwrap_or_default();
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        match endpoint.identity {
            Some(identity) => tls::connect(identity.client()?, stream).await?,
            None => Box::pin(stream),
        }
    };
    Ok(TokioIo::new(Paced::new(connection, (), traffic)))
}
