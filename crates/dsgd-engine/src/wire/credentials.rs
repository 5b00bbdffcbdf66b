//! Authentication: a token for the run, and certificates made for it alone.
//!
//! The token itself never crosses the wire: a worker proves that it has it, over a nonce that
//! is good once. Certificates are for `--listen`, where others may listen too; both sides show
//! one, signed by an authority whose own key is thrown away as soon as it has signed two.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};

use crate::hex::hex;

/// The name in the server's certificate; addresses change, this does not.
pub const SERVER_NAME: &str = "dsgd-server";

/// A secret that a run's server and workers share.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token([u8; 32]);

impl Token {
    /// One that nobody can guess.
    ///
    /// # Panics
    /// When the system has no source of randomness.
    pub fn fresh() -> Self {
        Self(random())
    }

    /// What shows that its sender has the token.
    pub fn proof(&self, nonce: &[u8], name: &str) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key());
        context.update(nonce);
        context.update(name.as_bytes());
        context.sign().as_ref().to_vec()
    }

    /// Whether that proof is right, in a time that does not depend on how wrong it is.
    pub fn accepts(&self, proof: &[u8], nonce: &[u8], name: &str) -> bool {
        let message = [nonce, name.as_bytes()].concat();
        hmac::verify(&self.key(), &message, proof).is_ok()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

/// Never in a log.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        hex(&token.0)
    }
}

impl TryFrom<String> for Token {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "a token is 64 hexadecimal digits";
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(WRONG);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| WRONG)?;
        }
        Ok(Self(bytes))
    }
}

/// 32 bytes that nobody can guess.
///
/// # Panics
/// When the system has no source of randomness.
pub(super) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.expect("the system gives random bytes");
    bytes
}

/// One side's certificate and key, and the authority that it trusts, in PEM.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Claimed")]
pub struct Identity {
    authority: String,
    certificate: String,
    key: String,
}

/// What says that it is an identity.
#[derive(Deserialize)]
struct Claimed {
    authority: String,
    certificate: String,
    key: String,
}

/// One that was damaged on its way is found where it is read, not when nobody answers.
impl TryFrom<Claimed> for Identity {
    type Error = Unusable;

    fn try_from(claimed: Claimed) -> Result<Self, Unusable> {
        let identity = Self {
            authority: claimed.authority,
            certificate: claimed.certificate,
            key: claimed.key,
        };
        identity.client().map(|_| identity)
    }
}

/// Never in a log.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl Identity {
    /// Those of a run's server and of its workers.
    ///
    /// # Errors
    /// What the system's source of randomness says.
    pub fn for_a_run() -> Result<(Identity, Identity), rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        set_name(&mut params, "dsgd authority");
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let signed = |purpose| -> Result<Identity, rcgen::Error> {
            let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
            params.extended_key_usages = vec![purpose];
            params.use_authority_key_identifier_extension = true;
            set_name(&mut params, "dsgd");
            let key = KeyPair::generate()?;
            Ok(Identity {
                authority: authority.clone(),
                certificate: params.signed_by(&key, &issuer)?.pem(),
                key: key.serialize_pem(),
            })
        };
        Ok((
            signed(ExtendedKeyUsagePurpose::ServerAuth)?,
            signed(ExtendedKeyUsagePurpose::ClientAuth)?,
        ))
    }

    /// For a server: clients must show a certificate of the same authority.
    pub fn server(&self) -> Result<Arc<ServerConfig>, Unusable> {
        let provider = Arc::new(default_provider());
        let roots = Arc::new(self.roots()?);
        let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let (certificate, key) = self.parts()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients.build()?)
            .with_single_cert(certificate, key)?;
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(Arc::new(config))
    }

    /// For a worker: the server must show one.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Unusable> {
        let (certificate, key) = self.parts()?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(certificate, key)?;
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, Unusable> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes())?)?;
        Ok(roots)
    }

    fn parts(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Unusable> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        Ok((vec![certificate], key))
    }
}

/// The protocol that TLS negotiates.
const HTTP_2: &[u8] = b"h2";

/// Why an identity is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Its text is none.
    #[error("a certificate or key cannot be read")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// TLS does not take it.
    #[error("a certificate or key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// Nobody can be verified by it.
    #[error("an authority cannot be used: {0}")]
    Authority(#[from] rustls::server::VerifierBuilderError),
}

impl From<Unusable> for io::Error {
    fn from(error: Unusable) -> Self {
        Self::other(error)
    }
}

/// A certificate whose subject is its issuer's, too, would be self-signed in OpenSSL's eyes.
fn set_name(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}
