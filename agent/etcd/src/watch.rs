//! Watches: changes as they happen, and an honest end.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::connection::Connection;
use crate::error::malformed;
use crate::kv::KeyValue;
use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb;
use crate::{Client, Endpoint, Error, Instant, Keys};
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;

/// One revision is never split, so this bounds what a single transaction may have written.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What a watch has to say next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Keys changed.
    Events(Events),
    /// Nothing new, but the member is there: an answer to [`Watch::ping`], or one of etcd's own occasional
    /// signs of life. Says nothing about how far the watch has got; some versions answer ahead of changes
    /// still to come.
    Alive,
    /// The history asked for is gone, and the watch with it. Read everything afresh and watch from there.
    Compacted {
        /// The oldest revision a watch may start from.
        resume_at: i64,
    },
    /// The watch is over. Whatever was cached from it is of unknown age from now on.
    Lost(Loss),
}

/// Changes in the order in which they happened; all those of a revision come together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// The revision of the last of them. To resume after a loss, watch from the next one.
    pub revision: i64,
    /// The changes, at least one.
    pub events: Vec<Event>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was set.
    Put {
        /// The key as it is now.
        entry: KeyValue,
        /// The key as it was before, if it existed and that isn't compacted.
        previous: Option<KeyValue>,
    },
    /// The key was deleted, or went with its lease.
    Delete {
        /// The key.
        key: Vec<u8>,
        /// The revision of the deletion.
        mod_revision: i64,
        /// The key as it was before, unless that is compacted.
        previous: Option<KeyValue>,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &[u8] {
        match self {
            Event::Put { entry, .. } => &entry.key,
            Event::Delete { key, .. } => key,
        }
    }

    /// The revision of the change.
    pub fn mod_revision(&self) -> i64 {
        match self {
            Event::Put { entry, .. } => entry.mod_revision,
            Event::Delete { mod_revision, .. } => *mod_revision,
        }
    }
}

/// Why a watch is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// The client has left the member, usually because a request there got no answer.
    #[error("the member was left: {0}")]
    Retired(String),
    /// The member cancelled the watch. The text is the member's and may be empty.
    #[error("cancelled by the member: {0}")]
    Cancelled(String),
    /// The connection broke, or the member gave up, e.g. because it has lost its leader.
    #[error("{message} ({code:?})")]
    Failed {
        /// The gRPC code.
        code: Code,
        /// The text that came with it.
        message: String,
    },
}

/// A watch on some keys. Dropping it cancels it.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    connection: Arc<Connection>,
    retirement: watch::Receiver<Option<String>>,
    /// `None` once the watch is over, with the reason in `over`.
    stream: Option<Stream>,
    over: Loss,
}

#[derive(Debug)]
struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
    /// The answer to the creation, to be looked at like any other.
    first: Option<pb::WatchResponse>,
}

impl Client {
    /// Watches keys from `from_revision` on, that revision included; 0 means from now on. One try, which ends
    /// when the member has confirmed the watch.
    ///
    /// A member that loses its leader ends the watch rather than staying silent.
    ///
    /// # Errors
    /// See [`Error`]. A compacted revision and a refused watch are reported by the watch itself.
    pub async fn watch(
        &self,
        keys: impl Into<Keys>,
        from_revision: i64,
        deadline: Instant,
    ) -> Result<Watch, Error> {
        let create = create_request(keys.into(), from_revision);
        let connection = self.connection();
        let retirement = connection.retirement();
        let stream = self.once_over(&connection, deadline, |channel| open(channel, create)).await?;
        let over = Loss::Cancelled(String::new());
        Ok(Watch { client: self.clone(), connection, retirement, stream: Some(stream), over })
    }
}

impl Watch {
    /// The member that is watched through.
    pub fn endpoint(&self) -> &Endpoint {
        self.connection.endpoint()
    }

    /// Waits for the next notice. Can be dropped and called again without losing anything. After
    /// [`Notice::Compacted`] or [`Notice::Lost`], always `Lost`, at once.
    ///
    /// A silent member is noticed by HTTP/2 pings within 9 s or so; sooner when a request to it times out,
    /// or with [`Watch::ping`] and a deadline of the caller's.
    pub async fn next(&mut self) -> Notice {
        loop {
            let Some(stream) = &mut self.stream else {
                return Notice::Lost(self.over.clone());
            };
            let outcome = tokio::select! {
                biased;
                reason = retired(&mut self.retirement) => Err(Loss::Retired(reason)),
                response = stream.next() => response.map_err(|status| self.failed(status)),
            };
            let notice = match outcome {
                Ok(response) => read(response),
                Err(loss) => Some(Notice::Lost(loss)),
            };
            if let Some(notice) = notice {
                self.close_after(&notice);
                return notice;
            }
        }
    }

    /// Asks the member for a sign of life; it comes as [`Notice::Alive`], though changes may come first.
    /// Never waits. Needs etcd 3.4.
    pub fn ping(&self) {
        let union = Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
        if let Some(stream) = &self.stream {
            // A full queue means that earlier pings have not even been sent: one more wouldn't help.
            let _ = stream.requests.try_send(pb::WatchRequest { request_union: union });
        }
    }

    /// A member that fails a watch is left like one that fails a request.
    fn failed(&self, status: Status) -> Loss {
        self.client.retire(&self.connection, &format!("a watch failed: {}", status.message()));
        status.into()
    }

    fn close_after(&mut self, notice: &Notice) {
        let over = match notice {
            Notice::Events(_) | Notice::Alive => return,
            Notice::Compacted { resume_at } => Loss::Cancelled(format!("compacted up to {resume_at}")),
            Notice::Lost(loss) => loss.clone(),
        };
        self.over = over;
        self.stream = None;
    }
}

impl Stream {
    async fn next(&mut self) -> Result<pb::WatchResponse, Status> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        self.responses.message().await?.ok_or_else(|| Status::unavailable("the member ended the stream"))
    }
}

fn create_request(keys: Keys, start_revision: i64) -> pb::WatchCreateRequest {
    let (key, range_end) = keys.into_range();
    pb::WatchCreateRequest {
        key,
        range_end,
        start_revision,
        progress_notify: true,
        prev_kv: true,
        ..Default::default()
    }
}

/// Opens a stream for one watch and waits until the member confirms it.
async fn open(channel: Channel, create: pb::WatchCreateRequest) -> Result<Stream, Status> {
    let (requests, receiver) = mpsc::channel(4);
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    requests.try_send(create).map_err(|_| Status::internal("no room for the first request"))?;
    let mut request = Request::new(ReceiverStream::new(receiver));
    // Without it a member cut off from its leader keeps the watch open and silent (A10).
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let mut client = WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut responses = client.watch(request).await?.into_inner();
    match responses.message().await? {
        Some(first) if first.created || first.canceled => {
            Ok(Stream { requests, responses, first: Some(first) })
        }
        Some(_) => Err(malformed("a watch that wasn't confirmed")),
        None => Err(Status::unavailable("the member ended the stream")),
    }
}

/// What a response means; `None` for the mere confirmation. The reason of a cancelled watch may be empty, and
/// so may its `compact_revision`: only the flags count.
fn read(response: pb::WatchResponse) -> Option<Notice> {
    if response.compact_revision > 0 {
        return Some(Notice::Compacted { resume_at: response.compact_revision });
    }
    if response.canceled {
        return Some(Notice::Lost(Loss::Cancelled(response.cancel_reason)));
    }
    let Some(events) = response.events.into_iter().map(Event::read).collect::<Option<Vec<_>>>() else {
        return Some(Notice::Lost(malformed("an event without a key").into()));
    };
    // Not the header's revision: for a watch that catches up it is ahead of the events.
    match events.last().map(Event::mod_revision) {
        Some(revision) => Some(Notice::Events(Events { revision, events })),
        None if response.created => None,
        None => Some(Notice::Alive),
    }
}

impl Event {
    /// `None` for an event without a key.
    fn read(event: mvccpb::Event) -> Option<Event> {
        let deleted = event.r#type == i32::from(mvccpb::event::EventType::Delete);
        let previous = event.prev_kv.map(KeyValue::read);
        let entry = KeyValue::read(event.kv?);
        Some(match deleted {
            true => Event::Delete { key: entry.key, mod_revision: entry.mod_revision, previous },
            false => Event::Put { entry, previous },
        })
    }
}

impl From<Status> for Loss {
    fn from(status: Status) -> Loss {
        Loss::Failed { code: status.code(), message: status.message().to_owned() }
    }
}

/// Waits until the connection is retired, and says why.
async fn retired(retirement: &mut watch::Receiver<Option<String>>) -> String {
    match retirement.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        Err(_) => "the connection is gone".to_owned(),
    }
}
