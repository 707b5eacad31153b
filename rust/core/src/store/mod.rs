//! The one SQL database: jobs, splits, ledgers, regions, reservations. SQLite in WAL mode; every write transaction
//! starts with `BEGIN IMMEDIATE`, since an upgrade from a read would fail with "busy" whatever the timeout.

mod budgets;
mod fleets;
mod jobs;
mod ledger;
mod pins;
mod regions;
mod splits;

use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

use crate::error::{Error, Result};

pub use fleets::{FleetMember, JobFigures, Submission, SubmissionState};
pub use jobs::{Child, ChildState, Event, JobRow, Role, TopicRow};
pub use ledger::{RejectCount, Stage};
pub use regions::{Placement, RegionRow};
pub use splits::{SplitRow, SplitState};

static MIGRATOR: Migrator = sqlx::migrate!();
/// How long one waits for another that writes.
const BUSY: Duration = Duration::from_secs(60);

/// An open store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: SqlitePool,
    url: String,
    /// The same, wherever it is used.
    place: String,
}

impl Store {
    /// Opens `sqlite:PATH` (relative to `base`), making the file and its tables if they are not there.
    ///
    /// # Errors
    /// [`Error::Store`] if the URL is of another form, the file can't be opened, or a newer build has written it.
    pub async fn open(url: &str, base: &Path) -> Result<Self> {
        let error = |what: &str, reason: String| Error::Store {
            url: url.to_owned(),
            what: what.to_owned(),
            reason,
        };
        let Some(path) = url.strip_prefix("sqlite:") else {
            return Err(error("open", "expected sqlite:PATH".into()));
        };
        let path = base.join(path);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(Error::io("make the directory", dir))?;
        }
        let options = SqliteConnectOptions::from_str("sqlite:")
            .map_err(|e| error("open", e.to_string()))?
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A receipt that a crash of the machine could take back would be a lie.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let pool = connect(options)
            .await
            .map_err(|e| error("open", e.to_string()))?;
        let store = Self {
            pool,
            url: url.to_owned(),
            place: format!("sqlite:{}", path.display()),
        };
        // Of several that open a new store at once, one makes the tables and the others wait for it.
        let mut tx = store.begin("upgrade").await?;
        let applied = MIGRATOR.run_direct(None, &mut *tx, false).await;
        applied.map_err(|e| match e {
            MigrateError::VersionMissing(version) => error(
                "open",
                format!(
                    "was written by a newer KappaFlow (store version {version}); upgrade this one"
                ),
            ),
            other => error("upgrade", other.to_string()),
        })?;
        tx.commit().await.map_err(store.failed("upgrade"))?;
        Ok(store)
    }

    /// The URL by which it is opened from any directory.
    pub fn place(&self) -> &str {
        &self.place
    }

    async fn begin(&self, what: &str) -> Result<Transaction<'_, Sqlite>> {
        self.pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(self.failed(what))
    }

    fn failed(&self, what: &str) -> impl FnOnce(sqlx::Error) -> Error {
        let (url, what) = (self.url.clone(), what.to_owned());
        move |e| Error::Store {
            url,
            what,
            reason: e.to_string(),
        }
    }

    fn damaged(&self, what: &str, reason: impl ToString) -> Error {
        Error::Store {
            url: self.url.clone(),
            what: what.to_owned(),
            reason: format!("a stored value can't be read: {}", reason.to_string()),
        }
    }

    /// The next value of a counter that only grows, durable before it is returned.
    pub async fn next(&self, counter: &str) -> Result<i64> {
        sqlx::query_scalar(
            "INSERT INTO counter (name, value) VALUES ($1, 1)
             ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
        )
        .bind(counter)
        .fetch_one(&self.pool)
        .await
        .map_err(self.failed("count"))
    }
}

/// Connects, also where others make the same file at this moment: of two connections that switch it to WAL at once
/// SQLite refuses one as busy without waiting, since both read and neither could write.
async fn connect(options: SqliteConnectOptions) -> sqlx::Result<SqlitePool> {
    let begun = Instant::now();
    loop {
        let pool = SqlitePoolOptions::new().max_connections(2);
        match pool.connect_with(options.clone()).await {
            Err(e) if is_busy(&e) && begun.elapsed() < BUSY => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            connected => return connected,
        }
    }
}

/// Whether a code of SQLite, whose lowest byte is what its extended codes have in common, says `SQLITE_BUSY`.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    code.and_then(|code| code.parse::<u32>().ok())
        .is_some_and(|code| code & 0xff == 5)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// A count as SQLite keeps it. Counts of rows are far below 2⁶³.
pub(crate) fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn to_u64(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
