//! What docs/connecting.md tells people to write into their files is understood.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test of texts")]

use std::path::Path;

use indelible::{Client, Properties};
use proto_tests::certs::Authority;

const CHAPTER: &str = include_str!("../docs/connecting.md");

/// The files that the chapter speaks of, made here.
fn files(folder: &Path) -> Vec<(&'static str, String)> {
    let authority = Authority::new("docs");
    let client = authority.client("orders");
    let file = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name).display().to_string()
    };
    let ca = file("ca", &authority.pem());
    vec![
        ("/etc/kafka-ca/ca.crt", ca.clone()),
        ("ca.pem", ca),
        ("client.pem", file("keystore", &client.keystore())),
        ("service.cert", file("cert", &client.chain)),
        ("service.key", file("key", &client.key)),
    ]
}

/// `${..}` by a word: what it names is not on this machine.
fn without_placeholders(text: &str) -> String {
    let mut parts = text.split("${");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        out.push_str("word");
        out.push_str(part.split_once('}').unwrap().1);
    }
    out
}

#[test]
fn every_file_of_properties_in_the_chapter_makes_a_client() {
    let folder = std::env::temp_dir().join(format!("indelible-docs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let files = files(&folder);
    let blocks: Vec<&str> =
        CHAPTER.split("```properties\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 9, "{}", blocks.len());
    for block in blocks {
        let mut text = without_placeholders(block);
        for (name, file) in &files {
            text = text.replace(&format!("={name}\n"), &format!("={file}\n"));
        }
        // What the chapter leaves to the reader, and the roots of a machine that may have none.
        for (name, value) in [("bootstrap.servers", "localhost:1"), ("ssl.truststore.location", &files[0].1)] {
            if !text.contains(name) {
                text.push_str(&format!("{name}={value}\n"));
            }
        }
        let properties = Properties::parse(&text).unwrap_or_else(|error| panic!("{error} in:\n{block}"));
        let client = Client::from_properties(&properties).build_lazy();
        if cfg!(not(feature = "oidc")) && block.contains("OAUTHBEARER") {
            assert!(client.unwrap_err().to_string().contains("feature `oidc`"));
            continue;
        }
        let client = client.unwrap_or_else(|error| panic!("{error} in:\n{block}"));
        drop(client.producer().properties(&properties));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
