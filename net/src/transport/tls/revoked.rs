//! Certificates that count no more, by their serial numbers. A list is taken as it is: who issued it and when is not looked
//! at.

use std::collections::HashSet;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::{CertificateFacts, Failure};

/// Serial numbers, big-endian without zeros in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked(HashSet<Vec<u8>>);

impl Revoked {
    /// Reads a list in DER or PEM.
    pub fn read(text: &[u8]) -> Result<Revoked, String> {
        let pem = CertificateRevocationListDer::from_pem_slice(text).ok();
        let der = pem.as_ref().map_or(text, |pem| pem.as_ref());
        let (_, list) =
            CertificateRevocationList::from_der(der).map_err(|error| format!("x509: malformed crl: {error}"))?;
        Ok(Revoked(list.iter_revoked_certificates().map(|entry| entry.user_certificate.to_bytes_be()).collect()))
    }

    /// Refuses a chain of which any certificate is on the list.
    pub(super) fn check(&self, chain: &[CertificateDer<'_>]) -> Result<(), Failure> {
        for certificate in chain {
            // What cannot be read here has passed no other check either.
            let facts = CertificateFacts::read(certificate).ok_or(Failure::Malformed)?;
            if self.0.contains(&facts.serial) {
                return Err(Failure::Revoked(facts.serial));
            }
        }
        Ok(())
    }
}
