//! Java's format of property files, as `java.util.Properties.load` reads it.
//!
//! ```text
//! # a comment, as is one that begins with !
//! name=value          : and a blank separate as well
//! name = first \
//!        second       "first second": blanks before a continued line are dropped, those behind a value are kept
//! tab=\t  umlaut=\u00e4  equals\=sign=1
//! ```

use zeroize::Zeroizing;

/// A property, and the line it begins in, from 1 on.
#[derive(PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) name: String,
    pub(crate) value: Zeroizing<String>,
    pub(crate) line: usize,
}

/// What is wrong, and in which line; nothing of its text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) line: usize,
    pub(crate) why: &'static str,
}

/// Reads all properties, in their order, repeated ones as often as they are there.
pub(crate) fn parse(text: &str) -> Result<Vec<Parsed>, Malformed> {
    let mut lines = Lines::new(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut parsed = Vec::new();
    while let Some((line, mut text)) = lines.next() {
        let malformed = |why| Malformed { line, why };
        let mut name = String::new();
        let mut value = Zeroizing::new(String::with_capacity(text.len()));
        let mut rest = text.chars();
        let mut separated = false;
        while let Some(next) = rest.next() {
            match next {
                '=' | ':' => separated = true,
                ' ' | '\t' | '\x0c' => {
                    let behind = rest.as_str().trim_start_matches(BLANKS);
                    rest = behind.strip_prefix(['=', ':']).unwrap_or(behind).chars();
                    separated = true;
                }
                '\\' => name.extend(escaped(&mut rest).map_err(malformed)?),
                next => name.push(next),
            }
            if separated {
                break;
            }
        }
        if name.is_empty() {
            return Err(malformed("there is no name before the separator"));
        }
        let mut rest = rest.as_str().trim_start_matches(BLANKS).chars();
        while let Some(next) = rest.next() {
            match next {
                '\\' => value.extend(escaped(&mut rest).map_err(malformed)?),
                next => value.push(next),
            }
        }
        // The joined line held the value as well.
        zeroize::Zeroize::zeroize(&mut *text);
        parsed.push(Parsed { name, value, line });
    }
    Ok(parsed)
}

const BLANKS: [char; 3] = [' ', '\t', '\x0c'];

/// What a backslash and what follows it stand for. A backslash at the very end stands for nothing.
fn escaped(rest: &mut std::str::Chars<'_>) -> Result<Option<char>, &'static str> {
    Ok(Some(match rest.next() {
        None => return Ok(None),
        Some('t') => '\t',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('f') => '\x0c',
        Some('u') => {
            let first = unit(rest)?;
            match char::from_u32(first) {
                Some(character) => character,
                // Java's characters are UTF-16: what does not fit into one comes as two.
                None if (0xd800..0xdc00).contains(&first) && rest.as_str().starts_with("\\u") => {
                    let _ = (rest.next(), rest.next());
                    let second = unit(rest)?;
                    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400).ok_or(LONE)?;
                    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + low).ok_or(LONE)?
                }
                None => return Err(LONE),
            }
        }
        Some(other) => other,
    }))
}

const LONE: &str = "\\u has half of a surrogate pair";

fn unit(rest: &mut std::str::Chars<'_>) -> Result<u32, &'static str> {
    let mut unit = 0;
    for _ in 0..4 {
        let digit = rest.next().and_then(|digit| digit.to_digit(16));
        unit = unit * 16 + digit.ok_or("\\u needs four hexadecimal digits")?;
    }
    Ok(unit)
}

/// Logical lines: without comments and blank ones, continued ones joined.
struct Lines<'a> {
    rest: &'a str,
    /// Of the line that comes next.
    number: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        Lines { rest: text, number: 1 }
    }

    /// The next line of the file without its end and the blanks before it; nothing at the end.
    fn natural(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let line = self.rest.split(['\n', '\r']).next().unwrap_or_default();
        let end = self.rest.get(line.len()..).unwrap_or_default();
        self.rest = end.strip_prefix("\r\n").or_else(|| end.strip_prefix(['\n', '\r'])).unwrap_or_default();
        self.number += 1;
        Some(line.trim_start_matches(BLANKS))
    }

    fn next(&mut self) -> Option<(usize, Zeroizing<String>)> {
        loop {
            let number = self.number;
            let mut line = self.natural()?;
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let mut joined = Zeroizing::new(String::new());
            while let Some(continued) = continued(line) {
                joined.push_str(continued);
                // A blank or missing line ends what is continued; a comment is none there.
                line = self.natural().unwrap_or_default();
            }
            joined.push_str(line);
            return Some((number, joined));
        }
    }
}

/// The line without the backslash at its end, when that is not escaped itself.
fn continued(line: &str) -> Option<&str> {
    let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
    if backslashes % 2 == 1 { line.strip_suffix('\\') } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(String, String)> {
        let parsed = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
        parsed.into_iter().map(|parsed| (parsed.name, parsed.value.to_string())).collect()
    }

    #[test]
    fn what_java_reads_is_read_so() {
        for (text, name, value) in [
            ("a=b", "a", "b"),
            ("\u{feff}a=b", "a", "b"),
            ("  a : b ", "a", "b "),
            ("a b=c", "a", "b=c"),
            ("a\t=\x0cb", "a", "b"),
            ("a==b", "a", "=b"),
            ("a = = b", "a", "= b"),
            ("a", "a", ""),
            ("a=", "a", ""),
            ("a\\=\\:\\ b=c", "a=: b", "c"),
            ("a=\\t\\n\\r\\f\\q\\\\", "a", "\t\n\r\x0cq\\"),
            ("a=\\u00e4\\u20AC\\ud83d\\ude00", "a", "ä€😀"),
            ("a=b\\\n   c\\\r\n\td", "a", "bcd"),
            ("a=b \\\n  # c", "a", "b # c"),
            ("a=b\\\\\nc=d", "a", "b\\"),
            ("a=b\\", "a", "b"),
            ("a=b\\\n\nc=d", "a", "b"),
            ("\n# x\\\n ! y\n\r\ra=b", "a", "b"),
            ("ä=ö", "ä", "ö"),
            ("a=b#c", "a", "b#c"),
            ("a\\\n  b=c", "ab", "c"),
        ] {
            assert_eq!(all(text).first(), Some(&(name.to_owned(), value.to_owned())), "{text:?}");
        }
        assert_eq!(all("# a=b\n\n  \n!c"), []);
        assert_eq!(all("a=1\nb=2\ra=3").len(), 3);
    }

    #[test]
    fn errors_and_properties_name_the_line_they_begin_in() {
        let lines = |text| parse(text).map(|all| all.iter().map(|parsed| parsed.line).collect::<Vec<_>>());
        assert_eq!(lines("a=1\r\n#\r\nb=\\\r\n2\r\nc=3"), Ok(vec![1, 3, 5]));
        for (text, line, why) in [
            ("a=1\n=2", 2, "no name"),
            ("a=1\n\nb=x\\u12g4", 3, "four hexadecimal"),
            ("b=\\u12", 1, "four hexadecimal"),
            ("b=\\ud83dx", 1, "surrogate"),
            ("b=\\udc00", 1, "surrogate"),
            ("b=\\ud83d\\u0041", 1, "surrogate"),
        ] {
            let error = lines(text).unwrap_err();
            assert!(error.line == line && error.why.contains(why), "{text:?}: {error:?}");
        }
    }
}
