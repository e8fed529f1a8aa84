//! Raw public keys in TLS (RFC 7250): who the peer is. No X.509 anywhere (security.md §3.4).

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use zeroize::Zeroizing;

use crate::mesh::id::{Identity, NodeId};

/// SubjectPublicKeyInfo of Ed25519 up to the key (RFC 8410 §4).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// PKCS#8 of an Ed25519 seed up to the seed (RFC 8410 §7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// Server name of a dial that learns the id once.
const LEARN: &str = "learn.node.invalid";

/// The TLS algorithms of the mesh: TLS 1.3 with X25519.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    Arc::new(provider)
}

/// This node's key as rustls wants it.
///
/// # Errors
/// rustls does not take the key, which a valid Ed25519 seed never causes.
pub fn certified_key(
    provider: &CryptoProvider,
    identity: &Identity,
) -> Result<Arc<CertifiedKey>, Error> {
    let mut spki = SPKI_PREFIX.to_vec();
    spki.extend_from_slice(identity.id().as_bytes());
    let mut pkcs8 = Zeroizing::new(PKCS8_PREFIX.to_vec());
    pkcs8.extend_from_slice(&*identity.seed());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice())).clone_key();
    let key = provider.key_provider.load_private_key(key)?;
    Ok(Arc::new(CertifiedKey::new(
        vec![CertificateDer::from(spki)],
        key,
    )))
}

/// The node id in a SubjectPublicKeyInfo; `None` unless it is exactly an Ed25519 key that is
/// canonical and not of small order (A3).
pub fn node_id(spki: &[u8]) -> Option<NodeId> {
    let key = spki.strip_prefix(&SPKI_PREFIX)?;
    NodeId::from_bytes(key.try_into().ok()?).ok()
}

/// The server name that pins a dial to `id`. 64 hex digits do not fit one DNS label.
pub fn pinned_name(id: &NodeId) -> String {
    let hex = data_encoding::HEXLOWER.encode(id.as_bytes());
    let (first, second) = hex.split_at(32);
    format!("{first}.{second}.node.invalid")
}

/// The server name of a dial without a known id; only the verifier made for it accepts it.
pub fn learn_name() -> String {
    LEARN.to_owned()
}

/// Whom a verifier accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// As client: exactly the node the dial is pinned to. As server: any node but this one.
    Pinned,
    /// As client, for one dial by address: any node but this one.
    LearnOnce,
}

/// Checks raw public keys and the signatures made with them.
pub struct RawKeyVerifier {
    me: NodeId,
    accept: Accept,
    algorithms: WebPkiSupportedAlgorithms,
}

impl RawKeyVerifier {
    /// A verifier of node `me`.
    pub fn new(provider: &CryptoProvider, me: NodeId, accept: Accept) -> Self {
        Self {
            me,
            accept,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// A dial that reaches this node itself, or a reflection of its own handshake, ends here.
    fn identify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<NodeId, Error> {
        let id = node_id(end_entity).filter(|id| *id != self.me && intermediates.is_empty());
        id.ok_or_else(refused)
    }

    fn signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }
}

fn refused() -> Error {
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

impl fmt::Debug for RawKeyVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawKeyVerifier({:?})", self.accept)
    }
}

impl ServerCertVerifier for RawKeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let id = self.identify(end_entity, intermediates)?;
        let right_name = match self.accept {
            Accept::Pinned => pinned_name(&id),
            Accept::LearnOnce => learn_name(),
        };
        if server_name.to_str() == right_name {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refused())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for RawKeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.identify(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(accept: Accept, me: u8, presented: &[u8], name: &str) -> bool {
        let me = Identity::from_seed(&[me; 32]).id();
        let verifier = RawKeyVerifier::new(&provider(), me, accept);
        let key = CertificateDer::from(presented.to_vec());
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        verifier
            .verify_server_cert(&key, &[], &name, &[], now)
            .is_ok()
    }

    fn spki(seed: u8) -> (NodeId, Vec<u8>) {
        let id = Identity::from_seed(&[seed; 32]).id();
        let mut spki = SPKI_PREFIX.to_vec();
        spki.extend_from_slice(id.as_bytes());
        (id, spki)
    }

    #[test]
    fn a_pin_accepts_one_key_and_no_other_name() {
        let (id, key) = spki(2);
        let (other, _) = spki(3);
        assert!(verify(Accept::Pinned, 1, &key, &pinned_name(&id)));
        assert!(!verify(Accept::Pinned, 1, &key, &pinned_name(&other)));
        assert!(!verify(Accept::Pinned, 1, &key, LEARN));
        assert!(!verify(Accept::Pinned, 1, &key, "example.com"));
        assert!(verify(Accept::LearnOnce, 1, &key, LEARN));
        assert!(!verify(Accept::LearnOnce, 1, &key, &pinned_name(&id)));
    }

    #[test]
    fn this_node_itself_and_keys_that_prove_nothing_are_refused() {
        let (id, own) = spki(1);
        assert!(!verify(Accept::LearnOnce, 1, &own, LEARN));
        assert!(!verify(Accept::Pinned, 1, &own, &pinned_name(&id)));
        let mut small = SPKI_PREFIX.to_vec();
        small.extend_from_slice(&[0; 32]);
        assert!(!verify(Accept::LearnOnce, 1, &small, LEARN));
        let (_, mut long) = spki(2);
        long.push(0);
        assert!(!verify(Accept::LearnOnce, 1, &long, LEARN));
    }
}
