//! The name of an address, which the standard library does not look up.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockAddr;

/// Room for any name of the DNS, and the zero behind it.
const NAME_BYTES_MAX: usize = 1025;

/// The host name of an address. Asks the system, which may wait long.
pub fn name_of(address: IpAddr) -> io::Result<String> {
    let address = SockAddr::from(SocketAddr::new(address, 0));
    let mut name = [0_u8; NAME_BYTES_MAX];
    // SAFETY: the address is valid for its length, the buffer is for the length that is said; no service is asked for. The
    // system writes a text that ends with a zero into the buffer, or reports an error.
    let failed = unsafe {
        libc::getnameinfo(
            address.as_ptr().cast(),
            address.len(),
            name.as_mut_ptr().cast(),
            NAME_BYTES_MAX as libc::socklen_t,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if failed != 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the address has no name"));
    }
    let name = CStr::from_bytes_until_nul(&name).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(name.to_string_lossy().into_owned())
}
