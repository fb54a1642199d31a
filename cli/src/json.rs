//! The little JSON that is written here, and base64 for what is no text.

use std::fmt::Display;

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

/// A document of one object, in a line.
pub(crate) fn object(fill: impl FnOnce(&mut Object<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    Object::write(&mut out, fill);
    out.push(b'\n');
    out
}

/// An object being written.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl Object<'_> {
    fn write(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
        out.push(b'{');
        fill(&mut Object { out, is_empty: true });
        out.push(b'}');
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        push_string(self.out, name);
        self.out.push(b':');
    }

    /// A number or a truth value.
    pub(crate) fn value(&mut self, name: &str, value: impl Display) {
        self.name(name);
        self.out.extend_from_slice(value.to_string().as_bytes());
    }

    pub(crate) fn maybe(&mut self, name: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.value(name, value),
            None => self.value(name, "null"),
        }
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        push_string(self.out, text);
    }

    pub(crate) fn maybe_text(&mut self, name: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(name, text),
            None => self.value(name, "null"),
        }
    }

    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        push: impl Fn(&mut Object<'_>, T),
    ) {
        self.name(name);
        self.out.push(b'[');
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            Object::write(self.out, |o| push(o, item));
        }
        self.out.push(b']');
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

    #[test]
    fn objects_nest() {
        let out = object(|o| {
            o.text("a", "x\"");
            o.maybe("b", None::<u8>);
            o.list("c", [1, 2], |o, n| o.value("n", n));
            o.value("d", true);
        });
        let told = r#"{"a":"x\"","b":null,"c":[{"n":1},{"n":2}],"d":true}"#;
        assert_eq!(String::from_utf8(out).unwrap(), format!("{told}\n"));
    }
}
