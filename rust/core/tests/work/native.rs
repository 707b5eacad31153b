//! Services in Rust, in the program that works.

use std::sync::Mutex;

use arrow_array::UInt32Array;
use arrow_select::take::take_record_batch;
use kappaflow_core::work::native::{Answer, Answered, Call, Calling, NativeService, Natives};

use super::*;

/// Does as [`SERVICE`] does: of 100 ids each, 1 is filtered, 2 dead, 3 has two children, 4 is to be tried again once; id
/// 55 panics, always. And 66 says once that it failed, and 77 takes too long once: neighbours must not suffer.
#[derive(Default)]
struct Tested {
    calls: Arc<Mutex<Vec<Vec<i64>>>>,
}

impl NativeService for Tested {
    fn call(&self, call: Call) -> Calling<'_> {
        Box::pin(async move {
            let ids = call.records.column(0).as_primitive::<Int64Type>().values();
            self.calls.lock().unwrap().push(ids.to_vec());
            let (mut answers, mut values) = (Vec::new(), Vec::new());
            for (row, id) in ids.iter().copied().enumerate() {
                assert_eq!(i64::from(call.identities[row].seq), id);
                let first = call.attempts[row] == 1;
                if id == 55 {
                    panic!("no {id}");
                }
                if id == 66 && first {
                    return Err("the table is locked".into());
                }
                if id == 77 && first {
                    std::future::pending::<()>().await;
                }
                answers.push(match id % 100 {
                    1 => Answer::Filtered("Skip".into()),
                    2 => Answer::DeadLetter {
                        reason: "Broken".into(),
                        detail: "cannot be priced".into(),
                    },
                    3 => {
                        values.extend([id, -id]);
                        Answer::Rows(2)
                    }
                    4 if first => Answer::Retry {
                        reason: "Again".into(),
                        detail: "not now".into(),
                        after: None,
                    },
                    _ => {
                        values.push(id * 10);
                        Answer::Rows(1)
                    }
                });
            }
            let values: ArrayRef = Arc::new(Int64Array::from(values));
            let rows = RecordBatch::try_from_iter([("id", values)]).unwrap();
            Ok(Answered { answers, rows })
        })
    }
}

fn with(natives: Natives) -> WorkOptions {
    WorkOptions {
        natives,
        ..options()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_gets_its_verdict_from_rust() {
    let dir = tempfile::tempdir().unwrap();
    let service = "native = \"tested\"\nbatch_records = 50\nconcurrency = 4\ndeadline_ms = 1000";
    let (session, ctx) = dispatched(&job_of(&dir, "native", service)).await;
    publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    let tested = Tested::default();
    let calls = Arc::clone(&tested.calls);
    let natives = Natives::default().with("tested", tested);
    let s = work(&session, with(natives), &ctx).await.unwrap();
    assert_eq!(s.read, ROWS as u64, "{s:?}");
    assert_eq!((s.filtered["Skip"], s.dead_lettered["Broken"]), (40, 40));
    assert_eq!(s.dead_lettered["Panicked"], 1);
    assert_eq!(s.answered, s.read - 81);
    assert_eq!(check(&session, "Panicked: no 55").await, 0);

    let calls = calls.lock().unwrap();
    assert!(calls.iter().all(|ids| ids.len() <= 50));
    // In batches, and those that failed as a whole in ever smaller ones, down to the one.
    assert!(calls.iter().any(|ids| ids.len() == 50), "{calls:?}");
    assert!(calls.iter().any(|ids| *ids == [55]), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_there_or_answers_wrongly_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (session, ctx) = dispatched(&job_of(&dir, "missing", "native = \"tested\"")).await;
    publish(&session, PublishOptions::default(), &ctx)
        .await
        .unwrap();
    let other = Natives::default().with("other", Tested::default());
    for (natives, told) in [
        (Natives::default(), "this program has none"),
        (other, "this program has other"),
    ] {
        let error = work(&session, with(natives), &ctx).await.unwrap_err();
        assert!(matches!(error, Error::JobFile { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("service.native") && text.contains(told),
            "{text}"
        );
    }
    /// Forgets every second record.
    struct Halves;
    impl NativeService for Halves {
        fn call(&self, call: Call) -> Calling<'_> {
            Box::pin(async move {
                let every: UInt32Array = (0..call.records.num_rows() as u32).step_by(2).collect();
                let rows = take_record_batch(&call.records, &every).unwrap();
                let answers = vec![Answer::Rows(1); rows.num_rows()];
                Ok(Answered { answers, rows })
            })
        }
    }
    let natives = Natives::default().with("tested", Halves);
    let error = work(&session, with(natives), &ctx).await.unwrap_err();
    assert!(matches!(error, Error::Service { .. }), "{error}");
    assert!(error.to_string().contains("answers to "), "{error}");
    // Nothing of it was taken for done.
    let tested = Natives::default().with("tested", Tested::default());
    let s = work(&session, with(tested), &ctx).await.unwrap();
    assert_eq!(s.read, ROWS as u64, "{s:?}");
}
