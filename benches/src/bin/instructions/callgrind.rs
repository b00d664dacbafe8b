//! Counting, by valgrind's callgrind, in a process for each path.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};
use std::{env, fs, io, process};

use tower_keep_benches::hot::HotPath;

/// What is counted: all that happens within `counted`, so neither the start nor what is prepared.
const WITHIN: &str = "--toggle-collect=tower_keep_benches::way::counted*";

/// Instructions of one operation on each of these, of so many.
pub(crate) fn count(paths: &[HotPath], times: u32) -> io::Result<Vec<(&'static str, u64)>> {
    let next = AtomicUsize::new(0);
    let count_some = || {
        let mut counts = Vec::new();
        while let Some((at, path)) = take(&next, paths) {
            counts.push((at, path.name, count_one(path.name, at, times)));
        }
        counts
    };
    let mut counts = scope(|threads| {
        let processors = available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..processors).map(|_| threads.spawn(count_some)).collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_default());
        joined.flatten().collect::<Vec<_>>()
    });
    counts.sort_unstable_by_key(|&(at, ..)| at);
    let named = counts.into_iter().map(|(_, name, count)| match count {
        Ok(count) => Ok((name, count)),
        Err(error) => Err(io::Error::new(error.kind(), format!("{name}: {error}"))),
    });
    named.collect()
}

fn take<'a>(next: &AtomicUsize, paths: &'a [HotPath]) -> Option<(usize, &'a HotPath)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    paths.get(at).map(|path| (at, path))
}

fn count_one(name: &str, at: usize, times: u32) -> io::Result<u64> {
    let file = env::temp_dir().join(format!("tower-keep-instructions-{}-{at}", process::id()));
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", WITHIN])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(env::current_exe()?)
        .args(["--go", name])
        .stdin(Stdio::null())
        .output()?;
    let profile = fs::read_to_string(&file);
    let _ = fs::remove_file(&file);
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let profile = profile?;
    let all = profile.lines().find_map(|line| line.strip_prefix("totals:"));
    let all: Option<u64> = all.and_then(|all| all.trim().parse().ok());
    match all {
        // Else the function was inlined, or has another name.
        Some(all) if all > u64::from(times) => Ok(all / u64::from(times)),
        _ => Err(io::Error::other("callgrind has counted nothing")),
    }
}

/// All that has a say in the counts besides the code.
pub(crate) fn made_by() -> io::Result<String> {
    let rustc = first_line("rustc", &["--version"])?;
    let valgrind = first_line("valgrind", &["--version"])?;
    let libc = first_line("getconf", &["GNU_LIBC_VERSION"])?;
    Ok(format!("{rustc}, {valgrind}, {libc}, {}", processor()))
}

fn first_line(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// The instructions that a processor has decide which ways of searching, copying and hashing are used,
/// as far as valgrind knows them.
#[cfg(target_arch = "x86_64")]
fn processor() -> &'static str {
    if std::is_x86_feature_detected!("avx2") { "x86_64 with AVX2" } else { "x86_64 without AVX2" }
}

#[cfg(not(target_arch = "x86_64"))]
fn processor() -> &'static str {
    env::consts::ARCH
}
