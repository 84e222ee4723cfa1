//! Why a connection did not come about, in the words of Go's library, which operators and their tools know.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use x509_parser::time::ASN1Time;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The handshake failed.
    #[error("{}", words(.0))]
    Tls(Error),
    /// What came was something else.
    #[error("tls: first record does not look like a TLS handshake")]
    NotTls,
    /// The other side closed the connection.
    #[error("EOF")]
    Eof,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("tls: handshake timed out")]
    TimedOut,
    /// The other side sent more than a handshake may need.
    #[error("tls: handshake message is too large")]
    TooLarge,
    /// Too many others are at it.
    #[error("too many handshakes at a time")]
    TooMany,
    /// A certificate cannot be read.
    #[error("tls: failed to parse certificate from the other side")]
    Malformed,
    /// This serial number is on the list of the revoked.
    #[error("transport: certificate serial {} revoked", hexadecimal(.0))]
    Revoked(Vec<u8>),
    /// The certificate is not valid for the address it came from.
    #[error("{0}")]
    Address(String),
    /// Our own side cannot: no certificate, an unreadable list.
    #[error("{0}")]
    Settings(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                Failure::NotTls
            }
            other => Failure::Tls(other),
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> io::Error {
        match failure {
            Failure::Io(error) => error,
            Failure::TimedOut => io::Error::new(io::ErrorKind::TimedOut, "tls: handshake timed out"),
            Failure::Eof => io::ErrorKind::UnexpectedEof.into(),
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An error of the handshake.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_words(*alert)),
        Error::InvalidCertificate(error) => certificate_words(error),
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        Error::NoApplicationProtocol => "tls: client requested unsupported application protocols".to_owned(),
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            "tls: no cipher suite supported by both client and server".to_owned()
        }
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => "tls: client offered only unsupported versions".to_owned(),
        Error::DecryptError => "local error: tls: bad record MAC".to_owned(),
        Error::PeerSentOversizedRecord => "tls: oversized record received".to_owned(),
        other => format!("tls: {other}"),
    }
}

/// Go's names of alerts.
fn alert_words(alert: AlertDescription) -> String {
    let words = match alert {
        AlertDescription::CloseNotify => "close notify",
        AlertDescription::UnexpectedMessage => "unexpected message",
        AlertDescription::BadRecordMac => "bad record MAC",
        AlertDescription::RecordOverflow => "record overflow",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::IllegalParameter => "illegal parameter",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::DecodeError => "error decoding message",
        AlertDescription::DecryptError => "error decrypting message",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::InsufficientSecurity => "insufficient security level",
        AlertDescription::InternalError => "internal error",
        AlertDescription::UserCanceled => "user canceled",
        AlertDescription::MissingExtension => "missing extension",
        AlertDescription::UnsupportedExtension => "unsupported extension",
        AlertDescription::UnrecognisedName => "unrecognized name",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        other => return format!("alert({})", u8::from(other)),
    };
    words.to_owned()
}

/// Why a certificate was not believed.
fn certificate_words(error: &CertificateError) -> String {
    let why = match error {
        // Only rules of ours say this without more (see `verify`).
        CertificateError::NotValidForName => return "client certificate authentication failed".to_owned(),
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired | CertificateError::NotValidYet => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::ExpiredContext { time, not_after } => format!(
            "certificate has expired or is not yet valid: current time {} is after {}",
            moment(time.as_secs()),
            moment(not_after.as_secs())
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "certificate has expired or is not yet valid: current time {} is before {}",
            moment(time.as_secs()),
            moment(not_before.as_secs())
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            name_words(&expected.to_str(), matches!(expected, rustls::pki_types::ServerName::IpAddress(_)), presented)
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate specifies an incompatible key usage".to_owned()
        }
        CertificateError::BadSignature => "invalid signature".to_owned(),
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

/// That a certificate is for others.
pub(super) fn name_words(host: &str, is_address: bool, names: &[String]) -> String {
    match (names.is_empty(), is_address) {
        (true, true) => format!("cannot validate certificate for {host} because it doesn't contain any IP SANs"),
        (true, false) => format!("certificate is not valid for any names, but wanted to match {host}"),
        (false, _) => format!("certificate is valid for {}, not {host}", names.join(", ")),
    }
}

/// A time as RFC 3339 has it.
fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    let Some(time) = time.map(|time| time.to_datetime()) else { return seconds.to_string() };
    let (hour, minute, second) = time.to_hms();
    format!("{}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", time.year(), u8::from(time.month()), time.day())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{ServerName, UnixTime};
    use std::time::Duration;

    #[test]
    fn the_words_of_go() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let not_for = |host: &str, presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: ServerName::try_from(host.to_owned()).unwrap(),
            presented: presented.iter().map(|name| (*name).to_owned()).collect(),
        };
        let cases: [(Error, &str); 7] = [
            (Error::AlertReceived(AlertDescription::BadCertificate), "remote error: tls: bad certificate"),
            (CertificateError::NotValidForName.into(), "client certificate authentication failed"),
            (
                CertificateError::UnknownIssuer.into(),
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            ),
            (
                CertificateError::ExpiredContext { time: at(1_700_000_000), not_after: at(951_782_400) }.into(),
                "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time \
                 2023-11-14T22:13:20Z is after 2000-02-29T00:00:00Z",
            ),
            (
                not_for("a.example", &["127.0.0.1", "b"]).into(),
                "tls: failed to verify certificate: x509: certificate is valid for 127.0.0.1, b, not a.example",
            ),
            (
                not_for("10.0.0.1", &[]).into(),
                "tls: failed to verify certificate: x509: cannot validate certificate for 10.0.0.1 because it doesn't \
                 contain any IP SANs",
            ),
            (Error::NoCertificatesPresented, "tls: client didn't provide a certificate"),
        ];
        for (error, expected) in cases {
            assert_eq!(Failure::from(error).to_string(), expected);
        }
        assert_eq!(Failure::Revoked(vec![1, 0xab]).to_string(), "transport: certificate serial 01ab revoked");
    }
}
