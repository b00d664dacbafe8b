//! A file that names instances, changed in all the ways in which files are.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{sleep, timeout};
use tower_keep_balance::registry::{Discovery, File, Instance, RegistryError, Watch};

const SOON: Duration = Duration::from_millis(10);

fn file(path: &Path) -> File {
    File::new(path).interval(SOON)
}

fn naming(ids: &[&str]) -> String {
    let instances = ids.iter().map(|id| format!(r#"{{"id": "{id}", "address": "10.0.0.1:{id}"}}"#));
    format!(r#"{{"shop": [{}]}}"#, instances.collect::<Vec<_>>().join(", "))
}

async fn sees(watch: &mut Watch, ids: &[&str]) {
    let waits = async {
        loop {
            let list = watch.next().await.unwrap();
            if list.iter().map(Instance::id).collect::<Vec<_>>() == ids {
                return;
            }
        }
    };
    timeout(Duration::from_secs(30), waits).await.unwrap();
}

async fn fails(watch: &Watch, text: &str) {
    let waits = async {
        while !watch.error().is_some_and(|error| error.to_string().contains(text)) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(30), waits).await.unwrap_or_else(|_| panic!("{:?}", watch.error()));
}

#[tokio::test]
async fn what_is_no_file_is_refused_without_being_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("instances.json");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let mut watch = file(&path).watch("shop");
    fails(&watch, "not a regular file").await;
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = file(&path).healthy("shop").await.unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    fs::remove_dir(&path).unwrap();
    fs::write(&path, naming(&["1"])).unwrap();
    sees(&mut watch, &["1"]).await;
}

#[tokio::test]
async fn whatever_way_it_is_changed_it_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("instances.json");
    fs::write(&path, naming(&["1"])).unwrap();
    let mut watch = file(&path).watch("shop");
    sees(&mut watch, &["1"]).await;
    // In place, and of the same length.
    fs::write(&path, naming(&["2"])).unwrap();
    sees(&mut watch, &["2"]).await;
    // As editors do.
    let new = dir.path().join("new");
    fs::write(&new, naming(&["2", "3"])).unwrap();
    fs::rename(&new, &path).unwrap();
    sees(&mut watch, &["2", "3"]).await;
    // As Kubernetes does: a link to a file by way of a linked directory, which is swapped.
    for (version, ids) in [("v1", vec!["4"]), ("v2", vec!["4", "5"])] {
        fs::create_dir(dir.path().join(version)).unwrap();
        fs::write(dir.path().join(version).join("instances.json"), naming(&ids)).unwrap();
    }
    symlink("v1", dir.path().join("..data")).unwrap();
    symlink("..data/instances.json", &new).unwrap();
    fs::rename(&new, &path).unwrap();
    sees(&mut watch, &["4"]).await;
    symlink("v2", dir.path().join("..data_tmp")).unwrap();
    fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    sees(&mut watch, &["4", "5"]).await;
    fs::write(&path, naming(&[])).unwrap();
    sees(&mut watch, &[]).await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_what_is_wrong_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("instances.json");
    fs::write(&path, naming(&["1"])).unwrap();
    let mut watch = file(&path).max_size(4096).watch("shop");
    sees(&mut watch, &["1"]).await;
    let cases = [
        (
            "{\n  \"shop\": [\n    {\"id\": \"1\"}\n  ]\n}",
            "instances.json:3:15: missing field `address`",
        ),
        ("{\"shop\": [", "instances.json:1:10: EOF"),
        ("{\"shop\": [{\"id\": \"1\", \"adress\": \"x\"}]}", "unknown field `adress`"),
        ("{\"shop\": [{\"id\": \"\", \"address\": \"x\"}]}", "id has 1 to 256 bytes"),
        ("{\"shop\": [{\"id\": \"1\", \"address\": \"x\", \"weight\": 65536}]}", "expected u16"),
        ("{\"other\": []}", "no service \"shop\""),
        ("", "EOF"),
    ];
    for (content, text) in cases {
        fs::write(&path, content).unwrap();
        fails(&watch, text).await;
        assert_eq!(watch.latest().unwrap().len(), 1);
    }
    fs::write(&path, " ".repeat(5000)).unwrap();
    fails(&watch, "more than 4096 bytes").await;
    fs::remove_file(&path).unwrap();
    fails(&watch, "No such file").await;
    assert_eq!(watch.latest().unwrap().len(), 1);
    // The same that it was before is good again.
    fs::write(&path, naming(&["1"])).unwrap();
    timeout(Duration::from_secs(30), async {
        while watch.error().is_some() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    fs::write(&path, naming(&["1", "2"])).unwrap();
    sees(&mut watch, &["1", "2"]).await;
    assert!(watch.stats().failures >= 8);
}

#[tokio::test]
async fn it_can_be_asked_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("instances.json");
    let content = r#"{"shop": [{"id": "1", "address": "x", "weight": 2, "priority": 1,
        "metadata": {"zone": "b"}}], "other": []}"#;
    fs::write(&path, content).unwrap();
    let expected = Instance::new("1", "x").weight(2).priority(1).meta("zone", "b");
    assert_eq!(file(&path).healthy("shop").await.unwrap(), [expected]);
    assert!(file(&path).healthy("other").await.unwrap().is_empty());
    let unknown = file(&path).healthy("third").await;
    assert!(matches!(unknown, Err(RegistryError::Unknown(_))));
}

fn instances() -> impl Strategy<Value = Vec<Instance>> {
    let metadata = prop::collection::btree_map("\\PC{0,8}", "\\PC{0,8}", 0..4);
    let one = ("[!-~]{1,20}", "[!-~]{1,20}", any::<u16>(), any::<u8>(), metadata);
    let one = one.prop_map(|(id, address, weight, priority, metadata)| {
        let instance = Instance::new(id, address).weight(weight).priority(priority);
        metadata.into_iter().fold(instance, |instance, (key, value)| instance.meta(key, value))
    });
    prop::collection::vec(one, 0..5)
}

fn read(content: &[u8]) -> Result<Vec<Instance>, RegistryError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("instances.json");
    fs::write(&path, content).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { file(&path).healthy("shop").await })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn what_is_written_is_read(instances in instances()) {
        let services = std::collections::HashMap::from([("shop", &instances)]);
        let content = serde_json::to_vec_pretty(&services).unwrap();
        prop_assert_eq!(read(&content).unwrap(), instances);
    }

    #[test]
    fn no_content_panics(content in prop::collection::vec(any::<u8>(), 0..200), cut in 0..60usize) {
        let _ = read(&content);
        let mut content = naming(&["1", "2"]).into_bytes();
        content.truncate(cut);
        prop_assert!(read(&content).is_err());
    }
}
