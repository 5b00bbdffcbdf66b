//! Bytes through a bare connection: what the wire is held to.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::Context;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};

use crate::route::{Moment, Round, Route};
use dsgd_core::params::Params;
use dsgd_engine::wire::CHUNK;
use dsgd_engine::wire::credentials::{Identity, SERVER_NAME};

/// Two ends of a connection: one here, one in a thread of its own.
pub(crate) struct Bare {
    here: Box<dyn Stream>,
    params: Arc<Params>,
    buffer: Vec<u8>,
    spec: Sender<Order>,
    done: Receiver<io::Result<Moment>>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// What the other end is to do.
enum Order {
    Send,
    Receive,
}

/// Plain TCP.
pub(crate) fn tcp(params: &Arc<Params>) -> anyhow::Result<Bare> {
    let (here, there) = connection()?;
    Ok(Bare::new(Box::new(here), Box::new(there), params))
}

/// TLS by rustls, as it comes: with the provider and the certificates that the wire has.
pub(crate) fn rustls(params: &Arc<Params>) -> anyhow::Result<Bare> {
    let (server, worker) = Identity::for_a_run()?;
    let (here, there) = connection()?;
    let client = ClientConnection::new(worker.client()?, ServerName::try_from(SERVER_NAME)?)?;
    let server = ServerConnection::new(server.server()?)?;
    Ok(Bare::new(
        Box::new(rustls::StreamOwned::new(client, here)),
        Box::new(rustls::StreamOwned::new(server, there)),
        params,
    ))
}

impl Bare {
    fn new(here: Box<dyn Stream>, mut there: Box<dyn Stream>, params: &Arc<Params>) -> Self {
        let (spec, inbox) = channel();
        let (outbox, done) = channel();
        let bytes = Arc::clone(params);
        thread::spawn(move || {
            let mut buffer = vec![0; CHUNK];
            for order in inbox {
                let result = match order {
                    Order::Send => send(&mut there, bytes_of(&bytes)),
                    Order::Receive => receive(&mut there, &mut buffer, bytes_of(&bytes).len()),
                };
                if outbox.send(result.map(|()| Moment::now())).is_err() {
                    return;
                }
            }
        });
        Self {
            here,
            params: Arc::clone(params),
            buffer: vec![0; CHUNK],
            spec,
            done,
        }
    }

    fn order(&self, order: Order) -> anyhow::Result<()> {
        self.spec.send(order).context("the other end is gone")
    }

    fn other_end(&self) -> anyhow::Result<Moment> {
        Ok(self.done.recv().context("the other end is gone")??)
    }
}

impl Route for Bare {
    fn round(&mut self) -> anyhow::Result<Round> {
        let bytes = bytes_of(&self.params);
        let started = Moment::now();
        self.order(Order::Send)?;
        receive(&mut self.here, &mut self.buffer, bytes.len())?;
        let pull = started.until(Moment::now());
        self.other_end()?;
        let started = Moment::now();
        self.order(Order::Receive)?;
        send(&mut self.here, bytes)?;
        let push = started.until(self.other_end()?);
        Ok(Round { pull, push })
    }
}

fn bytes_of(params: &Params) -> &[u8] {
    bytemuck::cast_slice(params.flat())
}

fn send(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(CHUNK) {
        stream.write_all(piece)?;
    }
    stream.flush()
}

fn receive(stream: &mut impl Read, buffer: &mut [u8], mut bytes: usize) -> io::Result<()> {
    while bytes > 0 {
        let most = bytes.min(buffer.len());
        match stream.read(&mut buffer[..most])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => bytes -= read,
        }
    }
    Ok(())
}

fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let here = TcpStream::connect(listener.local_addr()?)?;
    let (there, _) = listener.accept()?;
    here.set_nodelay(true)?;
    there.set_nodelay(true)?;
    Ok((here, there))
}
