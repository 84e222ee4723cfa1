//! Fail points by HTTP, on a port and a thread of their own: one request after the other, whatever reactors do.

use super::registry::{self, NAMES};
use plinth_net::http1::{Framing, Http1Request, HttpDate, Limits, Method, Response, Version, parse, write_response};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request: a name and a chain of terms.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Listens at `address`.
pub fn start(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    std::thread::Builder::new().name("failpoints".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever breaks off is told nothing.
            let _ = serve(stream);
        }
    })?;
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let limits = Limits { head_bytes_max: REQUEST_BYTES_MAX, body_bytes_max: REQUEST_BYTES_MAX };
    let (mut input, mut out) = (Vec::new(), Vec::new());
    loop {
        match parse(&input, limits) {
            Err(error) => {
                error.write_response(&mut out);
                return stream.write_all(&out);
            }
            Ok(Some((request, _))) => {
                let framing = Framing { version: Version::Http11, keep_alive: false, head: false };
                write_response(&mut out, &answer(&request), framing, &HttpDate::from_unix_seconds(0));
                return stream.write_all(&out);
            }
            Ok(None) => {}
        }
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        input.extend_from_slice(&piece[..count]);
    }
}

fn answer(request: &Http1Request) -> Response {
    let name = request.path().trim_start_matches('/');
    match request.method {
        Method::Get if name.is_empty() => {
            let line = |name: &&str| format!("{name}={}\n", registry::get(name).flatten().unwrap_or_default());
            text(NAMES.iter().map(line).collect())
        }
        Method::Get => match registry::get(name) {
            None => Response::error(404, "failed to GET: failpoint: failpoint does not exist"),
            Some(None) => Response::error(404, "failed to GET: failpoint: failpoint is disabled"),
            Some(Some(terms)) => text(terms + "\n"),
        },
        Method::Put => match registry::set(name, &String::from_utf8_lossy(&request.body)) {
            Ok(()) => Response::new(204),
            Err(error) => Response::error(400, &format!("failed to set failpoint {name}: {error}")),
        },
        Method::Delete if registry::clear(name) => Response::new(204),
        Method::Delete => Response::error(400, "failed to delete failpoint: failpoint: failpoint is disabled"),
        _ => Response::error(405, "Method not allowed").header("Allow", "DELETE, GET, PUT"),
    }
}

fn text(body: String) -> Response {
    Response::with_body(200, "text/plain; charset=utf-8", body)
}
