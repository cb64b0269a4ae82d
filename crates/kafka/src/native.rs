//! What rdkafka 0.39 cannot do and librdkafka can: a topic's id, and headers whose names are not UTF-8.
//!
//! Owns: the crate's only unsafe code. Does not know: what an id or a header means.
//! Invariants: every object that librdkafka hands out is given back once, by a guard; nothing borrowed from one outlives it;
//! no foreign byte can panic (rdkafka's own `Headers::get` panics on a header name that is not UTF-8).

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr as Code;
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Duration;

/// The 128 bits that a topic gets when it is made; a topic made again under the same name has others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicId(pub(crate) u128);

/// Why there is no id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoId {
    /// The cluster has no topic of that name.
    Missing,
    /// It could not be asked, or did not answer in time.
    Failed(String),
}

/// Gives an object back to librdkafka.
struct Guard<T> {
    object: *mut T,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Guard<T> {
    /// # Safety
    /// `object` is null or a live object of librdkafka; `destroy` is the function that it has for objects of this kind, and nobody
    /// else calls it on this one.
    unsafe fn new(object: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self, NoId> {
        if object.is_null() { Err(NoId::Failed("librdkafka has no memory".to_owned())) } else { Ok(Self { object, destroy }) }
    }
}

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer is not null and came from librdkafka; `destroy` belongs to its kind and is called once, here.
        unsafe { (self.destroy)(self.object) }
    }
}

/// Asks the cluster for a topic's id (`DescribeTopics`). Blocks up to `timeout` and a second.
pub(crate) fn topic_id<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> Result<TopicId, NoId> {
    let name = CString::new(topic).map_err(|error| NoId::Failed(error.to_string()))?;
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX - 1_000);
    let mut names = [name.as_ptr()];
    let mut why = [0 as c_char; 256];
    let rk = client.native_ptr();
    // SAFETY: `rk` is a live client for as long as `client` is borrowed. Every object made here is owned by a guard, and
    // librdkafka copies the names and options that it is given before the calls return. `names` and `why` outlive the calls
    // that read and write them, and their lengths are passed. Each guard gets the function that destroys its kind.
    let event = unsafe {
        let queue = Guard::new(c::rd_kafka_queue_new(rk), c::rd_kafka_queue_destroy)?;
        let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = Guard::new(c::rd_kafka_AdminOptions_new(rk, operation), c::rd_kafka_AdminOptions_destroy)?;
        let set = c::rd_kafka_AdminOptions_set_request_timeout(options.object, timeout_ms, why.as_mut_ptr(), why.len());
        if set != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(NoId::Failed(format!("{set:?}")));
        }
        let topics = c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Guard::new(topics, c::rd_kafka_TopicCollection_destroy)?;
        c::rd_kafka_DescribeTopics(rk, topics.object, options.object, queue.object);
        let event = c::rd_kafka_queue_poll(queue.object, timeout_ms.saturating_add(1_000));
        if event.is_null() {
            return Err(NoId::Failed("no answer in time".to_owned()));
        }
        Guard::new(event, c::rd_kafka_event_destroy)?
    };
    id_of(&event)
}

fn id_of(event: &Guard<c::rd_kafka_event_t>) -> Result<TopicId, NoId> {
    // SAFETY: `event` is a live event. Its result is null unless it is one of DescribeTopics, which is checked; what is read
    // from it belongs to it and is not kept. An array of `count` descriptions is only read when `count` is not 0.
    unsafe {
        failed(c::rd_kafka_event_error(event.object))?;
        let result = c::rd_kafka_event_DescribeTopics_result(event.object);
        if result.is_null() {
            return Err(NoId::Failed("an answer to another question".to_owned()));
        }
        let mut count = 0;
        let topics = c::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count == 0 {
            return Err(NoId::Failed("an empty answer".to_owned()));
        }
        let topic = *topics;
        let error = c::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            failed(c::rd_kafka_error_code(error))?;
        }
        let id = c::rd_kafka_TopicDescription_topic_id(topic);
        if id.is_null() {
            return Err(NoId::Failed("a topic without an id (Kafka before 2.8)".to_owned()));
        }
        let (most, least) = (c::rd_kafka_Uuid_most_significant_bits(id), c::rd_kafka_Uuid_least_significant_bits(id));
        match (u128::from(most as u64) << 64) | u128::from(least as u64) {
            0 => Err(NoId::Failed("a topic without an id (Kafka before 2.8)".to_owned())),
            bits => Ok(TopicId(bits)),
        }
    }
}

fn failed(code: Code) -> Result<(), NoId> {
    match code {
        Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => Err(NoId::Missing),
        other => Err(NoId::Failed(format!("{other:?}"))),
    }
}

/// Gives the name and value of each header of a message, in order, until `take` says that it has enough.
pub(crate) fn each_header(message: &BorrowedMessage<'_>, mut take: impl FnMut(&[u8], Option<&[u8]>) -> bool) {
    let mut headers = ptr::null_mut();
    // SAFETY: the message is live while it is borrowed, and owns the headers that this call points to.
    let code = unsafe { c::rd_kafka_message_headers(message.ptr(), &mut headers) };
    if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR || headers.is_null() {
        return;
    }
    for index in 0.. {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `headers` is live with its message; the places that are written to are ours. On success `name` ends with a
        // NUL, and `value` is null or points to `size` bytes; both belong to the headers and are only lent to `take`.
        let more = unsafe {
            let code = c::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size);
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                return;
            }
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            take(CStr::from_ptr(name).to_bytes(), value)
        };
        if !more {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::ClientConfig;
    use rdkafka::bindings::rd_kafka_vtype_t as Tag;
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::producer::{BaseProducer, Producer as _};
    use rdkafka::{Offset, TopicPartitionList};

    const WAIT: Duration = Duration::from_secs(20);

    /// Puts an empty message with one header of any name on partition 0.
    fn produce(producer: &BaseProducer, topic: &str, header: &[u8]) {
        let (topic, rk) = (CString::new(topic).unwrap(), producer.client().native_ptr());
        // SAFETY: the client is live; the name and value are copied; producev takes the headers over where it succeeds.
        let code = unsafe {
            let headers = c::rd_kafka_headers_new(1);
            let name = header.as_ptr().cast();
            c::rd_kafka_header_add(headers, name, header.len() as isize, b"v".as_ptr().cast(), 1);
            let (topic_tag, partition_tag) = (Tag::RD_KAFKA_VTYPE_TOPIC, Tag::RD_KAFKA_VTYPE_PARTITION);
            let (headers_tag, end) = (Tag::RD_KAFKA_VTYPE_HEADERS, Tag::RD_KAFKA_VTYPE_END);
            c::rd_kafka_producev(rk, topic_tag, topic.as_ptr(), partition_tag, 0_i32, headers_tag, headers, end)
        };
        assert_eq!(code, Code::RD_KAFKA_RESP_ERR_NO_ERROR);
        producer.flush(WAIT).unwrap();
    }

    /// On librdkafka's own mock of a cluster.
    #[test]
    fn a_header_whose_name_is_not_text_is_read_like_any_other() {
        let mut config = ClientConfig::new();
        let producer: BaseProducer = config.set("test.mock.num.brokers", "1").create().unwrap();
        let cluster = producer.client().mock_cluster().unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        produce(&producer, "t", b"\xff\xfe");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "g").set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("t", 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let message = consumer.poll(WAIT).unwrap().unwrap();
        let mut headers = Vec::new();
        each_header(&message, |name, value| {
            headers.push((name.to_vec(), value.map(<[u8]>::to_vec)));
            true
        });
        assert_eq!(headers, [(b"\xff\xfe".to_vec(), Some(b"v".to_vec()))]);
    }

    #[test]
    fn a_cluster_that_does_not_answer_gives_no_id_in_time() {
        let mut config = ClientConfig::new();
        let producer: BaseProducer = config.set("bootstrap.servers", "127.0.0.1:1").create().unwrap();
        let answer = topic_id(producer.client(), "t", Duration::from_millis(200));
        assert!(matches!(answer, Err(NoId::Failed(_))), "{answer:?}");
        let answer = topic_id(producer.client(), "t\0", Duration::from_millis(200));
        assert!(matches!(answer, Err(NoId::Failed(_))), "{answer:?}");
    }
}
