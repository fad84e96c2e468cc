//! A Ceph user's key, in whichever form a secret has it.

use zeroize::Zeroizing;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The key as Ceph writes it, from a secret: that text (`ceph auth get-key`), or the bytes that it stands
/// for, which is what libvirt keeps. None when it is neither.
pub(super) fn text(secret: &[u8]) -> Option<Zeroizing<String>> {
    if is_key(secret) {
        return Some(encode(secret));
    }
    let bytes = decode(secret.trim_ascii())?;
    is_key(&bytes).then(|| encode(&bytes))
}

/// Whether it is laid out as `CryptoKey` encodes itself: type, time of creation (seconds, nanoseconds),
/// length of the rest (little endian; src/auth/Crypto.cc).
fn is_key(bytes: &[u8]) -> bool {
    let Some(header) = bytes.first_chunk::<12>() else { return false };
    let (kind, length) = (
        u16::from_le_bytes([header[0], header[1]]),
        usize::from(u16::from_le_bytes([header[10], header[11]])),
    );
    kind != 0 && length != 0 && bytes.len() == header.len() + length
}

fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            let is_data = digit as usize <= group.len();
            text.push(if is_data { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    text
}

fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let data = text.get(..text.len() - padding).filter(|_| padding <= 2)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3));
    for group in data.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            let value = DIGITS.iter().position(|known| known == digit)?;
            bits = bits << 6 | value as u32;
        }
        let missing = 4 - group.len();
        bits <<= 6 * missing;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - missing]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `ceph-authtool --gen-print-key`.
    const KEY: &str = "AQDOYAhrVitTFBAALZ7XOoCLwozb0kF3K7C3kw==";

    #[test]
    fn a_key_is_taken_as_text_and_as_bytes() {
        let bytes = decode(KEY.as_bytes()).unwrap();
        assert_eq!(bytes.len(), 28);
        for secret in [KEY.as_bytes(), format!("  {KEY}\n").as_bytes(), &bytes] {
            assert_eq!(text(secret).unwrap().as_str(), KEY);
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        for secret in [
            "",
            "passphrase",
            "QUJD",
            "AQDOYAhrVitTFBAALZ7XOoCLwozb0kF3K7C3",
            "AQDOYAhrVitTFBAALZ7XOoCLwozb0kF3K7C3kw=",
            "AQDOYAhrVitTFBAALZ7XOoCLwozb0kF3K7C3k\nA=",
            "====",
        ] {
            assert!(text(secret.as_bytes()).is_none(), "{secret:?}");
        }
    }

    #[test]
    fn base64_is_as_everybody_writes_it() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(encode(bytes.as_bytes()).as_str(), text);
            if !text.is_empty() {
                assert_eq!(&**decode(text.as_bytes()).unwrap(), bytes.as_bytes());
            }
        }
    }
}
