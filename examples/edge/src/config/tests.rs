//! That each mistake is told where it is, and that the example tells the truth.

use super::*;

#[path = "tests/mistakes.rs"]
mod mistakes;

const SMALLEST: &str = "\
[[listener]]
address = \"127.0.0.1:8080\"

[pool.app]
backends = [\"http://127.0.0.1:3000\"]
";

const EXAMPLE: &str = include_str!("../../edge.example.toml");

fn parse(source: &str) -> Result<Config, Invalid> {
    Config::parse(source, Path::new("edge.toml"))
}

#[tokio::test]
async fn the_smallest_file_serves_everything_from_its_pool() {
    let config = parse(SMALLEST).unwrap();
    assert_eq!(config.listeners.len(), 1);
    let [route] = &*config.routes else { panic!("{:?}", config.routes) };
    assert_eq!(route.action, Action::Pool("app".to_owned()));
    assert_eq!(route.condition, Condition::default());
}

#[tokio::test]
async fn the_example_says_what_the_defaults_are() {
    let example = parse(EXAMPLE).unwrap_or_else(|error| panic!("{error}"));
    let smallest = parse(SMALLEST).unwrap();
    assert_eq!(example.server, smallest.server);
    assert_eq!(example.log, smallest.log);
    assert_eq!(example.forwarding, smallest.forwarding);
    assert_eq!(example.listeners, smallest.listeners);
    assert_eq!(example.cache, smallest.cache);
    assert_eq!(example.compress, smallest.compress);
    assert_eq!(example.jwts, smallest.jwts);
    assert_eq!(example.pools, smallest.pools);
    // What is left is said in comments.
    let mut route = example.routes[0].clone();
    route.name = "/".to_owned();
    assert_eq!(route, smallest.routes[0]);
}

/// The lines that are commented out, as they would be without.
fn uncommented() -> String {
    let is_setting = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        let is_key = key.chars().all(|char| char.is_ascii_lowercase() || "_{} ".contains(char));
        line.starts_with('[') && line.ends_with(']') || line.contains(" = ") && is_key
    };
    let line = |line: &str| match line.trim_start().strip_prefix("# ") {
        Some(setting) if is_setting(setting) => setting.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn what_the_example_comments_out_could_be_said_too() {
    let source = uncommented();
    let error = parse(&source).unwrap_err().to_string();
    // Some exclude each other, and files aren't there; but nothing is unknown, or of another kind.
    assert!(!error.contains("unknown key") && !error.contains("can't be read"), "{error}");
    assert!(!error.contains("no TOML"), "{error}");
}

#[tokio::test]
async fn the_example_has_every_setting() {
    let source = uncommented();
    let problems = Problems::default();
    Config::read(&source, Path::new("edge.toml"), &problems);
    let known = problems.known.borrow();
    assert!(known.len() > 100, "{known:?}");
    for key in known.iter() {
        let is_there = source.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
        assert!(is_there.into_iter().any(|word| word == key), "{key} is not in edge.example.toml");
    }
}

#[tokio::test]
async fn the_defaults_of_a_health_check_are_as_in_the_example() {
    let with = |section: &str| {
        let source = format!("{SMALLEST}\n{section}");
        parse(&source).unwrap_or_else(|error| panic!("{error}")).pools
    };
    let section = |name: &str, without: &[&str]| {
        let source = uncommented();
        let mut lines = source.lines().skip_while(|line| *line != name);
        let head = lines.next().unwrap();
        let rest = lines.take_while(|line| line.contains(" = "));
        let rest = rest.filter(|line| !without.iter().any(|key| line.starts_with(key)));
        [head].into_iter().chain(rest).collect::<Vec<_>>().join("\n")
    };
    let health =
        section("[pool.app.health]", &["host", "body", "service", "port", "timeout", "statuses"]);
    assert_eq!(with(&health), with("[pool.app.health]"));
    let slow_start = section("[pool.app.slow_start]", &[]);
    assert_eq!(with(&slow_start), with("[pool.app.slow_start]"));
    let tls = section("[pool.app.tls]", &["certificate", "key", "server_name"]);
    assert_eq!(with(&tls), with("[pool.app.tls]"));
}

#[tokio::test]
async fn the_defaults_of_compression_and_tokens_are_as_in_the_example() {
    let source = uncommented();
    let between = |from: &str, to: &str| {
        let rest = &source[source.find(from).unwrap()..];
        rest[..rest.find(to).unwrap()].to_owned()
    };
    let compress = between("\n[compress]\n", "\n[jwt.users]\n");
    let compress: Vec<_> = compress.lines().filter(|line| !line.starts_with("at_once")).collect();
    let of = |section: &str| parse(&format!("{SMALLEST}\n{section}")).unwrap();
    assert_eq!(of(&compress.join("\n")).compress, Some(Compress::default()));

    let route = "[[route]]\npool = \"app\"\njwt = \"users\"\n";
    let (jwt, revocation) = source.split_once("\n[jwt.users.revocation]\n").unwrap();
    let jwt = jwt[jwt.find("\n[jwt.users]\n").unwrap()..].lines();
    let without = ["cookie", "query", "resource_metadata", "jwks", "file", "format", "kid"];
    let without = without.into_iter().chain(["interval", "authority"]);
    let without: Vec<_> = without.map(|key| format!("{key} = ")).collect();
    let jwt = jwt.filter(|line| !without.iter().any(|key| line.starts_with(key)));
    let jwt = jwt.collect::<Vec<_>>().join("\n");
    let smallest = "[jwt.users]\n[[jwt.users.issuer]]\nname = \"https://id.example.com\"\n\
        audiences = [\"orders\"]\n";
    assert_eq!(of(&format!("{route}{jwt}")).jwts, of(&format!("{route}{smallest}")).jwts);
    let with = |revocation: &str| {
        of(&format!("{route}{smallest}[jwt.users.revocation]\n{revocation}")).jwts
    };
    assert_eq!(with(revocation), with("redis = \"redis://127.0.0.1\""));
}

#[tokio::test]
async fn routes_conflict_where_a_request_could_meet_both_and_only_there() {
    let conflicts = |one: &str, other: &str| {
        let routes = [one, other].map(|it| format!("[[route]]\npool = \"app\"\n{it}\n")).concat();
        let parsed = parse(&format!("{SMALLEST}\n{routes}"));
        parsed.is_err_and(|error| error.to_string().contains("for the same requests"))
    };
    let fine = [
        ("", "path_prefix = \"/a\""),
        ("path = \"/a\"", "path_prefix = \"/a\""),
        ("path_prefix = \"/a\"", "path_prefix = \"/a/b\""),
        ("hosts = [\"a\"]", "hosts = [\"b\"]"),
        ("hosts = [\"a.b\"]", "hosts = [\"*.b\"]"),
        ("hosts = [\"a\"]", ""),
        ("methods = [\"GET\"]", "methods = [\"POST\"]"),
        ("methods = [\"GET\"]", ""),
        ("headers = { a = \"1\" }", "headers = { a = \"2\" }"),
        ("headers = { a = \"1\" }", "headers = { a = \"*\" }"),
        ("headers = { a = \"1\" }", ""),
        ("listeners = [\"127.0.0.1:8080\"]", ""),
        ("path = \"/a\"", "path = \"/a\"\nignore_case = true"),
        ("path = \"/a\"", "path = \"/A\""),
    ];
    for (one, other) in fine {
        assert!(!conflicts(one, other) && !conflicts(other, one), "{one} and {other}");
    }
    let same = [
        ("", ""),
        ("path_prefix = \"/\"", ""),
        ("path_prefix = \"/a/\"", "path_prefix = \"/%61\""),
        ("path = \"/a\"\nignore_case = true", "path = \"/A\"\nignore_case = true"),
        ("hosts = [\"a\", \"b\"]", "hosts = [\"c\", \"B.\"]"),
        ("methods = [\"GET\"]", "methods = [\"POST\", \"GET\"]"),
        ("headers = { a = \"1\", b = \"2\" }", "headers = { b = \"2\", a = \"1\" }"),
    ];
    for (one, other) in same {
        assert!(conflicts(one, other) && conflicts(other, one), "{one} and {other}");
    }
}
