//! One attempt at a split, in a process of its own among others that may try the same.

use std::time::Duration;

use roaring::RoaringBitmap;
use serde::Serialize;
use tokio::runtime::Handle;

use super::books::LogBooks;
use super::log::Log;
use super::presence::{Presence, Waited};
use super::story::{Failure, What};
use super::task::{Order, Piece};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::publish::keeping::Turn;
use crate::publish::readback;
use crate::store::{Child, ChildState, SplitRow, SplitState};

/// What an attempt has come to. The receipt itself is in the receipts topic.
#[derive(Clone, Debug, Serialize)]
pub struct Attempted {
    pub split: u32,
    pub rows: u32,
    /// Rows that this attempt got acknowledged; 0 if another did it all.
    pub acknowledged: u64,
}

/// Publishes a split, unless it is closed, or another attempt closes it meanwhile. `host` says where this is, for people.
///
/// An attempt claims the split first. Who publishes it then gives way: it sends no more, waits for what it has in flight,
/// notes how far it is, and stands by until the split is closed, or until nobody is at it any more.
///
/// # Errors
/// Those of [`crate::publish::publish`]; [`Error::Source`] if the split's file can't be seen from here.
pub async fn publish_split(
    order: &str,
    piece: &str,
    host: &str,
    ctx: &Context,
) -> Result<Attempted> {
    let (order, piece) = (Order::parse(order)?, Piece::parse(piece)?);
    let (host, ctx, runtime) = (host.to_owned(), ctx.clone(), Handle::current());
    let cluster = order.cluster();
    tokio::task::spawn_blocking(move || attempt(&order, &piece, &host, &ctx, runtime))
        .await
        .map_err(|e| cluster.error("publish", format!("the publisher ended unexpectedly: {e}")))?
}

fn attempt(
    order: &Order,
    piece: &Piece,
    host: &str,
    ctx: &Context,
    runtime: Handle,
) -> Result<Attempted> {
    let (job, split, cluster) = (order.id()?, piece.split.split, order.cluster());
    readback::check_topic(&cluster, &order.receipts)?;
    let me = format!("{:x}-{:016x}", std::process::id(), fastrand::u64(..));
    let log = Log::new(cluster, order.receipts.clone(), job, me.clone(), runtime)?;
    let lease = Duration::from_millis(order.lease_ms);
    let presence = Presence::start(log, job, split, &me, lease)?;
    let mut result = Attempted {
        split,
        rows: piece.split.rows,
        acknowledged: 0,
    };
    let mut waited = presence.take(host, ctx)?;
    loop {
        waited = match waited {
            Waited::Closed => return Ok(result),
            Waited::Free => match presence.stand_by(ctx)? {
                Waited::Closed => return Ok(result),
                _ => presence.take(host, ctx)?,
            },
            Waited::Mine => match publish(order, piece, host, &presence, ctx) {
                Ok(acknowledged) => {
                    result.acknowledged = acknowledged;
                    return Ok(result);
                }
                // It was not the caller who asked to stop, but another attempt that claimed the split, or took it over.
                Err(Error::Interrupted { .. } | Error::NotReady { .. })
                    if !ctx.cancel.is_cancelled() && matches!(presence.turn()?, Turn::Stop) =>
                {
                    presence.leave(None)?;
                    Waited::Free
                }
                Err(error) => {
                    let failure = Failure {
                        kind: error.kind().to_owned(),
                        message: error.to_string(),
                        host: host.to_owned(),
                    };
                    // The error itself is what the caller has to see.
                    let _ = presence.leave(Some(failure));
                    return Err(error);
                }
            },
        };
    }
}

/// Publishes what is not acknowledged of the split; says how many rows that was.
fn publish(
    order: &Order,
    piece: &Piece,
    host: &str,
    presence: &Presence,
    ctx: &Context,
) -> Result<u64> {
    let run = order.run(piece, ctx)?;
    visible(&run.snapshot, host)?;
    let story = presence.story();
    let split = piece.split.split;
    let (state, noted, acknowledged) = match story.noted {
        Some((noted, rows)) => (SplitState::Open, noted, rows),
        None => (
            SplitState::Pending,
            Default::default(),
            RoaringBitmap::new(),
        ),
    };
    let row = SplitRow {
        split: piece.split.clone(),
        state,
        noted: noted.noted,
        acknowledged: 0,
        rejected: 0,
        ranges: noted.ranges,
    };
    let child = Child {
        name: piece.split.child.clone(),
        rows: u64::from(piece.split.rows),
        state: ChildState::Active,
        region: Some(order.topic.region.clone()),
        token: 0,
    };
    let mut books = LogBooks {
        presence,
        split,
        acknowledged,
    };
    let done = run.publish(&mut books, vec![(child, vec![row])])?;
    let acknowledged = done.acknowledged;
    presence
        .log()
        .append(split, What::Spent { done }, &RoaringBitmap::new())?;
    Ok(acknowledged)
}

/// That a file on disk is there, before anything else says that it is gone.
fn visible(snapshot: &crate::snapshot::Snapshot, host: &str) -> Result<()> {
    let path = snapshot.path(0);
    match path.to_string_lossy().contains("://") || path.exists() {
        true => Ok(()),
        false => Err(Error::Source {
            path,
            reason: format!(
                "is not there on {host}: splits are read where they are published, so the source has to be on a file \
                 system that all of these machines see, or in an object store"
            ),
        }),
    }
}
