//! What lies between requests and their socket: nothing, or TLS. No task or buffer more than in clear, so that what the
//! generator takes grows by the arithmetic alone.

use super::requests::Requests;
use crate::endpoint::Wire;
use crate::grpc::CallError;
use rustls::ClientConnection;
use std::io::{self, Read, Write};
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;

/// Opened and sealed here.
pub enum Layer {
    Clear,
    Tls {
        connection: Box<ClientConnection>,
        /// What was opened last.
        plain: Vec<u8>,
    },
}

/// A socket that takes what it can at once.
struct Now<'a, 'b>(&'a WriteHalf<'b>);

impl Write for Now<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Layer {
    /// Takes a connection apart.
    pub fn of(wire: Wire) -> (TcpStream, Layer) {
        match wire {
            Wire::Clear(socket) => (socket, Layer::Clear),
            Wire::Tls(stream) => {
                let (socket, mut connection) = stream.into_inner();
                // `Requests` has a bound, and is sealed only when all before it has gone.
                connection.set_buffer_limit(None);
                (socket, Layer::Tls { connection: Box::new(connection), plain: Vec::new() })
            }
        }
    }

    /// Whether bytes wait for the socket.
    pub fn is_blocked(&self, requests: &Requests) -> bool {
        let sealed = matches!(self, Layer::Tls { connection, .. } if connection.wants_write());
        sealed || !requests.waiting().is_empty()
    }

    /// Writes what the socket takes.
    pub fn send(&mut self, requests: &mut Requests, writer: &WriteHalf<'_>) -> Result<(), CallError> {
        match self.try_send(requests, &mut Now(writer)) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn try_send(&mut self, requests: &mut Requests, socket: &mut Now<'_, '_>) -> io::Result<()> {
        match self {
            Layer::Clear => {
                while !requests.waiting().is_empty() {
                    let taken = socket.write(requests.waiting())?;
                    requests.taken(taken);
                }
            }
            Layer::Tls { connection, .. } => loop {
                while connection.wants_write() {
                    connection.write_tls(socket)?;
                }
                if requests.waiting().is_empty() {
                    break;
                }
                let taken = connection.writer().write(requests.waiting())?;
                requests.taken(taken);
            },
        }
        Ok(())
    }

    /// What `received` says.
    pub fn open<'a>(&'a mut self, mut received: &'a [u8]) -> Result<&'a [u8], CallError> {
        let Layer::Tls { connection, plain } = self else { return Ok(received) };
        plain.clear();
        loop {
            // Refused only for the sake of bytes that wait to be read, which is done at once.
            let taken = if received.is_empty() { 0 } else { connection.read_tls(&mut received).unwrap_or(0) };
            connection.process_new_packets().map_err(|_| CallError::Malformed("what TLS does not allow"))?;
            match connection.reader().read_to_end(plain) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
                _ if received.is_empty() => return Ok(plain),
                _ if taken == 0 => return Err(CallError::Malformed("more than TLS takes")),
                _ => {}
            }
        }
    }
}
