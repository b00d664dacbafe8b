use super::*;
use crate::budget::{Budget, Reservation};
use futures_util::FutureExt;
use tokio::time::timeout;

const LAG: Duration = Duration::from_secs(1);

fn body(limit: u64) -> SharedBody {
    SharedBody::new(Budget::new(1 << 20).reservation(), limit, None)
}

async fn next(reader: &mut Reader) -> Option<Bytes> {
    poll_fn(|cx| reader.poll_frame(cx)).await.map(|frame| frame.unwrap().into_data().unwrap())
}

#[tokio::test]
async fn every_reader_gets_everything_from_the_first_byte() {
    let body = body(100);
    let mut early = body.reader().unwrap();
    assert!(body.write("ab".into(), LAG).await);
    assert_eq!(next(&mut early).await.unwrap(), "ab");
    let mut late = body.reader().unwrap();
    body.write("cd".into(), LAG).await;
    body.complete(None);
    for expected in [Some("ab"), Some("cd"), None] {
        assert_eq!(next(&mut late).await.as_deref(), expected.map(str::as_bytes));
    }
    assert_eq!(next(&mut early).await.unwrap(), "cd");
    assert!(early.is_end_stream());
    assert_eq!(body.seal().unwrap(), "abcd");
}

#[tokio::test]
async fn past_its_bound_it_waits_for_its_readers_and_cannot_be_joined() {
    let body = body(100);
    let mut reader = body.reader().unwrap();
    body.write(vec![0; 90].into(), LAG).await;
    assert!(!body.write(vec![1; WINDOW].into(), LAG).await, "no longer kept");
    assert!(body.reader().is_none());
    let chunk = Bytes::from(vec![2; 10]);
    assert!(body.write(chunk.clone(), LAG).now_or_never().is_none(), "the window is full");
    next(&mut reader).await;
    next(&mut reader).await;
    body.write(chunk, LAG).now_or_never().unwrap();
    assert!(body.state().buffered <= 10);
    assert!(body.seal().is_none());
}

#[tokio::test]
async fn a_reader_that_leaves_frees_the_writer() {
    let body = body(10);
    let slow = body.reader().unwrap();
    body.write(vec![0; WINDOW + 11].into(), LAG).await;
    let writer = tokio::spawn({
        let body = body.clone();
        async move { body.write("more".into(), LAG).await }
    });
    tokio::task::yield_now().await;
    assert!(!writer.is_finished());
    drop(slow);
    writer.await.unwrap();
    body.abandoned().await;
}

#[tokio::test]
async fn a_failure_reaches_every_reader_after_the_data() {
    let body = body(100);
    let mut reader = body.reader().unwrap();
    body.write("ab".into(), LAG).await;
    body.fail("connection reset".into());
    assert_eq!(next(&mut reader).await.unwrap(), "ab");
    let error = poll_fn(|cx| reader.poll_frame(cx)).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("connection reset"));
    assert!(poll_fn(|cx| reader.poll_frame(cx)).await.is_none());
}

#[tokio::test]
async fn a_body_of_another_length_than_promised_is_not_whole() {
    let body = SharedBody::new(Budget::new(100).reservation(), 100, Some(5));
    body.write("abc".into(), LAG).await;
    body.complete(None);
    assert!(body.seal().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_is_cut_off_only_when_others_wait_for_it() {
    let body = body(10);
    let (mut stopped, mut reading) = (body.reader().unwrap(), body.reader().unwrap());
    body.write(vec![0; WINDOW + 11].into(), LAG).await;
    let more = Bytes::from_static(b"more");
    let waiting = timeout(LAG * 3, body.write(more.clone(), LAG)).await;
    assert!(waiting.is_err(), "both are slow: nobody is kept waiting by the other");
    next(&mut reading).await;
    body.write(more, LAG).await;
    assert_eq!(next(&mut reading).await.unwrap(), "more");
    let error = poll_fn(|cx| stopped.poll_frame(cx)).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("not read for too long"), "{error}");
    assert!(poll_fn(|cx| stopped.poll_frame(cx)).await.is_none());
}

#[tokio::test]
async fn what_is_held_is_charged_and_what_is_stored_or_dropped_is_not() {
    let budget = Budget::new(1000);
    let left_of = |mut all: Reservation| (0..=1000).rev().find(|bytes| all.grow(*bytes)).unwrap();
    let left = || left_of(budget.reservation());
    let left_to_pass = || {
        let mut passing = budget.reservation();
        passing.pass();
        left_of(passing)
    };
    let body = SharedBody::new(budget.reservation(), 500, None);
    let mut slow = body.reader().unwrap();
    body.write(vec![1; 400].into(), LAG).await;
    body.write("x".into(), LAG).await;
    assert_eq!(left(), 1000 - 400 - MIN_CHARGE);
    assert!(!body.write(vec![2; 200].into(), LAG).await, "beyond the limit");
    assert_eq!(left_to_pass(), 1000 - 400 - MIN_CHARGE - 200, "the reader still needs it all");
    assert_eq!(left(), 1000, "which keeps nothing from being stored");
    next(&mut slow).await;
    assert_eq!(left_to_pass(), 1000 - MIN_CHARGE - 200);
    drop(slow);
    assert_eq!(left_to_pass(), 1000);

    let body = SharedBody::new(budget.reservation(), 500, None);
    let mut slow = body.reader().unwrap();
    body.write("abc".into(), LAG).await;
    body.write("de".into(), LAG).await;
    assert_eq!(next(&mut slow).await.unwrap(), "abc");
    body.complete(None);
    assert_eq!(body.seal().unwrap(), "abcde");
    assert!(left() < 1000, "it isn't stored yet");
    body.release();
    assert_eq!(left(), 1000);
    assert_eq!(next(&mut slow).await.unwrap(), "de");
    assert_eq!(next(&mut slow).await, None);
    assert_eq!(next(&mut body.reader().unwrap()).await.unwrap(), "abcde");
}

#[tokio::test]
async fn without_budget_a_body_goes_on_chunk_by_chunk() {
    let body = SharedBody::new(Budget::new(0).reservation(), 100, None);
    let mut reader = body.reader().unwrap();
    assert!(!body.write("a".into(), LAG).await);
    assert!(body.write("b".into(), LAG).now_or_never().is_none());
    assert_eq!(next(&mut reader).await.unwrap(), "a");
    body.write("b".into(), LAG).now_or_never().unwrap();
    assert_eq!(next(&mut reader).await.unwrap(), "b");
}
