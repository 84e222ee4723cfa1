//! Hostile bytes: whatever arrives first, and whatever certificates and lists look like, nothing panics and nobody is let in.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use proptest::sample::Index;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConnection, Connection, ServerConnection};

use super::stream::feed;
use super::{CertificateFacts, ClientSettings, Common, Credentials, Revoked, Rules, ServerSettings, Trust};

struct Ground {
    server: ServerSettings,
    certificate: Vec<u8>,
    list: Vec<u8>,
    hello: Vec<u8>,
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let key = KeyPair::generate().unwrap();
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).unwrap();
    let chain = vec![certificate.der().clone()];
    let then = rcgen::date_time_ymd(2020, 1, 1);
    let revoked = rcgen::RevokedCertParams {
        serial_number: 7.into(),
        revocation_time: then,
        reason_code: None,
        invalidity_date: None,
    };
    let list = rcgen::CertificateRevocationListParams {
        this_update: then,
        next_update: rcgen::date_time_ymd(2021, 1, 1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&rcgen::Issuer::from_params(&params, &key)).unwrap().der().to_vec();
    let credentials = Credentials { chain: chain.clone(), key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() };
    let trust = Trust { roots: chain.clone(), rules: Rules::default() };
    let common = Common { protocols: vec!["h2"], ..Common::default() };
    let server = ServerSettings::new(&credentials, Some(&trust), &common).unwrap();
    let client = ClientSettings::new(None, Some(&trust), &common).unwrap();
    let mut client = ClientConnection::new(client.config(), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut hello = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut hello).unwrap();
    }
    Ground { server, certificate: chain[0].to_vec(), list, hello }
});

/// Changes of some bytes, and where the rest is cut off.
fn mutated(bytes: &[u8], changes: &[(Index, u8)], end: Index) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes.truncate(end.index(bytes.len()) + 1);
    bytes
}

fn receive(bytes: &[u8], pieces: usize) {
    let mut server = Connection::Server(ServerConnection::new(Arc::clone(&GROUND.server.config)).unwrap());
    for mut piece in bytes.chunks(pieces) {
        if let Err(failure) = feed(&mut server, &mut piece) {
            assert!(!failure.to_string().is_empty());
            break;
        }
    }
    assert!(server.is_handshaking() && server.peer_certificates().is_none());
}

proptest! {
    #[test]
    fn hostile_hellos(
        changes in prop::collection::vec(any::<(Index, u8)>(), 0..6),
        end in any::<Index>(),
        whole in any::<bool>(),
        pieces in 1_usize..600,
    ) {
        let mut bytes = mutated(&GROUND.hello, &changes, end);
        if whole && bytes.len() < GROUND.hello.len() {
            bytes.extend_from_slice(&GROUND.hello[bytes.len()..]);
        }
        receive(&bytes, pieces);
    }

    #[test]
    fn hostile_first_bytes(bytes in prop::collection::vec(any::<u8>(), 1..400), pieces in 1_usize..50) {
        receive(&bytes, pieces);
        let record = [&[0x16, 3, 1, (bytes.len() >> 8) as u8, bytes.len() as u8], bytes.as_slice()].concat();
        receive(&record, pieces);
    }

    #[test]
    fn hostile_certificates_and_lists(changes in prop::collection::vec(any::<(Index, u8)>(), 1..6), end in any::<Index>()) {
        let _ = CertificateFacts::read(&mutated(&GROUND.certificate, &changes, end));
        let _ = Revoked::read(&mutated(&GROUND.list, &changes, end));
    }
}

#[test]
fn the_ground_is_good() {
    assert!(CertificateFacts::read(&GROUND.certificate).is_some());
    assert!(Revoked::read(&GROUND.list).is_ok());
}
