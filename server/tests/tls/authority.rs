//! An authority of the test's own, and certificates as files.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Its own certificate.
    pub file: PathBuf,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// PEM.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
    serial: Vec<u8>,
}

impl Pair {
    /// Takes the place of another one, file by file.
    pub fn replace(&self, other: &Pair) {
        for (from, to) in [(&self.cert, &other.cert), (&self.key, &other.key)] {
            std::fs::copy(from, to).expect("copied");
        }
    }

    /// The paths as flags take them.
    pub fn texts(&self) -> [String; 2] {
        [self.cert.display().to_string(), self.key.display().to_string()]
    }
}

/// What a certificate says, if it is signed.
pub fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names");
    params.distinguished_name = DistinguishedName::new();
    if !name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params
}

impl Authority {
    /// With its files in `folder`.
    pub fn new(folder: &Path) -> Authority {
        let mut params = params("authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let file = folder.join("ca.crt");
        std::fs::write(&file, issuer.pem()).expect("written");
        Authority { issuer, file }
    }

    /// Signs, and writes the files `stem.crt` and `stem.key` beside its own.
    pub fn sign(&self, stem: &str, mut params: CertificateParams) -> Pair {
        static NEXT: AtomicU32 = AtomicU32::new(0x4000);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes()[2..].to_vec();
        params.serial_number = Some(serial.clone().into());
        let pair = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&pair, &self.issuer).expect("signed");
        let (cert, key) =
            (self.file.with_file_name(format!("{stem}.crt")), self.file.with_file_name(format!("{stem}.key")));
        std::fs::write(&cert, certificate.pem()).expect("written");
        std::fs::write(&key, pair.serialize_pem()).expect("written");
        Pair { cert, key, serial }
    }

    /// A list of revoked certificates in DER.
    pub fn revoke(&self, pairs: &[&Pair]) -> Vec<u8> {
        let then = rcgen::date_time_ymd(2020, 1, 1);
        let entry = |pair: &&Pair| RevokedCertParams {
            serial_number: pair.serial.clone().into(),
            revocation_time: then,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: then,
            next_update: rcgen::date_time_ymd(2021, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: pairs.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("signed").der().to_vec()
    }
}
