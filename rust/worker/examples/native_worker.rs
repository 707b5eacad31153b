//! A worker with services in Rust in it, for benchmarks: `wait-MS` waits for so long with each record of a call at once,
//! and answers with its id and when its work began and ended, in ns.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use kappaflow_core::work::native::{Answer, Answered, Call, Calling, NativeService, Natives};

struct Wait {
    time: Duration,
    began: Instant,
}

impl NativeService for Wait {
    fn call(&self, call: Call) -> Calling<'_> {
        Box::pin(async move {
            let begun = self.now();
            if !self.time.is_zero() {
                tokio::time::sleep(self.time).await;
            }
            let rows = call.records.num_rows();
            let ids = call.records.column_by_name("id").ok_or("no column id")?;
            let times = |at| Arc::new(Int64Array::from_value(at, rows)) as ArrayRef;
            let columns = [
                ("id", Arc::clone(ids)),
                ("begun", times(begun)),
                ("ended", times(self.now())),
            ];
            Ok(Answered {
                answers: vec![Answer::Rows(1); rows],
                rows: RecordBatch::try_from_iter(columns).map_err(|e| e.to_string())?,
            })
        })
    }
}

impl Wait {
    fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }
}

fn main() -> ExitCode {
    let began = Instant::now();
    let natives = [0, 1, 5, 10, 100]
        .into_iter()
        .fold(Natives::default(), |natives, ms| {
            let time = Duration::from_millis(ms);
            natives.with(format!("wait-{ms}"), Wait { time, began })
        });
    kappaflow_worker::run(natives)
}
