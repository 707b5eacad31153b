//! What brokers say of a topic or a group: the safe API of librdkafka doesn't have these calls.
//!
//! A topic's id tells a recreated topic from the one a job began with, though the name is the same.

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka_sys as sys;

/// Frees with the function it was made with when it goes out of scope.
pub(super) struct Owned<T>(pub(super) *mut T, pub(super) unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the pointer came from the constructor that pairs with this destructor, and is freed once.
            unsafe { (self.1)(self.0) }
        }
    }
}

/// Why there is no description.
pub enum Refused {
    /// No broker has answered.
    NoAnswer(String),
    /// The group's coordinator is not there yet, as on a cluster that has just begun.
    NoCoordinator(String),
    /// What a broker says.
    Told(String),
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self::Told(reason)
    }
}

impl Refused {
    fn of(code: sys::rd_kafka_resp_err_t, reason: String) -> Self {
        use sys::rd_kafka_resp_err_t as e;

        match code {
            e::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
            | e::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
            | e::RD_KAFKA_RESP_ERR_NOT_COORDINATOR
            | e::RD_KAFKA_RESP_ERR__WAIT_COORD => Self::NoCoordinator(reason),
            e::RD_KAFKA_RESP_ERR__TIMED_OUT
            | e::RD_KAFKA_RESP_ERR__TRANSPORT
            | e::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
            | e::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT => Self::NoAnswer(reason),
            _ => Self::Told(reason),
        }
    }

    pub fn reason(self) -> String {
        match self {
            Self::NoAnswer(reason) | Self::NoCoordinator(reason) | Self::Told(reason) => reason,
        }
    }
}

/// What a broker says of a topic.
pub struct Described {
    /// The topic's id, in librdkafka's base64 form.
    pub id: String,
    pub partitions: u32,
    /// Replicas of the partition that has the fewest.
    pub replication: u32,
    /// What this client may do with it, by Kafka's names (`READ`, `WRITE`).
    pub operations: Vec<String>,
}

/// What a topic is, or `None` if the broker knows no such topic.
pub fn topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<Described>, Refused> {
    let name = CString::new(topic).map_err(|e| e.to_string())?;
    let mut names = [name.as_ptr()];
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: the names live through the call, which copies them; pointers read from the event are used only while it
    // lives; a null result is looked for before it is read.
    unsafe {
        let event = ask(client, op, timeout, |rk, options, queue| {
            let topics = Owned(
                sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
                sys::rd_kafka_TopicCollection_destroy,
            );
            sys::rd_kafka_DescribeTopics(rk, topics.0, options, queue);
        })?;
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err("the answer is not one to DescribeTopics".to_owned().into());
        }
        let mut count = 0;
        let described = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let topic = only(described, count)?;
        let error = sys::rd_kafka_TopicDescription_error(topic);
        match sys::rd_kafka_error_code(error) {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => return Ok(None),
            code => {
                let reason = string(sys::rd_kafka_error_string(error));
                return Err(Refused::of(code, reason));
            }
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let mut partitions = 0;
        let all = sys::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
        let replicas = (0..partitions).map(|i| {
            let mut replicas = 0;
            sys::rd_kafka_TopicPartitionInfo_replicas(*all.add(i), &mut replicas);
            replicas
        });
        let mut allowed = 0;
        let operations = sys::rd_kafka_TopicDescription_authorized_operations(topic, &mut allowed);
        Ok(Some(Described {
            id: string(sys::rd_kafka_Uuid_base64str(id)),
            replication: u32::try_from(replicas.min().unwrap_or(0)).map_err(|e| e.to_string())?,
            partitions: u32::try_from(partitions).map_err(|e| e.to_string())?,
            operations: names_of(operations, allowed),
        }))
    }
}

/// What this client may do with a consumer group, which there need not be yet.
pub fn group<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    timeout: Duration,
) -> Result<Vec<String>, Refused> {
    let name = CString::new(group).map_err(|e| e.to_string())?;
    let mut names = [name.as_ptr()];
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    // SAFETY: as in `topic`.
    unsafe {
        let event = ask(client, op, timeout, |rk, options, queue| {
            sys::rd_kafka_DescribeConsumerGroups(
                rk,
                names.as_mut_ptr(),
                names.len(),
                options,
                queue,
            );
        })?;
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.0);
        if result.is_null() {
            return Err("the answer is not one to DescribeConsumerGroups"
                .to_owned()
                .into());
        }
        let mut count = 0;
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        let group = only(groups, count)?;
        let error = sys::rd_kafka_ConsumerGroupDescription_error(group);
        if !error.is_null() {
            let (code, reason) = (
                sys::rd_kafka_error_code(error),
                string(sys::rd_kafka_error_string(error)),
            );
            return Err(Refused::of(code, reason));
        }
        let mut allowed = 0;
        let operations =
            sys::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &mut allowed);
        Ok(names_of(operations, allowed))
    }
}

/// Asks the brokers, with the client's rights in the answer, and waits for it.
///
/// # Safety
/// `send` may use its pointers while it runs.
unsafe fn ask<C: ClientContext>(
    client: &Client<C>,
    op: sys::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(
        *mut sys::rd_kafka_t,
        *const sys::rd_kafka_AdminOptions_t,
        *mut sys::rd_kafka_queue_t,
    ),
) -> Result<Owned<sys::rd_kafka_event_t>, Refused> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let rk = client.native_ptr();
    // SAFETY: `rk` lives as long as `client`; every object made here is freed by its own destructor through `Owned`.
    unsafe {
        let queue = Owned(sys::rd_kafka_queue_new(rk), sys::rd_kafka_queue_destroy);
        let options = Owned(
            sys::rd_kafka_AdminOptions_new(rk, op),
            sys::rd_kafka_AdminOptions_destroy,
        );
        let mut text = [0; 512];
        sys::rd_kafka_AdminOptions_set_request_timeout(
            options.0,
            timeout_ms,
            text.as_mut_ptr(),
            text.len(),
        );
        let refused = Owned(
            sys::rd_kafka_AdminOptions_set_include_authorized_operations(options.0, 1),
            sys::rd_kafka_error_destroy,
        );
        if !refused.0.is_null() {
            return Err(string(sys::rd_kafka_error_string(refused.0)).into());
        }
        send(rk, options.0, queue.0);
        let event = Owned(
            sys::rd_kafka_queue_poll(queue.0, timeout_ms),
            sys::rd_kafka_event_destroy,
        );
        if event.0.is_null() {
            let reason = format!("no answer within {timeout_ms} ms");
            return Err(Refused::NoAnswer(reason));
        }
        let code = sys::rd_kafka_event_error(event.0);
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            let reason = string(sys::rd_kafka_event_error_string(event.0));
            return Err(Refused::of(code, reason));
        }
        Ok(event)
    }
}

/// The one description that was asked for.
///
/// # Safety
/// `all` is null or points to `count` of them.
unsafe fn only<T>(all: *mut *const T, count: usize) -> Result<*const T, String> {
    if count != 1 || all.is_null() {
        return Err(format!("the answer describes {count}, expected 1"));
    }
    // SAFETY: as the caller says, and there is one.
    Ok(unsafe { *all })
}

/// # Safety
/// `operations` is null or points to `count` of them.
unsafe fn names_of(operations: *const sys::rd_kafka_AclOperation_t, count: usize) -> Vec<String> {
    if operations.is_null() {
        return Vec::new();
    }
    // SAFETY: as the caller says; the names are static.
    unsafe { std::slice::from_raw_parts(operations, count) }
        .iter()
        .map(|operation| unsafe { string(sys::rd_kafka_AclOperation_name(*operation)) })
        .collect()
}

/// # Safety
/// `text` is null or a C string that lives through the call.
unsafe fn string(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}
