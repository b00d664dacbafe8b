//! The command line, and what stops the edge from beginning.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::net::TcpListener;
use std::process::{Command, Output};

use support::Directory;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edge")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

#[test]
fn it_says_how_it_is_used() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    assert!(text(&help.stdout).contains("--config FILE"), "{help:?}");
    let version = run(&["--version"]);
    assert!(text(&version.stdout).starts_with("edge "), "{version:?}");
    let nothing = run(&[]);
    assert_eq!(nothing.status.code(), Some(1));
    assert_eq!(text(&nothing.stderr), "error: --config FILE is missing; --help says more\n");
}

#[test]
fn it_checks_a_file_and_says_all_that_is_wrong_with_it() {
    let directory = Directory::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/edge.example.toml");
    let valid = run(&["--check", "--config", example]);
    assert!(valid.status.success(), "{}", text(&valid.stderr));
    assert_eq!(text(&valid.stdout), format!("{example} is valid\n"));

    let path = directory
        .write("bad.toml", "[[listener]]\nadress = \"127.0.0.1:80\"\n[pool.app]\nbackends = [7]\n");
    let path = path.to_str().unwrap();
    // Whether it is checked or run.
    for arguments in [&["--config", path, "--check"][..], &["--config", path]] {
        let invalid = run(arguments);
        assert_eq!(invalid.status.code(), Some(1));
        let expected = format!(
            "\
error: `listener.address` is missing
 --> {path}:1:1
  |
1 | [[listener]]
  | ^^^^^^^^^^^^ expected an IP address and a port, such as \"127.0.0.1:8080\"

error: unknown key `listener.adress`
 --> {path}:2:1
  |
2 | adress = \"127.0.0.1:80\"
  | ^^^^^^ did you mean `address`?

error: `pool.app.backends` can't be read
 --> {path}:4:13
  |
4 | backends = [7]
  |             ^ expected a URL in quotes, or a table with a `url`, found 7
"
        );
        assert_eq!(text(&invalid.stderr), expected);
    }
}

#[test]
fn a_file_that_is_not_there_and_an_address_that_is_taken_are_named() {
    let missing = run(&["--config", "/nowhere/edge.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("error: /nowhere/edge.toml: "), "{missing:?}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let taken = TcpListener::bind(taken).unwrap();
    let address = taken.local_addr().unwrap();
    let directory = Directory::new();
    let config = format!(
        "[[listener]]\nname = \"public\"\naddress = \"{address}\"\n[pool.app]\nbackends = [\"http://a\"]\n"
    );
    let path = directory.write("edge.toml", config);
    let output = run(&["--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("error: listener public: {address}: ");
    assert!(text(&output.stderr).starts_with(&expected), "{output:?}");
}

#[test]
fn certificates_that_can_not_be_used_are_told_with_the_reason() {
    let directory = Directory::new();
    for name in ["one", "two"] {
        support::tls::certificate(&directory, name, &["one.test"]);
    }
    directory.write("empty.pem", "");
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    directory.write("garbage.pem", garbage);
    let cases = [
        ("one.pem", "two.key", "listener.certificates.key", "it doesn't go with the chain: "),
        ("one.pem", "one.pem", "listener.certificates.key", "the file has no key in PEM: "),
        (
            "empty.pem",
            "one.key",
            "listener.certificates.chain",
            "the file has no certificate in PEM",
        ),
        (
            "garbage.pem",
            "one.key",
            "listener.certificates.chain",
            "the certificate can't be read: ",
        ),
        ("none.pem", "one.key", "listener.certificates.chain", "none.pem: No such file"),
    ];
    for (chain, key, at, why) in cases {
        let certificate = format!("{{ chain = \"{chain}\", key = \"{key}\" }}");
        let config = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificates = [{certificate}]\n\
            [pool.app]\nbackends = [\"http://a\"]\n"
        );
        let path = directory.write("edge.toml", config);
        let output = run(&["--check", "--config", path.to_str().unwrap()]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{chain} {key}");
        assert!(error.starts_with(&format!("error: `{at}` can't be used\n")), "{error}");
        assert!(error.contains("edge.toml:3:") && error.contains(why), "{error}");
    }
}
