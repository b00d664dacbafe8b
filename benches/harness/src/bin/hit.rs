//! One of those who take part in `in-process`, alone, for a profiler: `hit KIND ENTRIES REQUESTS`.

use harness::BoxError;
use harness::contenders::Page;
use harness::workloads::in_process::Kind;
use tokio::runtime::Builder;

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, entries, requests] = arguments.as_slice() else {
        let words: Vec<_> = Kind::ALL.iter().map(|kind| kind.word()).collect();
        return Err(format!("hit {} ENTRIES REQUESTS", words.join("|")).into());
    };
    let kind = Kind::ALL.into_iter().find(|it| it.word() == kind).ok_or("there is no such kind")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut way = kind.way(&runtime, entries.parse()?, Page::of(1024))?;
    let _entered = runtime.enter();
    let mut left: u32 = requests.parse()?;
    let requests = f64::from(left);
    let mut took = 0.0;
    while left > 0 {
        let batch = left.min(1_000);
        took += way.time(batch).as_secs_f64();
        left -= batch;
    }
    println!("{:.1} ns a request", took * 1e9 / requests);
    Ok(())
}
