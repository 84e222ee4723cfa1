//! Bytes that nobody meant well: tokens, and messages about users. Fuzz targets of `tools/fuzz`, which gives the seed.

use super::realm::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use plinth_api::methods;
use plinth_api::proto::etcdserverpb as pb;
use plinth_random::Random;
use plinth_server::tokens::jwt::{Jwt, JwtOptions};
use prost::Message;

/// Messages sent per call, and tokens looked at.
const MESSAGES: usize = 20;
const TOKENS: usize = 3_000;

fn random() -> Random {
    let seed = std::env::var("PLINTH_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("PLINTH_FUZZ_SEED={seed}");
    Random::new(seed)
}

/// Some bytes changed, left out or repeated.
fn mutated(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(5) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(4) {
            0 => bytes.insert(at, random.bits() as u8),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.extend_from_within(..at),
            _ if at < bytes.len() => bytes[at] = random.bits() as u8,
            _ => {}
        }
    }
    bytes
}

#[test]
fn hostile_tokens_are_nobodys() {
    let mut random = random();
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "a secret").expect("written");
    let options = format!("sign-method=HS256,priv-key={}", secret.display());
    let mut jwt = Jwt::open(&JwtOptions::parse(&options).expect("options")).expect("opens");
    let good = jwt.issuer().issue("me", 7, 1000.0).expect("signed");
    let parts: Vec<Vec<u8>> = good.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64")).collect();
    for _ in 0..TOKENS {
        // Of the whole, or of what is inside, with the signature of something else.
        let token = match random.below(3) {
            0 => mutated(&mut random, good.as_bytes()),
            _ => {
                let changed = random.below(3) as usize;
                let part = |(number, part): (usize, &Vec<u8>)| match number == changed {
                    true => URL_SAFE_NO_PAD.encode(mutated(&mut random, part)),
                    false => URL_SAFE_NO_PAD.encode(part),
                };
                parts.iter().enumerate().map(part).collect::<Vec<_>>().join(".").into_bytes()
            }
        };
        let found = jwt.find(&token, 1001.0);
        assert!(found.is_none() || token == good.as_bytes(), "{}", String::from_utf8_lossy(&token));
    }
    assert!(jwt.find(good.as_bytes(), 1001.0).is_some());
}

/// A message of bytes as they are.
#[derive(Clone, Debug, Default)]
struct Raw(Vec<u8>);

impl Message for Raw {
    fn encode_raw(&self, buffer: &mut impl bytes::BufMut) {
        buffer.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: prost::encoding::WireType,
        buffer: &mut impl bytes::Buf,
        context: prost::encoding::DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        prost::encoding::skip_field(wire_type, tag, buffer, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_messages_about_users_are_survived() {
    let mut random = random();
    let (mut realm, _) = Realm::with_user(&[]).await;
    let user = pb::AuthUserAddRequest { name: "x".into(), password: "p".into(), ..Default::default() };
    let role = pb::AuthRoleGrantPermissionRequest {
        name: "r".into(),
        perm: Some(plinth_api::proto::authpb::Permission { perm_type: 2, key: "k".into(), range_end: "l".into() }),
    };
    let seeds = [user.encode_to_vec(), role.encode_to_vec(), b"\x0a\x01x\x12\x01r".to_vec(), Vec::new()];
    let paths = [
        methods::AUTHENTICATE.path,
        methods::AUTH_STATUS.path,
        methods::USER_ADD.path,
        methods::USER_GET.path,
        methods::USER_LIST.path,
        methods::USER_DELETE.path,
        methods::USER_CHANGE_PASSWORD.path,
        methods::USER_GRANT_ROLE.path,
        methods::USER_REVOKE_ROLE.path,
        methods::ROLE_ADD.path,
        methods::ROLE_GET.path,
        methods::ROLE_LIST.path,
        methods::ROLE_DELETE.path,
        methods::ROLE_GRANT_PERMISSION.path,
        methods::ROLE_REVOKE_PERMISSION.path,
    ];
    for path in paths {
        for _ in 0..MESSAGES {
            let seed = &seeds[random.below(seeds.len() as u64) as usize];
            let message = mutated(&mut random, seed);
            // `root` keeps its password: the rest of the test goes on as root.
            if message.windows(4).any(|window| window == b"root") {
                continue;
            }
            let _ = realm.root.call_at::<Raw, Raw>(path, Raw(message)).await;
        }
    }
    realm.root.put("k", "1", None).await.expect("it goes on");
    // And so does what it has written, from the log.
    realm.server.kill();
    realm.server.restart();
    let mut root = realm.sign_in("root").await;
    assert_eq!(root.get("k", None).await.expect("read").kvs[0].value[..], *b"1");
}
