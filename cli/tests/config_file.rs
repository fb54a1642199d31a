//! `--config-file`: what a file of properties sets, what goes over it, and how its mistakes are told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::path::PathBuf;

use support::{at, cluster, program, run};

/// A file of properties that is gone after the test.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn new(name: &str, text: &str) -> ConfigFile {
        let path = std::env::temp_dir().join(format!("indelible-{name}-{}.properties", std::process::id()));
        std::fs::write(&path, text).unwrap();
        ConfigFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn one_file_serves_all_commands() {
    let cluster = cluster("t", 1);
    let text = format!(
        "# for all\nbootstrap.servers = {}\nsecurity.protocol=PLAINTEXT\n\ncompression.type=zstd\ngroup.id=g\n\
         auto.offset.reset=latest\n",
        cluster.bootstrap().join(",")
    );
    let file = ConfigFile::new("all", &text);
    let file = file.path();
    let ran = run(program(&format!("produce --config-file {file} --topic t")), b"a\nb\n");
    assert!(ran.summary().starts_with(r#"{"read":2,"delivered":2,"#), "{ran:?}");
    // The option goes over the file, where the group begins at the end; the group is the file's.
    let ran = run(program(&format!("consume -F {file} -t t --from earliest --until-end -f %s")), b"");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "a\nb\n"), "{ran:?}");
    let ran = run(program(&format!("group lag -F {file} g")), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = run(program(&format!("perf produce -F {file} --topic t --partitions 1 --records 10")), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = run(
        program(&format!("perf consume -F {file} -X auto.offset.reset=earliest --topic t --partitions 1 --records 9")),
        b"",
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn the_command_line_goes_over_the_file_and_options_over_properties() {
    let cluster = cluster("t", 1);
    let file = ConfigFile::new("over", "bootstrap.servers=127.0.0.1:1\nlinger.ms=2000000\nacks=all\ngroup.id=g\n");
    let file = file.path();
    let here = at(&cluster);
    // Records that wait for half an hour would not be there.
    let ran = run(program(&format!("produce {here} -F {file} -t t -X linger.ms=1")), b"a\n");
    assert!(ran.summary().contains(r#""delivered":1"#), "{ran:?}");
    let ran = run(program(&format!("produce {here} -F {file} -t t -X linger.ms=2000000 --linger-ms 1")), b"a\n");
    assert!(ran.summary().contains(r#""delivered":1"#), "{ran:?}");
    let servers = cluster.bootstrap().join(",");
    let ran = run(program(&format!("produce -F {file} -X metadata.broker.list={servers} -t t --linger-ms 1")), b"a\n");
    assert!(ran.summary().contains(r#""delivered":1"#), "{ran:?}");
    let ran = run(program(&format!("consume {here} -F {file} -t t --group other --until-end -f %s")), b"");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "a\na\na\n"), "{ran:?}");
    // And without the option it is the file's.
    let ran = run(program(&format!("produce -F {file} -t t")), b"a\n");
    ran.complains(3, &["127.0.0.1:1", "connection refused"]);
}

#[test]
fn mistakes_in_a_file_name_its_line() {
    for (number, (text, place, parts)) in [
        ("a=1\n", ":1: ", &["unknown property \"a\""][..]),
        ("# x\nlinger_ms = 5\n", ":2: ", &["linger_ms", "did you mean \"linger.ms\""]),
        ("linger.ms=soon", ":1: ", &["linger.ms", "soon", "milliseconds"]),
        ("client.id=x\nrequest.timeout.ms=\\\n  soon", ":2: ", &["request.timeout.ms", "soon"]),
        ("client.id=\\u12", ":1: ", &["hexadecimal"]),
        ("key.serializer=x", ":1: ", &["key.serializer", "not supported"]),
        ("sasl.mechanism=GSSAPI", ":1: ", &["SaslConfig::mechanism"]),
        ("\nssl.ca.location=/a\nssl.truststore.location=/b", ":3: ", &["line 2", "the same setting"]),
        (
            "client.id=${env:INDELIBLE_NO_SUCH_VARIABLE}",
            ":1: ",
            &["client.id", "INDELIBLE_NO_SUCH_VARIABLE is not set"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let file = ConfigFile::new(&format!("mistake{number}"), text);
        // No port: the file is at fault before anybody is asked.
        for command in ["produce -t t", "produce -t t --spool /no/such", "consume -t t -g g", "group list"] {
            if !matches!(place, ":1: ") && command == "group list" {
                continue;
            }
            if text.contains("linger.ms=soon") && !command.starts_with("produce -t t --spool") {
                continue; // the producer is made when a broker has answered
            }
            let ran = run(program(&format!("{command} -b 127.0.0.1:1 --config-file {}", file.path())), b"");
            ran.complains(2, &[&format!("{}{place}", file.path())]);
            ran.complains(2, parts);
        }
    }
    run(program("produce -t t -F /no/such/file"), b"").complains(4, &["/no/such/file", "--config-file"]);
    let empty = ConfigFile::new("empty", "client.id=x");
    let ran = run(program(&format!("produce -t t -F {}", empty.path())), b"");
    ran.complains(2, &["--bootstrap", "bootstrap.servers", "--help"]);
}

/// Story: the file has a password in it, so it is handed over by a pipe and never lies on a disk.
#[cfg(unix)]
#[test]
fn a_file_may_be_a_pipe() {
    let pipe = std::env::temp_dir().join(format!("indelible-pipe-{}", std::process::id()));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (text, code, part) in
        [("bootstrap.servers=127.0.0.1:1\n", 3, "connection refused"), ("\n\nclient.id=\\u12\n", 2, ":3: ")]
    {
        let (to, text) = (pipe.clone(), text.to_owned());
        let feeding = std::thread::spawn(move || std::fs::write(to, text));
        let ran = run(program(&format!("group list -F {}", pipe.display())), b"");
        feeding.join().unwrap().unwrap();
        ran.complains(code, &[part]);
    }
    std::fs::remove_file(&pipe).unwrap();
}

#[test]
fn secrets_absent_from_errors() {
    const SECRET: &str = "hunter2";
    let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=u password=hunter2";
    for property in [
        "sasl.password=hunter2".to_owned(),
        "sasl.pasword=hunter2".to_owned(),
        "ssl.keystore.password=hunter2".to_owned(),
        "ssl.key.password=hunter2".to_owned(),
        "ssl.keystore.key=hunter2".to_owned(),
        "sasl.oauthbearer.client.secret=hunter2".to_owned(),
        "sasl.password=${hunter2:x}".to_owned(),
        "hunter2".to_owned(),
        format!("sasl.jaas.config={jaas}"),
        format!("sasl.jaas.config={jaas} x;"),
    ] {
        for command in ["produce -t t", "consume -t t -g g", "group list", "perf produce"] {
            let mut program = program(&format!("{command} -b 127.0.0.1:1"));
            program.env("INDELIBLE_LOG", "trace").args(["-X", &property]);
            let ran = run(program, b"");
            ran.complains(2, &["indelible: "]);
            assert!(!ran.err.contains(SECRET) && !ran.out.contains(SECRET), "{property}: {ran:?}");
        }
        let file = ConfigFile::new("secret", &format!("bootstrap.servers=127.0.0.1:1\n{property}\n"));
        let ran = run(program(&format!("produce -t t -F {}", file.path())), b"");
        ran.complains(2, &["indelible: "]);
        assert!(!ran.out.contains(SECRET), "{ran:?}");
        // A line that is nothing but a secret is taken for a name.
        assert!(property == SECRET || !ran.err.contains(SECRET), "{property}: {ran:?}");
    }
}

#[test]
fn values_come_from_the_environment_and_from_files() {
    let cluster = cluster("t", 1);
    let other = ConfigFile::new("other", &format!("servers={}\n", cluster.bootstrap().join(",")));
    let text =
        format!("bootstrap.servers=${{file:{}:servers}}\ngroup.id=${{env:INDELIBLE_TEST_GROUP}}\n", other.path());
    let file = ConfigFile::new("placeholders", &text);
    let ran = run(program(&format!("produce -F {} -t t", file.path())), b"a\n");
    assert!(ran.summary().contains(r#""delivered":1"#), "{ran:?}");
    let mut consume = program(&format!("consume -F {} -t t --until-end -f %s", file.path()));
    consume.env("INDELIBLE_TEST_GROUP", "g");
    let ran = run(consume, b"");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "a\n"), "{ran:?}");
    let ran = run(program(&format!("consume -F {} -t t --until-end", file.path())), b"");
    ran.complains(2, &["INDELIBLE_TEST_GROUP is not set", ":2: "]);
}

#[test]
fn a_file_as_java_has_it_connects_by_sasl_ssl() {
    use proto_tests::certs::Authority;
    use proto_tests::fake::{FakeCluster, FakeSasl, FakeTls};

    let authority = Authority::new("test");
    let tls = FakeTls::new(authority.server(&["localhost", "127.0.0.1"]));
    let cluster = FakeCluster::builder().brokers(1).tls(tls).sasl(FakeSasl::new().user("alice", "pw \"x\"")).start();
    cluster.create_topic("t", 1);
    let ca = ConfigFile::new("ca", &authority.pem());
    let password = ConfigFile::new("password", "pw=pw \\\\\"x\\\\\"\n");
    let servers = cluster.bootstrap().join(",");
    let java = |mechanism: &str, module: &str| {
        format!(
            "bootstrap.servers={servers}\nsecurity.protocol=SASL_SSL\nssl.truststore.type=PEM\n\
             ssl.truststore.location={}\nsasl.mechanism={mechanism}\nsasl.jaas.config=\
             org.apache.kafka.common.security.{module} required \\\n username=\"alice\" \\\n \
             password=\"${{file:{}:pw}}\";\n",
            ca.path(),
            password.path()
        )
    };
    let librdkafka = format!(
        "metadata.broker.list={servers}\nsecurity.protocol=sasl_ssl\nssl.ca.location={}\nsasl.mechanisms=SCRAM-SHA-512\n\
         sasl.username=alice\nsasl.password=pw \"x\"\n",
        ca.path()
    );
    for text in
        [java("PLAIN", "plain.PlainLoginModule"), java("SCRAM-SHA-256", "scram.ScramLoginModule"), librdkafka.clone()]
    {
        let file = ConfigFile::new("secure", &text);
        let ran = run(program(&format!("produce -F {} -t t", file.path())), b"a\n");
        assert!(ran.summary().contains(r#""delivered":1"#), "{text}: {ran:?}");
    }
    let wrong = ConfigFile::new("wrong", &librdkafka.replace("pw \"x\"", "hunter2"));
    let ran = run(program(&format!("produce -F {} -t t", wrong.path())), b"a\n");
    ran.complains(3, &["SASL", "SCRAM-SHA-512"]);
    assert!(!ran.err.contains("hunter2"), "{ran:?}");
}
