//! `sasl.jaas.config`: one login module with its options, as Kafka's Java client reads it (KIP-85).
//!
//! ```text
//! org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p";
//! class                                                   flag     option=value ...           ;
//! ```
//!
//! Words end at blanks, `=`, `;`, quotes and `/`, which begins a comment. In quotes a backslash writes what it does in C.
//! Errors tell where something is wrong, never what stands there: with a quote in the wrong place it is the password.

use super::Secret;

/// The login module, and whom it logs in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Jaas {
    pub(crate) module: Module,
    options: Vec<(String, Secret)>,
}

/// A login module of Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Module {
    Plain,
    Scram,
    OAuthBearer,
}

impl Module {
    const ALL: [Module; 3] = [Module::Plain, Module::Scram, Module::OAuthBearer];

    /// Its class without the package.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Module::Plain => "PlainLoginModule",
            Module::Scram => "ScramLoginModule",
            Module::OAuthBearer => "OAuthBearerLoginModule",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Module::Plain => "org.apache.kafka.common.security.plain.PlainLoginModule",
            Module::Scram => "org.apache.kafka.common.security.scram.ScramLoginModule",
            Module::OAuthBearer => "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule",
        }
    }

    fn takes(self, option: &str) -> bool {
        match self {
            Module::Plain | Module::Scram => matches!(option, "username" | "password"),
            Module::OAuthBearer => {
                matches!(option, "clientId" | "clientSecret" | "scope") || extension(option).is_some()
            }
        }
    }

    fn options(self) -> &'static str {
        match self {
            Module::Plain | Module::Scram => "username and password",
            Module::OAuthBearer => "clientId, clientSecret, scope and extension_NAME",
        }
    }
}

/// What a SASL extension's option begins with (KIP-342).
fn extension(option: &str) -> Option<&str> {
    option.strip_prefix("extension_").filter(|name| !name.is_empty())
}

impl Jaas {
    /// Reads the property's text. The error is a sentence without any of it.
    pub(crate) fn parse(text: &str) -> Result<Jaas, String> {
        let mut tokens = Tokens::new(text);
        let module = module(&tokens.next()?)?;
        let flag = tokens.next()?;
        let known = ["required", "requisite", "sufficient", "optional"];
        if !flag.text().is_some_and(|flag| known.iter().any(|known| flag.eq_ignore_ascii_case(known))) {
            return Err(flag.wrong("the word `required` is missing after the login module"));
        }
        let mut options: Vec<(String, Secret)> = Vec::new();
        loop {
            let key = tokens.next()?;
            let name = match &key.kind {
                Kind::Semicolon => break,
                Kind::Text(name) => name,
                Kind::Equals | Kind::End => return Err(key.wrong("an option or the closing `;` is missing")),
            };
            let equals = tokens.next()?;
            if equals.kind != Kind::Equals {
                return Err(equals.wrong("an option has no `=`: is a value not in quotes?"));
            }
            let value = tokens.next()?;
            let Kind::Text(text) = value.kind else {
                return Err(value.wrong("an option has no value: write an empty one as \"\""));
            };
            if !module.takes(name.expose()) {
                return Err(key.wrong(unknown(module, name.expose())));
            }
            if options.len() >= MOST_OPTIONS {
                return Err(key.wrong("there are too many options"));
            }
            if options.iter().any(|(known, _)| known == name.expose()) {
                return Err(key.wrong("an option is given twice"));
            }
            options.push((name.expose().to_owned(), text));
        }
        let more = tokens.next()?;
        if more.kind != Kind::End {
            return Err(more.wrong("there is more than one login module; a client has one"));
        }
        let jaas = Jaas { module, options };
        if module != Module::OAuthBearer && (jaas.get("username").is_none() || jaas.get("password").is_none()) {
            return Err(format!("{} needs username and password", module.name()));
        }
        Ok(jaas)
    }

    /// The value of an option.
    pub(crate) fn get(&self, option: &str) -> Option<&Secret> {
        self.options.iter().find(|(name, _)| name == option).map(|(_, value)| value)
    }

    /// The SASL extensions, by name.
    pub(crate) fn extensions(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.options.iter().filter_map(|(name, value)| Some((extension(name)?, value)))
    }
}

/// More options are none of a person's writing; names are compared each with each.
const MOST_OPTIONS: usize = 100;

fn module(token: &Token) -> Result<Module, String> {
    let Some(class) = token.text() else { return Err(token.wrong("the login module is missing")) };
    // Some products bring Kafka's classes under a package of their own.
    let fits = |module: &&Module| {
        class.strip_suffix(module.class()).is_some_and(|package| package.is_empty() || package.ends_with('.'))
    };
    if let Some(module) = Module::ALL.iter().find(fits) {
        return Ok(*module);
    }
    Err(token.wrong(if class.ends_with("Krb5LoginModule") {
        "Krb5LoginModule is GSSAPI, which is not built in: give SaslConfig::mechanism an implementation"
    } else {
        "the login module is none of Kafka's PlainLoginModule, ScramLoginModule and OAuthBearerLoginModule"
    }))
}

fn unknown(module: Module, option: &str) -> String {
    let hint = match option {
        "tokenauth" => "; delegation tokens are not supported",
        _ if option.starts_with("user_") => "; user_NAME is for the broker",
        _ if option.starts_with("unsecured") => "; unsecured tokens are not supported",
        _ => "",
    };
    format!("the option is none of {}'s {}{hint}", module.name(), module.options())
}

/// A piece of the text, and where it begins.
struct Token {
    kind: Kind,
    at: usize,
}

#[derive(PartialEq)]
enum Kind {
    Text(Secret),
    Equals,
    Semicolon,
    End,
}

impl Token {
    fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text.expose()),
            Kind::Equals | Kind::Semicolon | Kind::End => None,
        }
    }

    fn wrong(&self, why: impl std::fmt::Display) -> String {
        match self.kind {
            Kind::End => format!("at its end: {why}"),
            _ => format!("at character {}: {why}", self.at),
        }
    }
}

/// Cuts as Java's StreamTokenizer does when it is set up for JAAS.
struct Tokens<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    /// Characters read so far.
    read: usize,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Tokens<'a> {
        Tokens { rest: text.chars().peekable(), read: 0 }
    }

    fn take(&mut self) -> Option<char> {
        let taken = self.rest.next()?;
        self.read += 1;
        Some(taken)
    }

    fn next(&mut self) -> Result<Token, String> {
        loop {
            let Some(first) = self.take() else { return Ok(Token { kind: Kind::End, at: self.read }) };
            let at = self.read;
            let kind = match first {
                '\0'..=' ' => continue,
                '/' => {
                    self.comment();
                    continue;
                }
                '=' => Kind::Equals,
                ';' => Kind::Semicolon,
                '"' | '\'' => Kind::Text(self.quoted(first, at)?),
                _ => Kind::Text(self.word(first)),
            };
            return Ok(Token { kind, at });
        }
    }

    /// `/* ... */`, or up to the end of the line: a single `/` will do.
    fn comment(&mut self) {
        if self.rest.next_if_eq(&'*').is_some() {
            self.read += 1;
            let mut star = false;
            while let Some(next) = self.take() {
                if star && next == '/' {
                    return;
                }
                star = next == '*';
            }
        } else {
            while self.rest.next_if(|next| !matches!(next, '\n' | '\r')).is_some() {
                self.read += 1;
            }
        }
    }

    fn word(&mut self, first: char) -> Secret {
        let mut word = zeroize::Zeroizing::new(String::from(first));
        let ends = |next: &char| matches!(next, '\0'..=' ' | '/' | '=' | ';' | '"' | '\'');
        while let Some(next) = self.rest.next_if(|next| !ends(next)) {
            self.read += 1;
            word.push(next);
        }
        Secret::new(std::mem::take(&mut *word))
    }

    fn quoted(&mut self, quote: char, at: usize) -> Result<Secret, String> {
        let mut text = zeroize::Zeroizing::new(String::new());
        loop {
            match self.take() {
                Some(next) if next == quote => return Ok(Secret::new(std::mem::take(&mut *text))),
                None | Some('\n' | '\r') => {
                    return Err(format!("at character {at}: the quote is not closed in its line"));
                }
                Some('\\') => match self.escaped() {
                    Some(next) => text.push(next),
                    None => return Err(format!("at character {at}: the quote is not closed in its line")),
                },
                Some(next) => text.push(next),
            }
        }
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Option<char> {
        Some(match self.take()? {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            first @ '0'..='7' => {
                let mut code = first.to_digit(8)?;
                // Three digits up to \377, two above.
                for _ in 0..if first <= '3' { 2 } else { 1 } {
                    let Some(digit) = self.rest.next_if(|next| matches!(next, '0'..='7')) else { break };
                    self.read += 1;
                    code = code * 8 + digit.to_digit(8)?;
                }
                char::from_u32(code)?
            }
            '\n' | '\r' => return None,
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> String {
        let text = format!("org.apache.kafka.common.security.plain.PlainLoginModule required username=u {text};");
        Jaas::parse(&text).unwrap().get("password").unwrap().expose().to_owned()
    }

    #[test]
    fn values_are_quoted_and_escaped_as_java_has_it() {
        for (text, meant) in [
            (r#"password="p""#, "p"),
            (r#"password='p "q"'"#, r#"p "q""#),
            (r#"password="a\"b\\c""#, r#"a"b\c"#),
            (r#"password="\t\n\101\477x\7""#, "\t\nA\u{27}7x\u{7}"),
            ("password=pä$w:ö", "pä$w:ö"),
            ("password = \n \"a/b=c;d\"", "a/b=c;d"),
            ("/* username=x */ password=p // and so on\n", "p"),
            (r#""password"="""#, ""),
        ] {
            assert_eq!(password(text), meant, "{text}");
        }
    }

    #[test]
    fn modules_and_their_options() {
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule REQUIRED username=\"u\" password=\"p\";";
        assert_eq!(Jaas::parse(scram).unwrap().module, Module::Scram);
        assert_eq!(Jaas::parse(&format!(" shaded.{scram} ")).unwrap().module, Module::Scram);
        let oauth = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientId=i \
                     clientSecret=s scope=\"a b\" extension_logicalCluster=lkc-1;";
        let oauth = Jaas::parse(oauth).unwrap();
        assert_eq!(
            oauth.extensions().map(|(name, value)| (name, value.expose())).collect::<Vec<_>>(),
            [("logicalCluster", "lkc-1")]
        );
        assert!(!format!("{oauth:?}").contains("lkc-1"));
        assert!(Jaas::parse("org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;").is_ok());
    }

    #[test]
    fn what_is_wrong_is_told_without_the_text() {
        const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
        for (text, why) in [
            ("", "login module is missing"),
            ("hunter2", "none of Kafka's"),
            ("com.sun.security.auth.module.Krb5LoginModule required hunter2=x;", "SaslConfig::mechanism"),
            (&format!("evil{PLAIN} required username=u password=hunter2;"), "none of Kafka's"),
            (&format!("{PLAIN} username=u password=hunter2;"), "`required`"),
            (&format!("{PLAIN} required username=u password=hunter2"), "at its end: an option or the closing `;`"),
            (&format!("{PLAIN} required username=u password=hunter2/x;"), "closing `;`"),
            (&format!("{PLAIN} required username=u password=\"hunter2;"), "not closed"),
            (&format!("{PLAIN} required username=u password=hun\"ter2\";"), "no `=`"),
            (&format!("{PLAIN} required username=u password=;"), "no value"),
            (
                &format!("{PLAIN} required username=u hunter2=password;"),
                "none of PlainLoginModule's username and password",
            ),
            (&format!("{PLAIN} required user_u=hunter2;"), "for the broker"),
            (&format!("{PLAIN} required username=u username=u password=hunter2;"), "twice"),
            (&format!("{PLAIN} required username=u;"), "needs username and password"),
            (&format!("{PLAIN} required username=u password=p; hunter2"), "more than one"),
        ] {
            let error = Jaas::parse(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
