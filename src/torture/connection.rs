//! One HTTP connection of a client, kept alive, every wait bounded.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long anything may take; more than a server takes to give up.
const LIMIT: Duration = Duration::from_secs(20);
const NOT_IN_TIME: &str = "not within 20 s";

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    host: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing was sent.
    #[error("no connection: {0}")]
    NotSent(String),
    /// The request may have arrived.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

impl Connection {
    pub async fn open(addr: SocketAddr) -> Result<Self, Failure> {
        let not_sent = |error: &dyn ToString| Failure::NotSent(error.to_string());
        let stream = connect(addr).await?;
        let opened = timeout(LIMIT, http1::handshake(TokioIo::new(stream))).await;
        let (sender, connection) = opened.map_err(|_| not_sent(&NOT_IN_TIME))?.map_err(|error| not_sent(&error))?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer hears of the error too.
            let _ = connection.await;
        });
        Ok(Self { sender, driver, host: addr.to_string() })
    }

    pub async fn get(&mut self, path: &str) -> Result<Answer, Failure> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub async fn post_event(&mut self, body: Bytes) -> Result<Answer, Failure> {
        self.ask(Method::POST, "/events", body).await
    }

    async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> Result<Answer, Failure> {
        match timeout(LIMIT, self.sender.ready()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Failure::NotSent(error.to_string())),
            Err(_) => return Err(Failure::NotSent(NOT_IN_TIME.into())),
        }
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("the parts of the request are valid");
        let answering = async {
            let answer = self.sender.send_request(request).await?;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Answer { status, body })
        };
        match timeout(LIMIT, answering).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure::NoAnswer(error.to_string())),
            Err(_) => Err(Failure::NoAnswer(NOT_IN_TIME.into())),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Sends the first `share` hundredths of a request with this event and goes away.
pub async fn post_and_leave(addr: SocketAddr, body: &Bytes, share: u64) -> Result<(), Failure> {
    let mut stream = connect(addr).await?;
    let head = format!(
        "POST /events HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    let part = request.len() * usize::try_from(share).expect("at most a hundred") / 100;
    match timeout(LIMIT, stream.write_all(&request[..part])).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::NoAnswer(error.to_string())),
        Err(_) => Err(Failure::NoAnswer(NOT_IN_TIME.into())),
    }
}

async fn connect(addr: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = match timeout(LIMIT, TcpStream::connect(addr)).await {
        Ok(connected) => connected.map_err(|error| Failure::NotSent(error.to_string()))?,
        Err(_) => return Err(Failure::NotSent(NOT_IN_TIME.into())),
    };
    stream.set_nodelay(true).map_err(|error| Failure::NotSent(error.to_string()))?;
    Ok(stream)
}
