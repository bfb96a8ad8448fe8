//! One connection, byte by byte: for what no well-behaved client would send.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::server::Server;

pub struct Wire {
    stream: TcpStream,
    /// What was read and not yet looked at.
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// The bytes of a `POST /events`.
pub fn post_request(event: &Value) -> String {
    let body = event.to_string();
    let head = "POST /events HTTP/1.1\r\nhost: test\r\ncontent-type: application/json";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

impl Wire {
    pub async fn connect(server: &Server) -> Self {
        Self::to(server.addr).await
    }

    pub async fn to(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// A client that takes little of its answers at a time.
    pub async fn connect_reluctantly(server: &Server) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2_048).unwrap();
        Self { stream: socket.connect(server.addr).await.unwrap(), read: Vec::new() }
    }

    /// Takes one byte of what the server says, if there is any by now. When the server ends the
    /// connection: how, and what it had said.
    pub async fn sip(&mut self) -> Result<(), String> {
        let mut byte = [0];
        match timeout(Duration::ZERO, self.stream.read(&mut byte)).await {
            Ok(Ok(1)) => self.read.push(byte[0]),
            Ok(end) => return Err(format!("{end:?} after {:?}", String::from_utf8_lossy(&self.read))),
            Err(_) => {}
        }
        Ok(())
    }

    /// Sends bytes; the server has to take them.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends bytes to a server that may have closed the connection.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Sends the head of a `POST /events` with these header lines.
    pub async fn post_head(&mut self, headers: &[&str]) {
        let mut head = "POST /events HTTP/1.1\r\nhost: test\r\n".to_owned();
        for header in headers {
            head += header;
            head += "\r\n";
        }
        self.send(head + "\r\n").await;
    }

    /// Sends nothing more, and goes on listening.
    pub async fn end_sending(&mut self) {
        // A server that has closed the connection already hears it no more.
        let _ = self.stream.shutdown().await;
    }

    /// Asks for a path exactly as it is spelled.
    pub async fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
        self.reply().await.expect("an answer")
    }

    /// Posts an event.
    pub async fn post(&mut self, event: &Value) -> Reply {
        self.send(post_request(event)).await;
        self.reply().await.expect("an answer")
    }

    /// Reads one answer; `None` when the connection ends instead.
    pub async fn reply(&mut self) -> Option<Reply> {
        let head_end = loop {
            if let Some(at) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..head_end).collect()).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.fill().await, "the body broke off: {head}");
        }
        let body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        Some(Reply { status, head, body })
    }

    /// Reads on until this was said, or the connection ends.
    pub async fn hears(&mut self, text: &str) -> bool {
        while !String::from_utf8_lossy(&self.read).contains(text) {
            if !self.fill().await {
                return false;
            }
        }
        true
    }

    /// Everything up to the end of the connection.
    pub async fn everything(&mut self) -> String {
        while self.fill().await {}
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    /// Whether the server ends the connection, rather than leaving it open for good.
    pub async fn ends(&mut self) -> bool {
        while self.fill().await {}
        true
    }

    /// Whether the server is silent for a while.
    pub async fn is_silent_for(&mut self, while_: Duration) -> bool {
        let mut byte = [0];
        timeout(while_, self.stream.peek(&mut byte)).await.is_err()
    }

    /// Reads some more; false at the end. A reset is an end too.
    async fn fill(&mut self) -> bool {
        let mut buffer = [0; 4_096];
        let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("the server says or ends something");
        let count = read.unwrap_or(0);
        self.read.extend_from_slice(&buffer[..count]);
        count > 0
    }
}
