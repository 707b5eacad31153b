//! Which of librdkafka's options a job may set, and which something else decides.

/// Options that a typed one decides, by the name of that one in a job file.
const DECIDED: [(&str, &str); 9] = [
    ("bootstrap.servers", "bootstrap_servers"),
    ("metadata.broker.list", "bootstrap_servers"),
    ("compression.type", "topics.compression"),
    ("compression.codec", "topics.compression"),
    ("message.timeout.ms", "limits.broker_timeout_ms"),
    ("delivery.timeout.ms", "limits.broker_timeout_ms"),
    ("queue.buffering.max.kbytes", "limits.publish_queue_mib"),
    ("queue.buffering.max.messages", "limits.publish_queue_mib"),
    ("session.timeout.ms", "limits.session_timeout_ms"),
];

/// Options that exactness rests on.
const CLOSED: [&str; 16] = [
    "transactional.id",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "enable.gapless.guarantee",
    "partitioner",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "isolation.level",
    "check.crcs",
    "enable.partition.eof",
    "group.id",
    "group.protocol",
    "partition.assignment.strategy",
    "delivery.report.only.error",
];

/// Why a job may not set an option of librdkafka, if it may not. All others pass through.
pub fn refusal(option: &str) -> Option<String> {
    if let Some((_, typed)) = DECIDED.iter().find(|(name, _)| *name == option) {
        return Some(format!("is what {typed} decides: set that"));
    }
    CLOSED
        .contains(&option)
        .then(|| "can't be chosen: that no row is lost or done twice unseen rests on it".into())
}
