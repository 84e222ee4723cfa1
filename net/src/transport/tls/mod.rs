//! TLS over the sockets of a reactor: who the other side is, and that nobody else reads along.
//!
//! ```text
//!   certificates, keys, rules --> ServerSettings / ClientSettings --(a Source yields the present ones)--.
//!   socket + first bytes --> handshake (its arithmetic on the crew's threads) --> TlsStream, Identity <-'
//! ```
//!
//! - `settings`: what either side is to do, built from parts; `suites`: names of cipher suites and versions
//! - `verify`: whom we believe; `address`: from where; `certificate`: what a certificate says; `revoked`: which ones count no more
//! - `handshake`, `crew`: from two sockets to a connection, without holding up a reactor
//! - `stream`: bytes in, records out; `failure`: what went wrong, in the words that operators know from Go
//!
//! Invariants: sessions are never resumed, so that what is checked at a handshake holds for every connection; a reactor
//! does no public key arithmetic; an idle connection holds no buffer beyond some 4 KiB.

#[cfg(feature = "runtime")]
mod address;
mod certificate;
#[cfg(feature = "runtime")]
mod crew;
mod failure;
#[cfg(feature = "runtime")]
mod handshake;
mod revoked;
mod settings;
#[cfg(feature = "runtime")]
mod stream;
mod suites;
#[cfg(all(test, feature = "runtime"))]
mod tests;
mod verify;

#[cfg(feature = "runtime")]
pub(crate) use address::check as check_address;
pub use certificate::{CertificateFacts, matches_hostname, read_certificates, read_key, system_roots};
pub use failure::Failure;
#[cfg(feature = "runtime")]
pub(crate) use handshake::{Identity, accept, connect};
pub use revoked::Revoked;
pub use rustls::pki_types::{CertificateDer, PrivateKeyDer};
pub use settings::{ClientSettings, Common, Credentials, ServerSettings, Source, Trust};
#[cfg(feature = "runtime")]
pub use stream::TlsStream;
pub use suites::{Suites, Version, Versions};
pub use verify::Rules;

/// The first byte of every record of a handshake.
#[cfg(feature = "runtime")]
pub(crate) const HANDSHAKE_BYTE: u8 = 0x16;
