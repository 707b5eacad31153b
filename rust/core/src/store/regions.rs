//! Regions and reservations. Capacity is reserved in one transaction, never read and then taken.

use serde::Serialize;
use sqlx::Row;

use super::jobs::child;
use super::{Child, Store, to_i64, to_u64};
use crate::error::Result;
use crate::identity::JobId;

/// A region and its load, in rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegionRow {
    pub name: String,
    pub cap_max: u64,
    pub active: u64,
    pub queued: u64,
}

impl RegionRow {
    /// `cap_max − (active + queued)`, in rows; never negative.
    pub fn headroom(&self) -> u64 {
        self.cap_max.saturating_sub(self.active + self.queued)
    }
}

/// A child job's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    pub child: String,
    pub region: String,
    pub rows: u64,
    pub token: i64,
}

impl Store {
    /// Notes a region or renews its address and cap. A cap below what is reserved holds new placements back.
    pub async fn put_region(
        &self,
        name: &str,
        bootstrap_servers: &str,
        cap_max: u64,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO region (name, bootstrap_servers, cap_max) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET bootstrap_servers = excluded.bootstrap_servers, cap_max = excluded.cap_max",
        )
        .bind(name)
        .bind(bootstrap_servers)
        .bind(to_i64(cap_max))
        .execute(&self.pool)
        .await
        .map_err(self.failed("note the region"))?;
        Ok(())
    }

    /// All regions with what is active and queued in them, over all jobs.
    pub async fn regions(&self) -> Result<Vec<RegionRow>> {
        let rows = sqlx::query(
            "SELECT r.name, r.cap_max,
                    COALESCE(SUM(CASE WHEN c.state = 'active' THEN c.rows END), 0) AS active,
                    COALESCE(SUM(CASE WHEN c.state = 'queued' THEN c.rows END), 0) AS queued
             FROM region r LEFT JOIN child c ON c.region = r.name AND c.state IN ('queued', 'active')
             GROUP BY r.name, r.cap_max ORDER BY r.name",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(self.failed("read the regions"))?;
        Ok(rows
            .iter()
            .map(|row| RegionRow {
                name: row.get("name"),
                cap_max: to_u64(row.get("cap_max")),
                active: to_u64(row.get("active")),
                queued: to_u64(row.get("queued")),
            })
            .collect())
    }

    /// Reserves room for one waiting child in the region that `choose` picks among those of `names`, with a new
    /// fencing token. `choose` sees the regions as they are inside the transaction. Gives the child as it now is.
    pub async fn reserve(
        &self,
        job: JobId,
        name: &str,
        names: &[String],
        choose: impl FnOnce(&[RegionRow], u64) -> Option<String>,
    ) -> Result<Option<Child>> {
        let what = "reserve capacity";
        let mut tx = self.begin(what).await?;
        let now = sqlx::query(
            "SELECT name, rows, state, region, token FROM child WHERE job = $1 AND name = $2",
        )
        .bind(job.to_string())
        .bind(name)
        .fetch_optional(&mut *tx)
        .await
        .map_err(self.failed(what))?;
        let Some(now) = now.as_ref().map(child) else {
            return Ok(None);
        };
        if now.region.is_some() {
            return Ok(Some(now));
        }
        let rows = sqlx::query(
            "SELECT r.name, r.cap_max, r.reserved,
                    COALESCE((SELECT SUM(c.rows) FROM child c WHERE c.region = r.name AND c.state = 'active'), 0) AS active
             FROM region r ORDER BY r.name",
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(self.failed(what))?;
        let regions: Vec<RegionRow> = rows
            .iter()
            .map(|row| {
                let active = to_u64(row.get("active"));
                RegionRow {
                    name: row.get("name"),
                    cap_max: to_u64(row.get("cap_max")),
                    active,
                    queued: to_u64(row.get("reserved")).saturating_sub(active),
                }
            })
            .filter(|r| names.contains(&r.name))
            .collect();
        let Some(region) = choose(&regions, now.rows) else {
            return Ok(Some(now));
        };
        let taken = sqlx::query(
            "UPDATE region SET reserved = reserved + $2 WHERE name = $1 AND reserved + $2 <= cap_max",
        )
        .bind(&region)
        .bind(to_i64(now.rows))
        .execute(&mut *tx)
        .await
        .map_err(self.failed(what))?;
        if taken.rows_affected() == 0 {
            return Ok(Some(now));
        }
        let token: i64 = sqlx::query_scalar(
            "INSERT INTO counter (name, value) VALUES ('token', 1)
             ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(self.failed(what))?;
        let placed = sqlx::query(
            "UPDATE child SET state = 'queued', region = $3, token = $4 WHERE job = $1 AND name = $2
             RETURNING name, rows, state, region, token",
        )
        .bind(job.to_string())
        .bind(name)
        .bind(&region)
        .bind(token)
        .fetch_one(&mut *tx)
        .await
        .map_err(self.failed(what))?;
        let placed = child(&placed);
        tx.commit().await.map_err(self.failed(what))?;
        Ok(Some(placed))
    }

    /// A queued child begins: its rows count as active from now on.
    pub async fn activate(&self, job: JobId, name: &str) -> Result<()> {
        sqlx::query(
            "UPDATE child SET state = 'active' WHERE job = $1 AND name = $2 AND state = 'queued'",
        )
        .bind(job.to_string())
        .bind(name)
        .execute(&self.pool)
        .await
        .map_err(self.failed("begin a child job"))?;
        Ok(())
    }

    /// A child has ended: its capacity is given back, once.
    pub async fn release(&self, job: JobId, name: &str) -> Result<()> {
        let what = "release capacity";
        let mut tx = self.begin(what).await?;
        let ended = sqlx::query(
            "UPDATE child SET state = 'done' WHERE job = $1 AND name = $2 AND state IN ('queued', 'active')
             RETURNING rows, region",
        )
        .bind(job.to_string())
        .bind(name)
        .fetch_optional(&mut *tx)
        .await
        .map_err(self.failed(what))?;
        if let Some(ended) = ended {
            sqlx::query("UPDATE region SET reserved = reserved - $2 WHERE name = $1")
                .bind(ended.get::<Option<String>, _>("region"))
                .bind(ended.get::<i64, _>("rows"))
                .execute(&mut *tx)
                .await
                .map_err(self.failed(what))?;
        }
        tx.commit().await.map_err(self.failed(what))
    }
}
