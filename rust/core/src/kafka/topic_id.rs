//! A topic's id, by librdkafka's DescribeTopics: the safe API doesn't have the call.
//!
//! The id tells a recreated topic from the one a job began with, though the name is the same.

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

/// What a broker says of a topic.
pub struct Described {
    /// The topic's id, in librdkafka's base64 form.
    pub id: String,
    pub partitions: u32,
    /// Replicas of the partition that has the fewest.
    pub replication: u32,
}

/// What a topic is, or `None` if the broker knows no such topic.
pub fn describe<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<Described>, String> {
    let name = CString::new(topic).map_err(|e| e.to_string())?;
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let rk = client.native_ptr();
    let mut names = [name.as_ptr()];
    // SAFETY: `rk` lives as long as `client`; every object made here is freed by its own destructor through `Owned`;
    // pointers read from the event are used only while the event lives.
    unsafe {
        let queue = Owned(sys::rd_kafka_queue_new(rk), sys::rd_kafka_queue_destroy);
        let options = Owned(
            sys::rd_kafka_AdminOptions_new(
                rk,
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            ),
            sys::rd_kafka_AdminOptions_destroy,
        );
        let mut text = [0; 512];
        sys::rd_kafka_AdminOptions_set_request_timeout(
            options.0,
            timeout_ms,
            text.as_mut_ptr(),
            text.len(),
        );
        let topics = Owned(
            sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            sys::rd_kafka_TopicCollection_destroy,
        );
        sys::rd_kafka_DescribeTopics(rk, topics.0, options.0, queue.0);
        let event = Owned(
            sys::rd_kafka_queue_poll(queue.0, timeout_ms),
            sys::rd_kafka_event_destroy,
        );
        if event.0.is_null() {
            return Err(format!("no answer within {timeout_ms} ms"));
        }
        let code = sys::rd_kafka_event_error(event.0);
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(string(sys::rd_kafka_event_error_string(event.0)));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err("the answer is not one to DescribeTopics".into());
        }
        let mut count = 0;
        let described = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if count != 1 || described.is_null() {
            return Err(format!("the answer describes {count} topics, expected 1"));
        }
        let topic = *described;
        let error = sys::rd_kafka_TopicDescription_error(topic);
        match sys::rd_kafka_error_code(error) {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => return Ok(None),
            _ => return Err(string(sys::rd_kafka_error_string(error))),
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let mut partitions = 0;
        let all = sys::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
        let replicas = (0..partitions).map(|i| {
            let mut replicas = 0;
            sys::rd_kafka_TopicPartitionInfo_replicas(*all.add(i), &mut replicas);
            replicas
        });
        Ok(Some(Described {
            id: string(sys::rd_kafka_Uuid_base64str(id)),
            replication: u32::try_from(replicas.min().unwrap_or(0)).map_err(|e| e.to_string())?,
            partitions: u32::try_from(partitions).map_err(|e| e.to_string())?,
        }))
    }
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
