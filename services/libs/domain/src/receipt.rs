//! The custody receipt: DSSE 1.0, Ed25519, checkable for years with stock tools.
//!
//! The signature is over DSSE's pre-authentication encoding (PAE) of the payload's type and bytes; the key id is the
//! hex SHA-256 of the public key's SPKI DER, so `openssl pkeyutl -verify -rawin` is enough to check one.

use base64::{Engine, prelude::BASE64_STANDARD};
use caselock_proto::v1 as proto;
use ed25519_dalek::{
    Signer, SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    digest::Blake3,
    id::{BureauId, RecordingId},
};

/// The payload's type.
pub const PAYLOAD_TYPE: &str = "application/vnd.caselock.receipt.v1+json";

/// What the receipt vouches for: this very object is in the store, and its lock was read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptPayload {
    /// [`PAYLOAD_TYPE`].
    pub media_type: String,
    /// The recording.
    pub recording_id: RecordingId,
    /// The generation that was stored.
    pub generation: u32,
    /// The bureau that gave it.
    pub bureau: BureauId,
    /// The name the device gave.
    pub original_name: String,
    /// The size in bytes.
    pub size: u64,
    /// The BLAKE3 of the whole.
    pub blake3: Blake3,
    /// The object's key in the store.
    pub object_key: String,
    /// The object's version id.
    pub version: String,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// The date the lock was set to: the store answered with at least this one when it was read back.
    pub locked_until: Timestamp,
    /// Whether a legal hold was set, and read back.
    pub legal_hold: bool,
}

/// A signed receipt: payload and signature, kept byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The JSON document that is signed.
    pub payload: Vec<u8>,
    /// Which key signed it.
    pub key_id: String,
    /// The signature, 64 bytes.
    pub signature: Vec<u8>,
}

/// Why a receipt or key is not good.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The key is not a PEM key of the kind wanted.
    #[error("the key is not an Ed25519 key in PEM (PKCS#8 private, SPKI public): {0}")]
    Key(String),
    /// No key with the receipt's key id was given.
    #[error("no public key {0} is known: the key that signed this receipt")]
    UnknownKey(String),
    /// The signature is not that key's over these bytes.
    #[error("the signature does not fit the receipt")]
    Signature,
    /// The document does not have a receipt's form.
    #[error("this is not a receipt: {0}")]
    Malformed(String),
}

/// Signs receipts.
pub struct ReceiptSigner {
    key: SigningKey,
    key_id: String,
}

impl ReceiptSigner {
    /// From an Ed25519 private key in PKCS#8 PEM.
    pub fn from_pem(pem: &str) -> Result<Self, ReceiptError> {
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|e| ReceiptError::Key(e.to_string()))?;
        let key_id = key_id(&key.verifying_key())?;
        Ok(Self { key, key_id })
    }

    /// The id of the key it signs with.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Signs. The same payload gives the same bytes (Ed25519 is deterministic).
    pub fn sign(&self, payload: &ReceiptPayload) -> Result<Receipt, ReceiptError> {
        let payload = serde_json::to_vec(payload).map_err(|e| ReceiptError::Malformed(e.to_string()))?;
        let signature = self.key.sign(&pae(PAYLOAD_TYPE, &payload)).to_bytes().to_vec();
        Ok(Receipt { payload, key_id: self.key_id.clone(), signature })
    }
}

/// The public keys receipts are checked with: the current one and the old ones.
#[derive(Default, Clone)]
pub struct KeyRing(Vec<(String, VerifyingKey)>);

impl KeyRing {
    /// Adds every public key of a PEM text.
    pub fn add_pem(&mut self, pem: &str) -> Result<(), ReceiptError> {
        const END: &str = "-----END PUBLIC KEY-----";
        let before = self.0.len();
        for part in pem.split_inclusive(END).filter(|part| part.contains(END)) {
            let key =
                VerifyingKey::from_public_key_pem(part.trim_start()).map_err(|e| ReceiptError::Key(e.to_string()))?;
            self.0.push((key_id(&key)?, key));
        }
        if self.0.len() == before {
            return Err(ReceiptError::Key("no PUBLIC KEY block".into()));
        }
        Ok(())
    }

    /// Checks a receipt and returns what it vouches for.
    pub fn verify(&self, receipt: &Receipt) -> Result<ReceiptPayload, ReceiptError> {
        let (_, key) = self
            .0
            .iter()
            .find(|(id, _)| *id == receipt.key_id)
            .ok_or_else(|| ReceiptError::UnknownKey(receipt.key_id.clone()))?;
        let signature =
            ed25519_dalek::Signature::from_slice(&receipt.signature).map_err(|_| ReceiptError::Signature)?;
        key.verify_strict(&pae(PAYLOAD_TYPE, &receipt.payload), &signature).map_err(|_| ReceiptError::Signature)?;
        receipt.payload()
    }
}

impl Receipt {
    /// What the receipt says, unchecked.
    pub fn payload(&self) -> Result<ReceiptPayload, ReceiptError> {
        let payload: ReceiptPayload =
            serde_json::from_slice(&self.payload).map_err(|e| ReceiptError::Malformed(e.to_string()))?;
        if payload.media_type != PAYLOAD_TYPE {
            return Err(ReceiptError::Malformed(format!("media_type is not {PAYLOAD_TYPE}")));
        }
        Ok(payload)
    }

    /// As a protobuf message.
    pub fn to_proto(&self) -> proto::Receipt {
        proto::Receipt {
            payload_type: PAYLOAD_TYPE.into(),
            payload: self.payload.clone().into(),
            key_id: self.key_id.clone(),
            signature: self.signature.clone().into(),
        }
    }

    /// From a protobuf message.
    pub fn from_proto(message: &proto::Receipt) -> Result<Self, ReceiptError> {
        if message.payload_type != PAYLOAD_TYPE {
            return Err(ReceiptError::Malformed(format!("payload type is not {PAYLOAD_TYPE}")));
        }
        Ok(Self {
            payload: message.payload.to_vec(),
            key_id: message.key_id.clone(),
            signature: message.signature.to_vec(),
        })
    }
}

/// A receipt as a document: the DSSE envelope in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The payload, base64.
    pub payload: String,
    /// The payload's type.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// The signatures; a receipt has one.
    pub signatures: Vec<EnvelopeSignature>,
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    /// The key's id.
    pub keyid: String,
    /// The signature, base64.
    pub sig: String,
}

impl From<&Receipt> for Envelope {
    fn from(receipt: &Receipt) -> Self {
        Self {
            payload: BASE64_STANDARD.encode(&receipt.payload),
            payload_type: PAYLOAD_TYPE.into(),
            signatures: vec![EnvelopeSignature {
                keyid: receipt.key_id.clone(),
                sig: BASE64_STANDARD.encode(&receipt.signature),
            }],
        }
    }
}

impl TryFrom<&Envelope> for Receipt {
    type Error = ReceiptError;

    fn try_from(envelope: &Envelope) -> Result<Self, ReceiptError> {
        let malformed = |what: &str| ReceiptError::Malformed(what.to_owned());
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(malformed("payloadType"));
        }
        let [signature] = envelope.signatures.as_slice() else {
            return Err(malformed("signatures: expected one"));
        };
        Ok(Self {
            payload: BASE64_STANDARD.decode(&envelope.payload).map_err(|_| malformed("payload"))?,
            key_id: signature.keyid.clone(),
            signature: BASE64_STANDARD.decode(&signature.sig).map_err(|_| malformed("sig"))?,
        })
    }
}

/// DSSE's pre-authentication encoding.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn key_id(key: &VerifyingKey) -> Result<String, ReceiptError> {
    let der = key.to_public_key_der().map_err(|e| ReceiptError::Key(e.to_string()))?;
    Ok(hex::encode(Sha256::digest(der.as_bytes())))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::pkcs8::{EncodePrivateKey, spki::der::pem::LineEnding};

    use super::*;

    fn signer(seed: u8) -> (ReceiptSigner, KeyRing) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let mut ring = KeyRing::default();
        ring.add_pem(&key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
        (ReceiptSigner::from_pem(&key.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap(), ring)
    }

    fn payload() -> ReceiptPayload {
        ReceiptPayload {
            media_type: PAYLOAD_TYPE.into(),
            recording_id: RecordingId::from_bytes([7; 16]),
            generation: 0,
            bureau: "demo".parse().unwrap(),
            original_name: "现场.MP4".into(),
            size: 3,
            blake3: Blake3([1; 32]),
            object_key: "v1/demo/x".into(),
            version: "v".into(),
            stored_at: "2026-02-13T02:00:00Z".parse().unwrap(),
            locked_until: "2026-08-13T16:00:00Z".parse().unwrap(),
            legal_hold: false,
        }
    }

    #[test]
    fn what_is_signed_verifies_after_every_journey() {
        let (signer, ring) = signer(1);
        let receipt = signer.sign(&payload()).unwrap();
        assert_eq!(ring.verify(&receipt).unwrap(), payload());
        let proto = Receipt::from_proto(&receipt.to_proto()).unwrap();
        let json = serde_json::to_string(&Envelope::from(&receipt)).unwrap();
        let envelope = Receipt::try_from(&serde_json::from_str::<Envelope>(&json).unwrap()).unwrap();
        assert_eq!((&proto, &envelope), (&receipt, &receipt));
    }

    #[test]
    fn a_changed_byte_or_a_strange_key_is_refused() {
        let (ours, ring) = signer(1);
        let receipt = ours.sign(&payload()).unwrap();
        let mut changed = receipt.clone();
        changed.payload[20] ^= 1;
        assert!(matches!(ring.verify(&changed), Err(ReceiptError::Signature)));
        let strange = signer(2).0.sign(&payload()).unwrap();
        assert!(matches!(ring.verify(&strange), Err(ReceiptError::UnknownKey(_))));
    }

    #[test]
    fn old_keys_go_on_verifying_through_rotation() {
        let (old, mut ring) = signer(1);
        let key = SigningKey::from_bytes(&[2; 32]);
        ring.add_pem(&key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
        assert!(ring.verify(&old.sign(&payload()).unwrap()).is_ok());
        assert!(ring.verify(&signer(2).0.sign(&payload()).unwrap()).is_ok());
    }
}
