//! Signed tokens (`--auth-token=jwt,...`): JSON Web Tokens that name a user and the revision of users and roles at which
//! they were given out. Members store nothing; whoever has the key can make one.
//!
//! All sign methods of etcd: RSA with PKCS #1 and PSS padding, ECDSA, Ed25519, HMAC. The cryptography is aws-lc's, which TLS
//! uses too; crates for JWT lack ES512 and the older notations of keys that etcd reads.
//!
//! Invariants: a token counts only if it is signed by exactly the method that was configured; no token and no key reaches a
//! log or the text of an error.

use crate::sys;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair, UnparsedPublicKey};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use plinth_api::go::parse_duration;
use rustc_hash::FxHashMap;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a token lives if the configuration does not say.
const TTL: Duration = Duration::from_secs(300);

/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Tokens whose signatures were found good, so that they need not be verified with each call.
const KNOWN_MAX: usize = 4096;

/// Largest key file, in bytes.
const KEY_BYTES_MAX: u64 = 1 << 20;

const INVALID: &str = "auth: invalid auth options";

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of RFC 7518")]
pub enum Method {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
    Hs256,
    Hs384,
    Hs512,
}

const METHODS: [(&str, Method); 13] = [
    ("RS256", Method::Rs256),
    ("RS384", Method::Rs384),
    ("RS512", Method::Rs512),
    ("PS256", Method::Ps256),
    ("PS384", Method::Ps384),
    ("PS512", Method::Ps512),
    ("ES256", Method::Es256),
    ("ES384", Method::Es384),
    ("ES512", Method::Es512),
    ("EdDSA", Method::EdDsa),
    ("HS256", Method::Hs256),
    ("HS384", Method::Hs384),
    ("HS512", Method::Hs512),
];

impl Method {
    fn parse(name: &str) -> Option<Method> {
        METHODS.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }

    fn name(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Method::Hs256 => Some(hmac::HMAC_SHA256),
            Method::Hs384 => Some(hmac::HMAC_SHA384),
            Method::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    fn ecdsa(self) -> Option<&'static signature::EcdsaSigningAlgorithm> {
        match self {
            Method::Es256 => Some(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Method::Es384 => Some(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Method::Es512 => Some(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            _ => None,
        }
    }

    fn rsa(self) -> Option<&'static dyn signature::RsaEncoding> {
        match self {
            Method::Rs256 => Some(&signature::RSA_PKCS1_SHA256),
            Method::Rs384 => Some(&signature::RSA_PKCS1_SHA384),
            Method::Rs512 => Some(&signature::RSA_PKCS1_SHA512),
            Method::Ps256 => Some(&signature::RSA_PSS_SHA256),
            Method::Ps384 => Some(&signature::RSA_PSS_SHA384),
            Method::Ps512 => Some(&signature::RSA_PSS_SHA512),
            _ => None,
        }
    }

    /// How signatures of the method are verified, if they are not sums with a secret.
    fn verification(self) -> Option<&'static dyn signature::VerificationAlgorithm> {
        match self {
            Method::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Method::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Method::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Method::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Method::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Method::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            Method::Es256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
            Method::Es384 => Some(&signature::ECDSA_P384_SHA384_FIXED),
            Method::Es512 => Some(&signature::ECDSA_P521_SHA512_FIXED),
            Method::EdDsa => Some(&signature::ED25519),
            Method::Hs256 | Method::Hs384 | Method::Hs512 => None,
        }
    }
}

/// What `--auth-token=jwt,...` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtOptions {
    method: Method,
    public: Option<PathBuf>,
    private: Option<PathBuf>,
    ttl: Duration,
}

impl JwtOptions {
    /// Reads what stands behind `jwt,`.
    ///
    /// # Errors
    /// If it is none of etcd's notations, or asks for what there is not.
    pub fn parse(text: &str) -> Result<JwtOptions, String> {
        let mut given: FxHashMap<&str, &str> = FxHashMap::default();
        for option in text.split(',').filter(|_| !text.is_empty()) {
            let (name, value) = option.split_once('=').filter(|(_, value)| !value.contains('=')).ok_or(INVALID)?;
            if given.insert(name, value).is_some() {
                return Err(INVALID.to_owned());
            }
        }
        let name = given.remove("sign-method").ok_or(INVALID)?;
        let method = Method::parse(name).ok_or_else(|| format!("{INVALID}: no sign-method {name:?}"))?;
        let ttl = match given.remove("ttl") {
            None => TTL,
            Some(text) => {
                let nanos = parse_duration(text).map_err(|_| INVALID)?;
                Duration::from_nanos(u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).ok_or(INVALID)?)
            }
        };
        let (public, private) =
            (given.remove("pub-key").map(PathBuf::from), given.remove("priv-key").map(PathBuf::from));
        for name in given.keys() {
            tracing::warn!(option = name, "unknown JWT options");
        }
        Ok(JwtOptions { method, public, private, ttl })
    }
}

/// A key that signs.
enum Signer {
    Rsa(RsaKeyPair, &'static dyn signature::RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hmac(Box<hmac::Key>),
}

impl Signer {
    /// Reads a private key, or a secret.
    fn read(method: Method, file: &[u8]) -> Option<Signer> {
        if let Some(algorithm) = method.hmac() {
            return Some(Signer::Hmac(Box::new(hmac::Key::new(algorithm, file))));
        }
        let key = PrivateKeyDer::from_pem_slice(file).ok()?;
        if let Some(encoding) = method.rsa() {
            let pair = match &key {
                PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
                other => RsaKeyPair::from_pkcs8(other.secret_der()),
            };
            return pair.ok().map(|pair| Signer::Rsa(pair, encoding));
        }
        match method.ecdsa() {
            Some(algorithm) => EcdsaKeyPair::from_private_key_der(algorithm, key.secret_der()).ok().map(Signer::Ecdsa),
            None => Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_der()).ok().map(Signer::Ed25519),
        }
    }

    /// The public half.
    fn public(&self) -> Vec<u8> {
        match self {
            Signer::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
            Signer::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Signer::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Signer::Hmac(_) => Vec::new(),
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = rand::SystemRandom::new();
        match self {
            Signer::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Signer::Ecdsa(pair) => pair.sign(&random, message).ok().map(|signature| signature.as_ref().to_vec()),
            Signer::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
            Signer::Hmac(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
        }
    }
}

/// A token that was found good.
#[derive(Clone, Debug, PartialEq)]
struct Claims {
    user: Arc<str>,
    revision: u64,
    /// Seconds since 1970 between which it counts.
    from: f64,
    until: f64,
}

/// Gives tokens out, on any thread.
#[derive(Clone)]
pub struct Issuer {
    method: Method,
    ttl: Duration,
    signer: Option<Arc<Signer>>,
}

impl Issuer {
    /// Whether there is a key to sign with.
    pub fn can_sign(&self) -> bool {
        self.signer.is_some()
    }

    /// A token for a user; `now` in seconds since 1970.
    pub fn issue(&self, user: &str, revision: u64, now: f64) -> Option<String> {
        let claims = serde_json::json!({
            "exp": (now + self.ttl.as_secs_f64()) as u64, "revision": revision, "username": user,
        });
        let header = serde_json::json!({ "alg": self.method.name(), "typ": "JWT" });
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.signer.as_ref()?.sign(message.as_bytes())?;
        Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// See the module.
pub struct Jwt {
    issuer: Issuer,
    /// The public key; empty if the sum with a secret is looked at.
    public: Vec<u8>,
    known: FxHashMap<Box<[u8]>, Claims>,
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Jwt").field("method", &self.issuer.method).finish_non_exhaustive()
    }
}

impl Jwt {
    /// Reads the keys. Blocks; for the start of the process.
    ///
    /// # Errors
    /// If a key is missing, cannot be read, or does not match the other one.
    pub fn open(options: &JwtOptions) -> Result<Jwt, String> {
        let read = |path: &PathBuf| {
            let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            match std::fs::metadata(path) {
                Ok(found) if !found.is_file() => return Err(at(&"no regular file")),
                Ok(found) if found.len() > KEY_BYTES_MAX => return Err(at(&"too large for a key")),
                Ok(_) => {}
                Err(error) => return Err(at(&error)),
            }
            std::fs::read(path).map_err(|error| at(&error))
        };
        let public = options.public.as_ref().map(read).transpose()?;
        let private = options.private.as_ref().map(read).transpose()?;
        if let Some(path) = &options.private {
            sys::leave_no_core_dump();
            if std::fs::metadata(path).is_ok_and(|found| found.mode() & 0o007 != 0) {
                tracing::warn!(file = %path.display(), "the private key can be read by everybody");
            }
        }
        Jwt::new(options, public.as_deref(), private.as_deref())
    }

    fn new(options: &JwtOptions, public: Option<&[u8]>, private: Option<&[u8]>) -> Result<Jwt, String> {
        let method = options.method;
        let unfit = |which: &str| format!("auth: the {which} key is none for sign-method {}", method.name());
        let signer = match private {
            None => None,
            Some(file) => Some(Arc::new(Signer::read(method, file).ok_or_else(|| unfit("private"))?)),
        };
        let issuer = Issuer { method, ttl: options.ttl, signer };
        let public = match (&issuer.signer, public) {
            (Some(signer), _) if method.hmac().is_some() => signer.public(),
            (_, Some(file)) => SubjectPublicKeyInfoDer::from_pem_slice(file)
                .map(|key| bare(method, key.as_ref()))
                .map_err(|_| unfit("public"))?,
            (Some(signer), None) => signer.public(),
            (None, None) => return Err("auth: JWT tokens need a key".to_owned()),
        };
        let mut jwt = Jwt { issuer, public, known: FxHashMap::default() };
        if method.hmac().is_some() && !jwt.issuer.can_sign() {
            return Err("auth: JWT tokens signed with a secret need a private key".to_owned());
        }
        if let Some(token) = jwt.issuer.can_sign().then(|| jwt.issuer.issue("", 0, 0.0)) {
            let is_own = token.is_some_and(|token| jwt.verify(token.as_bytes()).is_some());
            if !is_own {
                return Err("auth: public and private key do not match".to_owned());
            }
        }
        jwt.known.clear();
        Ok(jwt)
    }

    /// What gives tokens out.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Whose a token is, and the revision it names; `now` in seconds since 1970.
    pub fn find(&mut self, token: &[u8], now: f64) -> Option<(Arc<str>, u64)> {
        let claims = match self.known.get(token) {
            Some(claims) => claims.clone(),
            None => {
                let claims = self.verify(token)?;
                if self.known.len() >= KNOWN_MAX {
                    self.known.clear();
                }
                self.known.insert(token.into(), claims.clone());
                claims
            }
        };
        (claims.from <= now && now < claims.until).then_some((claims.user, claims.revision))
    }

    /// What a token says, if it is signed as it should be.
    fn verify(&self, token: &[u8]) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (message, signature) = std::str::from_utf8(token).ok()?.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let json = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        if json(header)?.get("alg")?.as_str()? != self.issuer.method.name() {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.is_signed(message.as_bytes(), &signature).then_some(())?;
        let claims = json(claims)?;
        let revision = claims.get("revision")?.as_f64().filter(|revision| *revision >= 0.0)?;
        let time = |name: &str, unsaid: f64| match claims.get(name) {
            None => Some(unsaid),
            Some(value) => value.as_f64(),
        };
        Some(Claims {
            user: claims.get("username")?.as_str()?.into(),
            revision: revision as u64,
            from: time("nbf", f64::NEG_INFINITY)?.max(time("iat", f64::NEG_INFINITY)?),
            until: time("exp", f64::INFINITY)?,
        })
    }

    fn is_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match (self.issuer.method.verification(), self.issuer.signer.as_deref()) {
            (Some(algorithm), _) => UnparsedPublicKey::new(algorithm, &self.public).verify(message, signature).is_ok(),
            (None, Some(Signer::Hmac(key))) => hmac::verify(key, message, signature).is_ok(),
            (None, _) => false,
        }
    }
}

/// A public key as it is verified with: that of Ed25519 without the notation around it.
fn bare(method: Method, der: &[u8]) -> Vec<u8> {
    const ED25519_BYTES: usize = 32;
    match method {
        Method::EdDsa => der[der.len().saturating_sub(ED25519_BYTES)..].to_vec(),
        _ => der.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Keys as operators make them.
    fn keys(kind: &[&str]) -> Option<(Vec<u8>, Vec<u8>)> {
        let folder = tempfile::tempdir().expect("a folder");
        let (private, public) = (folder.path().join("private"), folder.path().join("public"));
        let made = Command::new("openssl").args(kind).arg("-out").arg(&private).output().ok()?;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made =
            Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&private).arg("-out").arg(&public).output();
        assert!(made.expect("openssl").status.success());
        Some((std::fs::read(private).expect("a key"), std::fs::read(public).expect("a key")))
    }

    fn options(method: &str) -> JwtOptions {
        JwtOptions::parse(&format!("sign-method={method},ttl=10s")).expect("options")
    }

    fn check(method: &str, private: &[u8], public: &[u8]) {
        let mut whole = Jwt::new(&options(method), None, Some(private)).expect(method);
        let token = whole.issuer().issue("me", 7, 1000.0).expect("signed");
        let mut verifier = Jwt::new(&options(method), Some(public), None).expect(method);
        assert!(!verifier.issuer().can_sign());
        for jwt in [&mut whole, &mut verifier] {
            assert_eq!(jwt.find(token.as_bytes(), 1009.0), Some(("me".into(), 7)), "{method}");
            assert_eq!(jwt.find(token.as_bytes(), 1010.0), None, "{method}: its time is over");
            for at in 0..token.len() {
                let mut forged = token.clone().into_bytes();
                forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(jwt.find(&forged, 1001.0), None, "{method}: byte {at}");
            }
        }
    }

    #[test]
    fn every_method_signs_and_verifies() {
        let rsa = ["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
        let Some((private, public)) = keys(&rsa) else {
            eprintln!("skipped: there is no openssl");
            return;
        };
        for method in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
            check(method, &private, &public);
        }
        for (method, curve) in [("ES256", "P-256"), ("ES384", "P-384"), ("ES512", "P-521")] {
            let curve = format!("ec_paramgen_curve:{curve}");
            let (private, public) = keys(&["genpkey", "-algorithm", "EC", "-pkeyopt", &curve]).expect("openssl");
            check(method, &private, &public);
        }
        let (private, public) = keys(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"]).expect("openssl");
        check("ES256", &private, &public);
        let (private, public) = keys(&["genrsa", "-traditional"]).expect("openssl");
        check("RS256", &private, &public);
        let (private, public) = keys(&["genpkey", "-algorithm", "ED25519"]).expect("openssl");
        check("EdDSA", &private, &public);
        let refused = |method: &str, public: Option<&[u8]>, private: Option<&[u8]>| {
            Jwt::new(&options(method), public, private).map(|_| ()).expect_err(method)
        };
        refused("RS256", None, Some(&private));
        refused("EdDSA", Some(b"no key"), None);
        let (other, _) = keys(&["genpkey", "-algorithm", "ED25519"]).expect("openssl");
        assert_eq!(refused("EdDSA", Some(&public), Some(&other)), "auth: public and private key do not match");
    }

    #[test]
    fn secrets_and_other_methods() {
        let mut jwt = Jwt::new(&options("HS256"), None, Some(b"secret")).expect("a secret");
        let token = jwt.issuer().issue("me", 7, 1000.0).expect("signed");
        assert_eq!(jwt.find(token.as_bytes(), 1001.0), Some(("me".into(), 7)));
        let mut stronger = Jwt::new(&options("HS512"), None, Some(b"secret")).expect("a secret");
        assert_eq!(stronger.find(token.as_bytes(), 1001.0), None, "another method");
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let unsigned = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(r#"{"username":"me","revision":7}"#));
        assert_eq!(jwt.find(unsigned.as_bytes(), 1.0), None);
        assert!(Jwt::new(&options("HS256"), Some(b"secret"), None).is_err());
    }

    /// A missing claim once ended the process, in etcd.
    #[test]
    fn claims_are_there_and_of_their_kind() {
        let mut jwt = Jwt::new(&options("HS256"), None, Some(b"secret")).expect("a secret");
        let signed = |claims: &str| {
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let message = format!("{}.{}", part(r#"{"alg":"HS256"}"#), part(claims));
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
        };
        for (claims, is_good) in [
            (r#"{"username":"me","revision":7}"#, true),
            (r#"{"username":"me","revision":7.0,"exp":1000.5,"nbf":10,"iat":10}"#, true),
            (r#"{"username":"me"}"#, false),
            (r#"{"revision":7}"#, false),
            (r#"{"username":7,"revision":7}"#, false),
            (r#"{"username":"me","revision":"7"}"#, false),
            (r#"{"username":"me","revision":-7}"#, false),
            (r#"{"username":"me","revision":7,"exp":"x"}"#, false),
            (r#"{"username":"me","revision":7,"exp":100}"#, false),
            (r#"{"username":"me","revision":7,"nbf":1001}"#, false),
            (r#"{"username":"me","revision":7,"iat":1001}"#, false),
            ("[]", false),
            ("", false),
        ] {
            assert_eq!(jwt.find(signed(claims).as_bytes(), 1000.0).is_some(), is_good, "{claims}");
        }
        assert_eq!(jwt.find(&vec![b'.'; TOKEN_BYTES_MAX + 1], 1000.0), None);
        for token in ["", ".", "..", "a.b.c", "...."] {
            assert_eq!(jwt.find(token.as_bytes(), 1000.0), None, "{token}");
        }
    }

    #[test]
    fn options_as_etcd_reads_them() {
        assert_eq!(options("ES512").ttl, Duration::from_secs(10));
        assert_eq!(JwtOptions::parse("sign-method=RS256,other=1").expect("a warning").ttl, TTL);
        for text in ["", "sign-method", "sign-method=a=b", "sign-method=RS256,sign-method=RS256", "pub-key=a"] {
            assert_eq!(JwtOptions::parse(text), Err(INVALID.to_owned()), "{text}");
        }
        for text in ["sign-method=none", "sign-method=rs256"] {
            assert!(JwtOptions::parse(text).expect_err(text).contains("no sign-method"), "{text}");
        }
        for text in ["sign-method=RS256,ttl=x", "sign-method=RS256,ttl=-1s", "sign-method=RS256,ttl=0s"] {
            assert!(JwtOptions::parse(text).is_err(), "{text}");
        }
    }
}
