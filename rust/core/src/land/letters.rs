//! Egress records that can't be landed, on their way to the dead-letter topic: as they came, with the reason.

use std::collections::{BTreeMap, HashSet};

use kappaflow_avro::framing::VALUE_HEADER;

use super::Plan;
use super::families::At;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::identity::{EgressIdentity, HEADER};
use crate::kafka::{Acknowledged, Outgoing, ProduceOptions, header, read_ranges, since_start};
use crate::verdict::{
    ANSWER_HEADER, LEFT_OUT_HEADER, ORIGIN_HEADER, REASON_HEADER, STAGE_HEADER, STAGE_LAND,
    header_text,
};

/// Memory for letters on their way, in MiB.
const QUEUE_MIB: u32 = 32;
/// Room for the headers of a record: names, identity, reason, origin.
const HEADER_BYTES: usize = 4 * 1024;

/// An egress record that can't be landed.
pub struct Bad<'a> {
    pub at: At,
    /// Whose answer it says to be, if it is one of the job's rows.
    pub id: Option<EgressIdentity>,
    pub reason: &'a str,
    pub schema_header: Option<&'a [u8]>,
    pub payload: &'a [u8],
}

/// Sends them. A record that an earlier lander has sent, before it died, isn't sent again.
pub struct Letters<'a> {
    plan: &'a Plan,
    sender: Acknowledged,
    /// By whom they say to be from, once the first had to be sent.
    there: Option<HashSet<String>>,
    /// Letters by reason, those there before included.
    reasons: BTreeMap<String, u64>,
    /// Sent by this drain, or found there.
    pub count: u64,
}

impl<'a> Letters<'a> {
    /// No broker is contacted yet.
    pub fn new(plan: &'a Plan, ctx: &Context) -> Self {
        let options = ProduceOptions::new(
            &plan.dead_letter.name,
            &plan.dead_letter_options,
            &plan.compression,
            QUEUE_MIB,
            plan.cluster.timeout(),
        );
        Self {
            plan,
            sender: Acknowledged::new(plan.cluster.clone(), options, super::STAGE, ctx.clone()),
            there: None,
            reasons: BTreeMap::new(),
            count: 0,
        }
    }

    /// Sends one, unless it is there.
    ///
    /// # Errors
    /// [`Error::TooManyDeadLetters`]; [`Error::Topic`] if it was not taken; [`Error::Kafka`]; [`Error::Interrupted`].
    pub fn send(&mut self, bad: &Bad<'_>) -> Result<()> {
        let origin = format!(
            "{}/{}/{}",
            self.plan.topic.name, bad.at.partition, bad.at.offset
        );
        let there = match self.there.take() {
            Some(there) => there,
            None => self.read_back()?,
        };
        let known = there.contains(&origin);
        self.there = Some(there);
        self.count += 1;
        if known {
            return Ok(());
        }
        self.within_limit(bad.reason, &origin)?;
        let identity = bad.id.map(|id| id.input.to_bytes());
        let answer = bad
            .id
            .map(|id| format!("{}/{}/{}", id.attempt, id.child, id.of));
        let mut headers = vec![
            (STAGE_HEADER, STAGE_LAND.as_bytes()),
            (REASON_HEADER, header_text(bad.reason)),
            (ORIGIN_HEADER, origin.as_bytes()),
        ];
        headers.extend(identity.as_ref().map(|id| (HEADER, &id[..])));
        headers.extend(answer.as_ref().map(|a| (ANSWER_HEADER, a.as_bytes())));
        headers.extend(bad.schema_header.map(|schema| (VALUE_HEADER, schema)));
        let room = self.sender.largest_record().saturating_sub(HEADER_BYTES);
        let fits = bad.payload.len() <= room;
        let left_out = format!("{} bytes", bad.payload.len());
        if !fits {
            headers.push((LEFT_OUT_HEADER, left_out.as_bytes()));
        }
        let partitions = self.plan.dead_letter.partitions;
        self.sender.send(&Outgoing {
            partition: bad
                .id
                .map_or(bad.at.partition % partitions.max(1) as i32, |id| {
                    id.input.partition(partitions)
                }),
            key: None,
            headers: &headers,
            payload: fits.then_some(bad.payload),
        })
    }

    /// Waits until the broker has all that was sent: the table may pass them then.
    ///
    /// # Errors
    /// [`Error::Topic`] if one was not acknowledged; [`Error::Interrupted`].
    pub fn settle(&mut self) -> Result<()> {
        self.sender.settle()
    }

    fn within_limit(&mut self, reason: &str, origin: &str) -> Result<()> {
        *self.reasons.entry(kind(reason)).or_default() += 1;
        let letters: u64 = self.reasons.values().sum();
        if letters <= self.plan.max_dead_letters {
            return Ok(());
        }
        let mut reasons: Vec<(&String, &u64)> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let summary: Vec<String> = reasons
            .iter()
            .map(|(reason, count)| format!("{count} × {reason}"))
            .collect();
        Err(Error::TooManyDeadLetters {
            limit: self.plan.max_dead_letters,
            summary: summary.join("; "),
            topic: self.plan.dead_letter.name.clone(),
            so_far: format!(
                ", but the last is not, which is {origin}: {reason}; what could be landed before the last commit is landed"
            ),
        })
    }

    fn read_back(&mut self) -> Result<HashSet<String>> {
        let (cluster, topic) = (&self.plan.cluster, &self.plan.dead_letter);
        let ranges = since_start(cluster, topic)?;
        let mut there = HashSet::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ctx = self.sender.ctx.clone();
        read_ranges(cluster, &topic.name, &ranges, super::STAGE, &ctx, |m| {
            if header(m, STAGE_HEADER) == Some(STAGE_LAND.as_bytes()) {
                let reason = header(m, REASON_HEADER).map(text).unwrap_or_default();
                if there.insert(header(m, ORIGIN_HEADER).map(text).unwrap_or_default()) {
                    *self.reasons.entry(kind(&reason)).or_default() += 1;
                }
            }
            Ok(())
        })?;
        Ok(there)
    }
}

/// A reason that can be counted: what is before the first colon.
fn kind(reason: &str) -> String {
    reason.split(':').next().unwrap_or_default().to_owned()
}
