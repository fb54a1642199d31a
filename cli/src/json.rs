//! The little JSON that is written here, and base64 for what is no text.

/// Appends `text` as a JSON string, quotes included.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..=0x1f | 0x7f => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain..at]);
        if escape.is_empty() {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            out.extend_from_slice(escape);
        }
        plain = at + 1;
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

/// Appends `"name":` and the bytes: null, a string where they are UTF-8, else base64 under `name_base64`.
pub(crate) fn push_bytes(out: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => out.extend_from_slice(b"\":null"),
        Some((_, Ok(text))) => {
            out.extend_from_slice(b"\":");
            push_string(out, text);
        }
        Some((bytes, Err(_))) => {
            out.extend_from_slice(b"_base64\":\"");
            push_base64(out, bytes);
            out.push(b'"');
        }
    }
}

/// RFC 4648, section 4, with padding.
fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { letter } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(name: &str, bytes: Option<&[u8]>) -> String {
        let mut out = Vec::new();
        push_bytes(&mut out, name, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_escaped_and_other_bytes_are_base64() {
        assert_eq!(json("v", Some(b"a\"b\\c\n\x01\xc3\xa4")), r#""v":"a\"b\\c\n\u0001ä""#);
        assert_eq!(json("v", Some(b"")), r#""v":"""#);
        assert_eq!(json("v", None), r#""v":null"#);
        assert_eq!(json("v", Some(b"\xff")), r#""v_base64":"/w==""#);
        assert_eq!(json("v", Some(b"\xff\xfe")), r#""v_base64":"//4=""#);
        assert_eq!(json("v", Some(b"\xff\xfe\xfd")), r#""v_base64":"//79""#);
    }
}
