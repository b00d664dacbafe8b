//! A real client.

use std::process::Command;

/// What curl reads of `url`, and what it writes of `told` (its `--write-out`), in one line.
pub async fn curl(told: &str, arguments: &[&str], url: &str) -> (Vec<u8>, String) {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "60"])
        .args(["--write-out", &format!("\n{told}")])
        .args(arguments)
        .arg(url);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("it doesn't panic").expect("curl is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut content = output.stdout;
    let at = content.iter().rposition(|byte| *byte == b'\n').expect("the line is there");
    let line = String::from_utf8(content.split_off(at)).expect("it is text");
    (content, line.trim_start().to_owned())
}
