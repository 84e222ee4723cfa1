//! The news that the server is ready, or stops, for systemd: units of type `notify` wait for the first.
//!
//! A datagram to the socket named in the environment, which is all there is to the protocol. Without the variable
//! nobody waits.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable with the socket's address: a path, or an abstract name behind `@`.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells systemd that the server is ready. `Ok(false)`: nobody wants to know.
pub fn notify_ready() -> io::Result<bool> {
    notify("READY=1")
}

/// Tells systemd that the server is about to end. `Ok(false)`: nobody wants to know.
pub fn notify_stopping() -> io::Result<bool> {
    notify("STOPPING=1")
}

fn notify(state: &str) -> io::Result<bool> {
    match std::env::var(VARIABLE) {
        Ok(address) if !address.is_empty() => send(&address, state).map(|()| true),
        _ => Ok(false),
    }
}

fn send(address: &str, state: &str) -> io::Result<()> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let sent = UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    assert_eq!(sent, state.len(), "datagrams are sent whole");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_reach_paths_and_abstract_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let path = path.to_str().expect("UTF-8");
        let name = format!("@plinth-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name[1..]).expect("a name");
        let sockets = [
            (path, UnixDatagram::bind(path).expect("bound")),
            (name.as_str(), UnixDatagram::bind_addr(&abstract_address).expect("bound")),
        ];
        for (address, socket) in sockets {
            send(address, "READY=1").expect("sent");
            let mut buffer = [0; 32];
            let length = socket.recv(&mut buffer).expect("received");
            assert_eq!(&buffer[..length], b"READY=1", "{address}");
        }
        assert!(send("/nonexistent/socket", "READY=1").is_err());
    }
}
