//! A broker's words without the credentials that it was sent: a careless one repeats them in its refusal, and errors and
//! logs are read by more people than passwords are for.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// So many bytes of what was sent, in a row, are a piece of it and no accident.
const RUN: usize = 8;
/// A whole name, password or token is hidden from this length on; shorter ones are in every other word.
const LEAST: usize = 3;

/// `words` with three stars for each piece of `sent`; none of them when they hold one in base64 or hexadecimal.
pub(crate) fn without(words: &str, sent: &[u8]) -> String {
    let parts = || sent.split(|byte| *byte < b' ').filter(|part| part.len() >= LEAST);
    if parts().any(|part| encoded(words, part)) {
        return "its words repeat the credentials, and are not shown".to_owned();
    }
    let mut hidden = vec![false; words.len()];
    let mut hide = |from: usize, len: usize| hidden.iter_mut().skip(from).take(len).for_each(|byte| *byte = true);
    for part in parts() {
        // A bearer token stands behind a word of its own.
        let last = part.rsplit(|byte| *byte == b' ').next().unwrap_or(part);
        for whole in [part, last].into_iter().filter(|whole| whole.len() >= LEAST) {
            places(words, whole).for_each(|at| hide(at, whole.len()));
        }
        part.windows(RUN).for_each(|run| places(words, run).for_each(|at| hide(at, RUN)));
    }
    let mut shown = String::with_capacity(words.len());
    let mut before = false;
    for (at, letter) in words.char_indices() {
        let now = hidden.get(at..at + letter.len_utf8()).is_some_and(|bytes| bytes.contains(&true));
        match (before, now) {
            (_, false) => shown.push(letter),
            (false, true) => shown.push_str("***"),
            (true, true) => {}
        }
        before = now;
    }
    shown
}

fn places(words: &str, piece: &[u8]) -> impl Iterator<Item = usize> {
    words.as_bytes().windows(piece.len()).enumerate().filter(move |(_, window)| *window == piece).map(|(at, _)| at)
}

fn encoded(words: &str, part: &[u8]) -> bool {
    let has = |text: &str| text.len() >= LEAST && words.contains(text);
    let hex = Zeroizing::new(part.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    if words.to_ascii_lowercase().contains(hex.as_str()) {
        return true;
    }
    // It looks otherwise at each of three places; the ends depend on their neighbours.
    (0..3).any(|before| {
        let placed = Zeroizing::new([&[0; 2][..before], part].concat());
        let (from, to) = ([0, 2, 3][before], placed.len() / 3 * 4);
        [STANDARD_NO_PAD.encode(&*placed), URL_SAFE_NO_PAD.encode(&*placed)].into_iter().any(|text| {
            let text = Zeroizing::new(text);
            text.get(from..to).is_some_and(has)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    const PLAIN: &[u8] = b"\0alice\0pa ss-word";
    const BEARER: &[u8] = b"n,,\x01auth=Bearer eyJhbGciOi.e30.x_y\x01\x01";

    #[test]
    fn what_was_sent_is_hidden() {
        for (words, sent, shown) in [
            ("no user with \"pa ss-word\"", PLAIN, "no user with \"***\""),
            ("alice:pa ss-word, alice", PLAIN, "***:***, ***"),
            ("token eyJhbGciOi.e30.x_y is bad", BEARER, "token*** is bad"),
            ("token eyJhbGciOi... is bad", BEARER, "token***.. is bad"),
            ("üpa ss-wordü", PLAIN, "ü***ü"),
            ("pa ss-wo", PLAIN, "***"),
        ] {
            assert_eq!(without(words, sent), shown);
        }
        let none = "its words repeat the credentials, and are not shown";
        for around in ["", "x", "xx"] {
            assert_eq!(without(&STANDARD.encode(format!("{around}pa ss-word{around}")), PLAIN), none);
        }
        assert_eq!(without(&STANDARD.encode(PLAIN), PLAIN), none);
        assert_eq!(without("70612073732D776F7264", PLAIN), none);
    }

    #[test]
    fn other_words_stay() {
        for words in [
            "Authentication failed: Invalid username or password",
            "invalid_token; scope: kafka",
            "",
            "ü",
            "a Bearer token",
        ] {
            assert_eq!((without(words, PLAIN), without(words, BEARER)), (words.to_owned(), words.to_owned()));
            assert_eq!(without(words, b""), words);
        }
        assert_eq!(without("pa pa ab", b"\0a\0pa"), "pa pa ab", "too short to be told from any word");
    }
}
