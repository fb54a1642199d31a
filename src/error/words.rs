//! What strangers say, made fit for a line of a log.

/// The most characters that are repeated.
const MOST: usize = 300;

/// What a broker, a certificate or a token server says: without control characters and those that end a line or turn its
/// direction, and not endless.
pub(crate) fn words(text: &str) -> String {
    let plain: String = text.chars().map(|c| if is_plain(c) { c } else { ' ' }).collect();
    let plain = plain.trim();
    let mut words: String = plain.chars().take(MOST).collect();
    if words.len() < plain.len() {
        words.push_str("...");
    }
    words
}

fn is_plain(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_line_that_reads_as_it_stands() {
        assert_eq!(words(" a\nb\u{1b}[31m\u{85}c\u{2028}d\u{202e}e\u{2066}f\r\n"), "a b [31m c d e f");
        assert_eq!(words(" a\r\nb\u{1b}[1m \n"), "a  b [1m");
        assert_eq!(words("ü 漢"), "ü 漢");
        assert_eq!(words(&"ü".repeat(300)), "ü".repeat(300));
        assert_eq!(words(&"ü".repeat(301)), format!("{}...", "ü".repeat(300)));
    }
}
