//! Importing a file: the same bulk as over HTTP, fed from a file.
//!
//! Where a server has the data folder, it gets the file through its admin socket. Otherwise a service
//! is started for as long as it takes, with no port, and ended in order. Both give the same answer.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::composition::{self, Adapters, Service, StartError};
use crate::config::{Limits, StorageSettings, millis};
use crate::domain::ids::Sequence;
use crate::infrastructure::admin_socket;
use crate::infrastructure::data_folder::DataFolderError;
use crate::infrastructure::process::cancel_on_signal;
use crate::lifecycle::{AtWork, ServeError};
use crate::web::batch;
use crate::web::batch::intake::Dialect;

/// How much is read of the file at once, and how many such blocks may wait.
const BLOCK_BYTES: usize = 64 << 10;
const WAITING_BLOCKS: usize = 4;
/// With what some programs begin a text in UTF-8. It is no JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why an import did not get its answer. What was recorded until then stays.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Start(StartError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("the data folder is in use, and who has it takes no orders: {0}")]
    Order(io::Error),
    #[error("the server refuses the import: {0}")]
    Refused(String),
    #[error("the answer broke off: {0}")]
    BrokeOff(String),
}

/// A file to import.
pub struct Input {
    content_type: &'static str,
    body: Body,
}

impl Input {
    /// Looks at the first block of a file, and reads on in a thread of its own as the events are
    /// taken. `on_read` hears of every block.
    pub fn open(mut file: impl Read + Send + 'static, on_read: impl Fn(u64) + Send + 'static) -> io::Result<Self> {
        let first = first_block(&mut file)?;
        let is_array = first.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        let (blocks, taken) = mpsc::channel(WAITING_BLOCKS);
        thread::Builder::new().name("import".into()).spawn(move || {
            let mut next = Ok(first);
            while !matches!(&next, Ok(bytes) if bytes.is_empty()) {
                let (length, is_last) = (next.as_ref().map_or(0, Bytes::len), next.is_err());
                // Nobody takes more when the import has ended.
                if blocks.blocking_send(next).is_err() || is_last {
                    return;
                }
                on_read(length as u64);
                next = block(&mut file);
            }
        })?;
        let content_type = if is_array { "application/json" } else { "application/x-ndjson" };
        Ok(Self { content_type, body: Body::new(Blocks(taken)) })
    }

    fn request(self) -> Request<Body> {
        Request::post("/import")
            .header(HOST, "admin")
            .header(CONTENT_TYPE, self.content_type)
            .body(self.body)
            .expect("the parts of the request are well-formed")
    }
}

/// The first block, without a mark that stands before it.
fn first_block(file: &mut impl Read) -> io::Result<Bytes> {
    let first = block(file)?;
    match first.strip_prefix(BYTE_ORDER_MARK) {
        Some([]) => block(file),
        Some(rest) => Ok(first.slice_ref(rest)),
        None => Ok(first),
    }
}

/// The next block, shorter at the end of the file and empty behind it.
fn block(file: &mut impl Read) -> io::Result<Bytes> {
    let mut bytes = vec![0; BLOCK_BYTES];
    loop {
        // A pipe gives what it has.
        match file.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => {
                bytes.truncate(read?);
                return Ok(bytes.into());
            }
        }
    }
}

/// The blocks of a file as a body.
struct Blocks(mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Blocks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|block| block.map(|block| block.map(Frame::data)))
    }
}

/// Records the events of a file and hands on each line of the answer.
pub async fn import(
    storage: &StorageSettings,
    limits: &Limits,
    adapters: Adapters,
    input: Input,
    on_line: impl FnMut(&[u8]),
) -> Result<(), ImportError> {
    let stop = CancellationToken::new();
    match composition::start(storage, limits, adapters, &stop).await {
        Ok(service) => {
            cancel_on_signal(&stop).map_err(ServeError::Signals)?;
            alone(service, limits, input, on_line).await
        }
        Err(StartError::DataFolder(DataFolderError::InUse(_))) => in_server(storage, input, on_line).await,
        Err(error) => Err(ImportError::Start(error)),
    }
}

/// Has a service of its own, which nobody else can reach, take the events.
async fn alone(service: Service, limits: &Limits, input: Input, on_line: impl FnMut(&[u8])) -> Result<(), ImportError> {
    let Service { app, writer, projector, progress, folder, locks, .. } = service;
    let at_work = AtWork::begin(writer, projector, Arc::clone(&progress));
    let answered = match batch::respond(app, input.request(), Dialect::AnyKept).await {
        Ok(response) => read_lines(response.into_body(), on_line).await,
        Err(problem) => Err(ImportError::Refused(problem.detail().to_owned())),
    };
    let due = Sequence::new(progress.durable().get());
    progress.wait_until_projected(due, Instant::now() + millis(limits.bulk_wait_ms)).await;
    let head = at_work.end(limits).await?;
    folder.mark_clean_stop(head).map_err(ServeError::from)?;
    info!(head_sequence = head.sequence.get(), "imported");
    drop(locks);
    answered
}

/// Has the server that holds the data folder take the events.
async fn in_server(storage: &StorageSettings, input: Input, on_line: impl FnMut(&[u8])) -> Result<(), ImportError> {
    let broke_off = |error: hyper::Error| ImportError::BrokeOff(error.to_string());
    let stream = admin_socket::connect(&storage.folder().admin_socket()).map_err(ImportError::Order)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke_off)?;
    tokio::spawn(connection);
    let response = sender.send_request(input.request()).await.map_err(broke_off)?;
    let status = response.status();
    if status != StatusCode::OK {
        let problem = response.into_body().collect().await.map_err(broke_off)?.to_bytes();
        return Err(ImportError::Refused(String::from_utf8_lossy(&problem).into_owned()));
    }
    read_lines(Body::new(response.into_body()), on_line).await
}

async fn read_lines(mut answer: Body, mut on_line: impl FnMut(&[u8])) -> Result<(), ImportError> {
    let mut begun = Vec::new();
    while let Some(frame) = answer.frame().await {
        let frame = frame.map_err(|error| ImportError::BrokeOff(error.to_string()))?;
        let Ok(bytes) = frame.into_data() else { continue };
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if begun.is_empty() && part.ends_with(b"\n") {
                on_line(part);
                continue;
            }
            begun.extend_from_slice(part);
            if begun.ends_with(b"\n") {
                on_line(&begun);
                begun.clear();
            }
        }
    }
    Ok(())
}
