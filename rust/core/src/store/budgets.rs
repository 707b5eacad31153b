//! Workers of one service, wherever and for whichever job they run: who is there, and wants calls.

use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, now_ms, to_i64, to_u64};
use crate::error::Result;
use crate::work::budget::Member;

impl Store {
    /// Notes a worker's beat; its own entry, and the other workers'. Those that are gone are forgotten.
    ///
    /// # Errors
    /// [`crate::Error::Store`].
    pub async fn beat(
        &self,
        budget: &str,
        worker: i64,
        wants: bool,
        max_calls_per_s: Option<f64>,
    ) -> Result<(Member, Vec<Member>)> {
        let what = "share a budget";
        let mut tx = self.begin(what).await?;
        let now = Duration::from_millis(to_u64(now_ms()));
        let rows = sqlx::query(
            "SELECT worker, seen_ms, wants_since_ms, max_calls_per_s FROM budget_member WHERE budget = $1",
        )
        .bind(budget)
        .fetch_all(&mut *tx)
        .await
        .map_err(self.failed(what))?;
        let (mut before, mut others) = (None, Vec::new());
        for row in rows {
            let (number, member) = (row.get::<i64, _>("worker"), member(&row));
            if number == worker {
                before = Some(member);
            } else if member.is_gone(now) {
                sqlx::query("DELETE FROM budget_member WHERE budget = $1 AND worker = $2")
                    .bind(budget)
                    .bind(number)
                    .execute(&mut *tx)
                    .await
                    .map_err(self.failed(what))?;
            } else {
                others.push(member);
            }
        }
        let me = Member::beat(before, now, wants, max_calls_per_s);
        sqlx::query(
            "INSERT INTO budget_member VALUES ($1, $2, $3, $4, $5) ON CONFLICT (budget, worker) DO UPDATE
             SET seen_ms = excluded.seen_ms, wants_since_ms = excluded.wants_since_ms,
                 max_calls_per_s = excluded.max_calls_per_s",
        )
        .bind(budget)
        .bind(worker)
        .bind(ms(me.seen))
        .bind(me.wants_since.map(ms))
        .bind(me.max_calls_per_s)
        .execute(&mut *tx)
        .await
        .map_err(self.failed(what))?;
        tx.commit().await.map_err(self.failed(what))?;
        Ok((me, others))
    }

    /// A worker ends, and leaves its share to the others.
    ///
    /// # Errors
    /// [`crate::Error::Store`].
    pub async fn leave_budget(&self, budget: &str, worker: i64) -> Result<()> {
        sqlx::query("DELETE FROM budget_member WHERE budget = $1 AND worker = $2")
            .bind(budget)
            .bind(worker)
            .execute(&self.pool)
            .await
            .map_err(self.failed("leave a budget"))?;
        Ok(())
    }
}

fn member(row: &SqliteRow) -> Member {
    let time = |ms: i64| Duration::from_millis(to_u64(ms));
    Member {
        seen: time(row.get("seen_ms")),
        wants_since: row.get::<Option<i64>, _>("wants_since_ms").map(time),
        max_calls_per_s: row.get("max_calls_per_s"),
    }
}

fn ms(time: Duration) -> i64 {
    to_i64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
