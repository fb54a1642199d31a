//! How `indelible consume` prints a record: a JSON object, or a format as kcat's.

use std::io::Write as _;

use indelible::Delivery;

use crate::json;
use crate::lines::unescape;

/// A format, parsed once.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// One object a line.
    Json,
    /// Pieces in their order.
    Pieces(Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    KeyLength,
    Value,
    ValueLength,
    Headers,
}

impl Format {
    /// Parses what `--format` takes.
    pub(crate) fn parse(text: &str) -> Result<Format, String> {
        if text == "json" {
            return Ok(Format::Json);
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                literal.push(letter);
                continue;
            }
            let piece = match letters.next() {
                Some('t') => Piece::Topic,
                Some('p') => Piece::Partition,
                Some('o') => Piece::Offset,
                Some('T') => Piece::Timestamp,
                Some('k') => Piece::Key,
                Some('K') => Piece::KeyLength,
                Some('s') => Piece::Value,
                Some('S') => Piece::ValueLength,
                Some('h') => Piece::Headers,
                Some('n') => {
                    literal.push_str("\\n");
                    continue;
                }
                Some('%') => {
                    literal.push('%');
                    continue;
                }
                other => {
                    let shown = other.map_or(String::new(), String::from);
                    return Err(format!("%{shown} is no part of a format; there are %t %p %o %T %k %s %h %K %S %n %%"));
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(unescape(&std::mem::take(&mut literal))?));
            }
            pieces.push(piece);
        }
        let mut end = unescape(&literal)?;
        if end.last() != Some(&b'\n') {
            end.push(b'\n');
        }
        pieces.push(Piece::Literal(end));
        Ok(Format::Pieces(pieces))
    }

    /// Appends the record.
    pub(crate) fn push(&self, out: &mut Vec<u8>, delivery: &Delivery) {
        match self {
            Format::Json => push_json(out, delivery),
            Format::Pieces(pieces) => pieces.iter().for_each(|piece| push_piece(out, piece, delivery)),
        }
    }
}

fn push_json(out: &mut Vec<u8>, delivery: &Delivery) {
    out.extend_from_slice(b"{\"topic\":");
    json::push_string(out, delivery.topic());
    push_number(out, ",\"partition\":", delivery.partition().into());
    push_number(out, ",\"offset\":", delivery.offset());
    push_number(out, ",\"timestamp\":", delivery.timestamp());
    out.push(b',');
    json::push_bytes(out, "key", delivery.key());
    out.push(b',');
    json::push_bytes(out, "value", value(delivery));
    out.extend_from_slice(b",\"headers\":[");
    // Not one object: names may repeat, and their order counts.
    for (i, (name, value)) in delivery.headers().enumerate() {
        out.extend_from_slice(if i == 0 { b"{" } else { b",{" });
        json::push_bytes(out, "name", Some(name));
        out.push(b',');
        json::push_bytes(out, "value", value);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
}

fn push_piece(out: &mut Vec<u8>, piece: &Piece, delivery: &Delivery) {
    let len = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    match piece {
        Piece::Literal(bytes) => out.extend_from_slice(bytes),
        Piece::Topic => out.extend_from_slice(delivery.topic().as_bytes()),
        Piece::Partition => push_number(out, "", delivery.partition().into()),
        Piece::Offset => push_number(out, "", delivery.offset()),
        Piece::Timestamp => push_number(out, "", delivery.timestamp()),
        Piece::Key => out.extend_from_slice(delivery.key().unwrap_or_default()),
        Piece::KeyLength => push_number(out, "", len(delivery.key())),
        Piece::Value => out.extend_from_slice(delivery.value()),
        Piece::ValueLength => push_number(out, "", len(value(delivery))),
        Piece::Headers => {
            for (i, (name, value)) in delivery.headers().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(name);
                out.push(b'=');
                out.extend_from_slice(value.unwrap_or(b"NULL"));
            }
        }
    }
}

fn value(delivery: &Delivery) -> Option<&[u8]> {
    (!delivery.is_tombstone()).then(|| delivery.value())
}

fn push_number(out: &mut Vec<u8>, name: &str, number: i64) {
    // A Vec takes whatever is written.
    let _ = write!(out, "{name}{number}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_is_added_unless_there_is_one() {
        let literal = |text: &str| match Format::parse(text) {
            Ok(Format::Pieces(pieces)) => pieces,
            other => panic!("{other:?}"),
        };
        assert_eq!(literal("%s"), [Piece::Value, Piece::Literal(b"\n".to_vec())]);
        assert_eq!(literal(r"%s\n"), [Piece::Value, Piece::Literal(b"\n".to_vec())]);
        assert_eq!(literal("%s%n"), [Piece::Value, Piece::Literal(b"\n".to_vec())]);
        assert_eq!(literal("100%%"), [Piece::Literal(b"100%\n".to_vec())]);
        assert!(Format::parse("%q").is_err());
        assert!(Format::parse("%").is_err());
    }
}
